"""Which SHA-256 a downloaded model must have, and who says so.

A digest is never invented. In this order the first that exists counts:

1. the one that the user gives (``--sha256``);
2. the one in the catalog;
3. the one in ``<home>/models.lock.json``, recorded when the model was first downloaded;
4. the one that the hub itself serves for the file (`published`).

Where both the hub and 2 or 3 name one and they differ, that is an error before a single byte is fetched. Where nobody names
one, the user has to.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from faceembed.engine.models.fetch import exclusive
from faceembed.engine.models.store import home, writing
from faceembed.engine.models.web import Answer, Patience, Unreachable, ask
from faceembed.errors import FetchError
from faceembed.files import atomic_write

# Changed by tests, which have no GitHub.
GITHUB = "https://github.com"
GITHUB_API = "https://api.github.com"
GITHUB_RAW = "https://raw.githubusercontent.com"

_HEX = re.compile(r"[0-9a-f]{64}")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)


@dataclasses.dataclass(frozen=True)
class Digest:
    """A file's SHA-256, its length (0 if unsaid) and who says so."""

    sha256: str
    size_bytes: int
    said_by: str


def check_hex(text: str) -> str:
    """``text`` in lower case, if it is a SHA-256.

    Raises:
        FetchError: it is not 64 hexadecimal digits.
    """
    if not _HEX.fullmatch(text.lower()):
        raise FetchError(f"'{text}' is not a SHA-256: 64 hexadecimal digits, as sha256sum prints them")
    return text.lower()


def expected(
    name: str,
    url: str,
    *,
    sha256: str = "",
    catalog: str = "",
    size_bytes: int = 0,
    online: bool = True,
    patience: Patience | None = None,
) -> Digest:
    """The digest that the file at ``url`` must have.

    Args:
        name: the model's name in the lock file.
        url: where it is downloaded from.
        sha256: the user's word, which outranks all others; else empty.
        catalog: the catalog's digest; else empty.
        size_bytes: the catalog's length; else 0.
        online: whether the hub may be asked.
        patience: timeouts and attempts.

    Raises:
        Unreachable: the hub would have to say and cannot be reached.
        FetchError: nobody names a digest, or the hub now names another one.
    """
    if sha256:
        return Digest(check_hex(sha256), 0, "you (--sha256)")
    known = Digest(catalog, size_bytes, "faceembed's catalog") if catalog else locked(name, url)
    try:
        served = published(url, patience=patience) if online else None
    except Unreachable:
        if known is None:
            raise
        served = None  # the download itself will say what is wrong, if anything is
    if known and served and known.sha256 != served.sha256:
        raise FetchError(
            f"{name}: {served.said_by} now serves a file with SHA-256 {served.sha256}, but {known.said_by} has {known.sha256}; "
            f"if you trust the new file, run: faceembed models pull {name} --sha256 {served.sha256}"
        )
    if found := known or served:
        return found if found.size_bytes or not served else dataclasses.replace(found, size_bytes=served.size_bytes)
    who = f"{urlsplit(url).netloc} names no SHA-256" if online else "faceembed knows no SHA-256"
    raise FetchError(
        f"{name}: {who} for this file and never guesses one; get it from the publisher and add --sha256 DIGEST"
    )


def published(url: str, *, patience: Patience | None = None) -> Digest | None:
    """The digest that the hub itself serves for a file, or None if it serves none.

    Hugging Face (and its mirrors): the `X-Linked-Etag` header of the `resolve` address, which for files in Git LFS is the
    SHA-256. GitHub releases: the asset's `digest` in the API. Files in a GitHub repository: their Git LFS pointer.

    Raises:
        Unreachable: the hub cannot be reached or refuses.
    """
    if url.startswith(GITHUB + "/"):
        return _from_github(url[len(GITHUB) + 1 :], patience)
    answer = ask(url, method="HEAD", follow=False, patience=patience)
    sha256 = answer.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
    if not _HEX.fullmatch(sha256):
        return None
    size = answer.headers.get("X-Linked-Size", "")
    return Digest(sha256, int(size) if size.isdigit() else 0, urlsplit(url).netloc)


def _from_github(path: str, patience: Patience | None) -> Digest | None:
    match path.split("/"):
        case [owner, repo, "releases", "download", tag, asset]:
            answer = ask(f"{GITHUB_API}/repos/{owner}/{repo}/releases/tags/{quote(unquote(tag))}", patience=patience)
            return _asset_digest(answer, unquote(asset))
        case [owner, repo, "raw", ref, *rest]:
            pointer = ask(f"{GITHUB_RAW}/{owner}/{repo}/{ref}/{'/'.join(rest)}", patience=patience).body
            found = _POINTER.fullmatch(pointer)
            return Digest(found[1].decode(), int(found[2]), "GitHub's LFS pointer") if found else None
    return None


def _asset_digest(answer: Answer, asset: str) -> Digest | None:
    try:
        for row in json.loads(answer.body)["assets"]:
            kind, _, sha256 = str(row.get("digest") or "").partition(":")
            if row["name"] == asset and kind == "sha256" and _HEX.fullmatch(sha256):
                return Digest(sha256, int(row.get("size", 0)), "GitHub's release page")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"GitHub's answer about the release is not understood ({error})") from error
    return None


def lock_path() -> str:
    """The lock file's address, for messages."""
    return str(home() / "models.lock.json")


def locked(name: str, url: str) -> Digest | None:
    """What the lock file records for a model from this address; None if it was never downloaded from there.

    Raises:
        FetchError: the lock file is damaged.
    """
    row = _read_lock().get(name)
    if row is None or row.get("url") != url:
        return None
    return Digest(check_hex(str(row.get("sha256"))), int(row.get("size_bytes", 0)), lock_path())


def lock(name: str, url: str, digest: Digest) -> None:
    """Record a verified download; from now on the file at ``url`` must have this digest.

    Raises:
        ModelError: the lock file is damaged or cannot be written.
    """
    with writing(home()), exclusive(home() / ".models.lock.json.lock"):
        rows = _read_lock()
        rows[name] = {"url": url, "sha256": digest.sha256, "size_bytes": digest.size_bytes, "said_by": digest.said_by}
        with atomic_write(lock_path(), "w") as file:
            json.dump({"format": 1, "models": dict(sorted(rows.items()))}, file, indent=2)
            file.write("\n")


def _read_lock() -> dict[str, dict[str, Any]]:
    try:
        with open(lock_path(), encoding="utf-8") as file:
            rows = json.load(file)["models"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FetchError(
            f"{lock_path()} is damaged ({error}); repair it, or delete it to trust the hubs anew"
        ) from error
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise FetchError(f"{lock_path()} is damaged; repair it, or delete it to trust the hubs anew")
    return rows
