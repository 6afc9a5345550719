"""Downloads one file whose SHA-256 is known: resumable, retried, verified, atomic.

    download(url, target, sha256=digest, progress=lambda done, total: ...)

The bytes gather in ``<target>.part``, which survives a kill; the next call asks the server for the rest (`Range`,
`If-Range`). Only a file with the right digest is renamed to ``target``. Several processes may ask for the same target: one
downloads, the others wait and find it done.

This module does not know which digest is right; that is `digests`.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from faceembed.engine.models.store import file_sha256, writing
from faceembed.engine.models.web import Patience, Transient, Unreachable, hub_address, open_url, retrying
from faceembed.errors import FetchError

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes on disk so far and the bytes in all, None if the server does not say."""

_CHUNK_BYTES = 1 << 18


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    size_bytes: int = 0,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> None:
    """Bring ``url`` to ``target``.

    Args:
        url: http or https address.
        target: where the file appears, whole and verified; its folder is made.
        sha256: 64 hexadecimal digits that the file must have.
        size_bytes: its length if known, else 0.
        progress: called after every piece.
        patience: timeouts and attempts.

    Raises:
        Unreachable: no connection, no such file, no permission, or a web page in place of the file.
        FetchError: the file does not match ``sha256`` or ``size_bytes``; nothing is kept then.
        ModelError: the folder cannot be written to, or the disk is full; what was downloaded is kept.
    """
    patience = patience or Patience()
    url = hub_address(url)
    part = target.with_name(target.name + ".part")
    with writing(target.parent), exclusive(target.with_name(target.name + ".lock")):
        if target.is_file() and file_sha256(target) == sha256:
            return
        for last in (False, True):
            retrying(
                lambda: _transfer(url, part, size_bytes, progress, patience),
                url,
                patience,
                held_bytes=lambda: _size(part),
            )
            actual = file_sha256(part)
            if actual == sha256:
                os.replace(part, target)
                _etag_path(part).unlink(missing_ok=True)
                return
            _discard(part)  # once more from the start: the first part may have been of an older file
            if last:
                raise FetchError(
                    f"{url}: the file's SHA-256 is {actual}, expected {sha256}; nothing was kept. "
                    "If the publisher replaced the file and you trust it, say so with --sha256"
                )


def _transfer(url: str, part: Path, size_bytes: int, progress: Progress | None, patience: Patience) -> None:
    """One attempt: append to ``part`` what is missing of it, or start it anew if the server gives only all of it."""
    start = _size(part)
    if size_bytes and start > size_bytes:
        _discard(part)
        start = 0
    if start and start == size_bytes:
        return
    with open_url(url, _range_headers(part, start), patience) as response:
        if response.status == 416:  # nothing left to give: complete, or a part of another file
            if response.headers.get("Content-Range", "").endswith(f"*/{start}"):
                return
            _discard(part)
            raise Transient("the server has no such range")
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _discard(part)
            raise Transient("the server sent another range than was asked for")
        if response.status != 206:
            start = 0
        total = _total(url, response, start, size_bytes)
        _check_space(part.parent, (total or 0) - start)
        _remember_etag(part, response.headers.get("ETag", ""))
        with open(part, "ab" if start else "wb") as file:
            done = _pour(response, file, start, total, progress)
        if total is not None and done != total:
            raise Transient(f"the connection ended after {done:,} of {total:,} bytes")


def _pour(response: Any, file: IO[bytes], done: int, total: int | None, progress: Progress | None) -> int:
    while True:
        try:
            piece = response.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"the connection broke after {done:,} bytes ({error or type(error).__name__})") from error
        if not piece:
            return done
        file.write(piece)
        file.flush()  # so that a kill loses nothing
        done += len(piece)
        if progress:
            progress(done, total)


def _total(url: str, response: Any, start: int, size_bytes: int) -> int | None:
    """The file's length as the answer promises it; refuses answers that cannot be the file."""
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise Unreachable(f"cannot download {url}: the server sent a web page (a login, a notice?) and not the file")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise Unreachable(f"cannot download {url}: the server sent it encoded as '{headers['Content-Encoding']}'")
    length = headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else size_bytes or None
    if size_bytes and total != size_bytes:
        raise FetchError(f"{url}: the server's file has {total:,} bytes, expected {size_bytes:,}; it was replaced")
    return total


def _check_space(folder: Path, wanted_bytes: int) -> None:
    if wanted_bytes > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the file ``lock`` against other processes; the system drops it when its holder dies."""
    try:
        import fcntl
    except ImportError:  # Windows: two downloads at once would disturb each other, and the digest would tell
        yield
        return
    with open(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _range_headers(part: Path, start: int) -> dict[str, str]:
    if not start:
        return {}
    try:
        etag = _etag_path(part).read_text("latin-1")
    except FileNotFoundError:  # no matter: the digest finds out if the rest belongs to another file
        return {"Range": f"bytes={start}-"}
    return {"Range": f"bytes={start}-", "If-Range": etag}


def _remember_etag(part: Path, etag: str) -> None:
    if etag.startswith('"'):  # a weak one (W/"...") must not be used for ranges
        _etag_path(part).write_text(etag, "latin-1")
    else:
        _etag_path(part).unlink(missing_ok=True)


def _etag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_path(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
