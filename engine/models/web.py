"""HTTP requests with retries, as the models need them: what may be tried again, what the user must do, who sees the token.

Nothing but urllib. Proxies are taken from the environment (`https_proxy`, `no_proxy`). A token in HF_TOKEN goes to Hugging
Face (or the mirror in HF_ENDPOINT) and to no other host, not even on a redirect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from faceembed.errors import FetchError

HUB = "https://huggingface.co"
_LONGEST_WAIT_S = 60.0
_T = TypeVar("_T")


class Unreachable(FetchError):
    """The server cannot be reached or does not hand the file out; bringing the file by hand would help."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to try."""

    timeout_s: float = 30.0
    """Of one connection attempt, and of silence while reading."""
    attempts: int = 5
    """Failures in a row, with no new byte in between, that end the download."""
    backoff_s: float = 0.5
    """Wait before the second attempt; doubled each time."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A short answer: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transient(Exception):
    """A failure worth another attempt, after ``wait_s`` if the server said so."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.hopeless = hopeless


def hub_address(url: str) -> str:
    """``url``, or the same on the Hugging Face mirror that HF_ENDPOINT names."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return mirror + url[len(HUB) :] if mirror and url.startswith(HUB + "/") else url


def ask(url: str, *, method: str = "GET", follow: bool = True, patience: Patience | None = None) -> Answer:
    """One short request, for what a hub says about a file.

    Args:
        url: http or https address.
        method: ``GET`` or ``HEAD``.
        follow: whether to follow redirects to another host; those within one host are always followed.
        patience: timeouts and attempts.

    Raises:
        Unreachable: no connection, or an error status.
    """
    patience = patience or Patience(timeout_s=10.0, attempts=2)
    url = hub_address(url)

    def work() -> Answer:
        with open_url(url, {}, patience, method=method, follow=follow) as response:
            try:
                body = response.read(1 << 20) if method == "GET" else b""
            except (OSError, http.client.HTTPException) as error:
                raise Transient(str(error)) from error
            return Answer(response.status, response.headers, body)

    return retrying(work, url, patience)


def retrying(work: Callable[[], _T], url: str, patience: Patience, *, held_bytes: Callable[[], int] = lambda: 0) -> _T:
    """Call ``work`` until it does not raise `Transient`.

    Args:
        work: one attempt.
        url: for the message.
        patience: failures in a row count only while ``held_bytes`` does not grow.
        held_bytes: how much of a download is on disk.

    Raises:
        Unreachable: the attempts are used up.
    """
    failures, before = 0, -1
    while True:
        try:
            return work()
        except Transient as error:
            now = held_bytes()
            failures = 1 if now > before >= 0 else failures + 1
            before = now
            if failures >= patience.attempts or (error.hopeless and not now):
                kept = f"; {now:,} bytes are kept and the next try goes on from there" if now else ""
                raise Unreachable(f"cannot download {url}: {error}{kept}") from error
            time.sleep(max(error.wait_s, patience.backoff_s * 2 ** (failures - 1)))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the method and the range, and never shows the token to another host or to plain HTTP."""

    def __init__(self, *, follow: bool) -> None:
        self._follow = follow

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl.replace(" ", "%20")))
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            fp.close()
            raise Unreachable(f"cannot download {req.full_url}: it redirects to the unsafe address {new.geturl()}")
        same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
        if not same and not self._follow:
            return None
        kept = {name: value for name, value in req.headers.items() if same or name.lower() != "authorization"}
        return urllib.request.Request(new.geturl(), headers=kept, method=req.get_method(), unverifiable=True)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 lacks it


@contextlib.contextmanager
def open_url(
    url: str, headers: Mapping[str, str], patience: Patience, *, method: str = "GET", follow: bool = True
) -> Iterator[Any]:
    """An answer to read from: a success, 416, or (``follow=False``) a redirect to another host.

    Raises:
        Transient: worth another attempt (see `retrying`).
        Unreachable: any other failure.
    """
    opener = urllib.request.build_opener(_Redirects(follow=follow))
    request = urllib.request.Request(
        url, headers={"User-Agent": "faceembed", "Accept-Encoding": "identity", **headers}, method=method
    )
    token = os.environ.get("HF_TOKEN", "")
    if token and urlsplit(url)[:2] == urlsplit(hub_address(HUB + "/"))[:2]:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        response = opener.open(request, timeout=patience.timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 or (not follow and 300 <= error.code < 400):
                yield error
                return
            raise _status_error(url, error, token=bool(token)) from error
    except urllib.error.URLError as error:
        hopeless = isinstance(error.reason, (socket.gaierror, ssl.SSLCertVerificationError))
        raise Transient(f"no connection to {urlsplit(url).netloc} ({error.reason})", hopeless=hopeless) from error
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"no answer from {urlsplit(url).netloc} ({error or type(error).__name__})") from error
    with response:
        yield response


def _status_error(url: str, error: urllib.error.HTTPError, *, token: bool) -> Exception:
    if error.code in (408, 429) or error.code >= 500:
        wait = error.headers.get("Retry-After", "")
        seconds = min(float(wait), _LONGEST_WAIT_S) if wait.isdigit() else 0.0
        return Transient(f"the server answers {error.code} {error.reason}", wait_s=seconds)
    if error.code in (401, 403):
        advice = "the token in HF_TOKEN has no access" if token else "access is restricted: set HF_TOKEN to a token"
        return Unreachable(
            f"cannot download {url}: {error.code} {error.reason}; {advice} (accept the terms on its page)"
        )
    if error.code == 404:
        return Unreachable(f"cannot download {url}: 404, there is no such file; it may have moved")
    return Unreachable(f"cannot download {url}: the server answers {error.code} {error.reason}")
