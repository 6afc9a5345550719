"""Who may ask, and what browsers are told: host names, cross-site requests, the key, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceembed.cli.web.errors import ApiError, document
from faceembed.errors import UsageError

READ, WRITE = "read", "write"
ROLES = (READ, WRITE)
"""What a key may do: ask; or also change who is known."""
KEY_VARIABLE = "FACEEMBED_API_KEY"
_SHORTEST_KEY = 16

# The page is files of ours alone: scripts and styles inside of HTML are refused, whatever a photo is called.
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "media-src 'self' blob:",
    "connect-src 'self'",
    "font-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Key:
    """The keys that clients must know, if there are any, and what each may do.

    Args:
        key: one key, which may do all; or keys and their roles, of `ROLES`; None for no key.
    """

    def __init__(self, key: str | Mapping[str, str] | None) -> None:
        keys = {key: WRITE} if isinstance(key, str) else dict(key or {})
        self._roles = {hashlib.sha256(text.encode()).digest(): role for text, role in keys.items()}

    @property
    def required(self) -> bool:
        """Whether there is one."""
        return bool(self._roles)

    def check(self, connection: HTTPConnection, *, role: str = READ) -> None:
        """Let a request pass that carries a key of that role, as ``X-API-Key: KEY`` or ``Authorization: Bearer KEY``.

        Digests are compared, in constant time: neither the key's characters nor its length can be found by timing.

        Raises:
            ApiError: 401 without a key that is known, 403 with one that may not do this.
        """
        if not self._roles:
            return
        given, may = self._role(connection)
        if not may:
            what = "the key in X-API-Key is wrong" if given else "a key is needed: send it as the header X-API-Key"
            raise ApiError(401, "unauthorised", what)
        if role == WRITE and may != WRITE:
            raise ApiError(
                403, "forbidden", "this key may read, and not change who is known; use one with the role write"
            )

    def role(self, connection: HTTPConnection) -> str:
        """What a request may do that `check` has let pass."""
        return self._role(connection)[1] if self._roles else WRITE

    def _role(self, connection: HTTPConnection) -> tuple[str, str]:
        """The key that a request carries, and what it may do; empty where it carries none, or none that is known."""
        given = connection.headers.get("x-api-key")
        if given is None:
            scheme, _, token = connection.headers.get("authorization", "").partition(" ")
            given = token if scheme.lower() == "bearer" else ""
        digest, may = hashlib.sha256(given.encode("latin-1", "replace")).digest(), ""
        for known, of in self._roles.items():  # all of them, in whatever order: the time tells nothing
            may = of if hmac.compare_digest(digest, known) else may
        return given, may


def read_keys(path: str | None) -> dict[str, str]:
    """Keys and their roles: from a file, a line ``read KEY`` or ``write KEY`` each, or one key alone, which may do all; else the key of the
    variable `KEY_VARIABLE`; empty where neither is given.

    Raises:
        UsageError: a key is too short or not visible ASCII, is there twice, or a line has no role.
        OSError: the file cannot be read.
    """
    if path is None:
        key = read_key(None)
        return {} if key is None else {key: WRITE}
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file.read().splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2 and not (lines and lines[0][0] in ROLES):
        return {_good_key(" ".join(lines[0]) if lines else "", path): WRITE}
    keys: dict[str, str] = {}
    for words in lines:
        if len(words) != 2 or words[0] not in ROLES:
            raise UsageError(f"{path}: each line wants a role, read or write, and a key; one key alone may do all")
        key = _good_key(words[1], path)
        if key in keys:
            raise UsageError(f"{path}: one key is there twice; give each line its own")
        keys[key] = words[0]
    return keys


def read_key(path: str | None) -> str | None:
    """The key from a file, else from the variable `KEY_VARIABLE`; None where neither is given.

    Raises:
        UsageError: it is too short, or not one line of visible ASCII.
        OSError: the file cannot be read.
    """
    if path is not None:
        with open(path, encoding="utf-8", errors="replace") as file:
            key, source = file.read().strip(), path
    elif (value := os.environ.get(KEY_VARIABLE)) is not None:
        key, source = value.strip(), KEY_VARIABLE
    else:
        return None
    return _good_key(key, source)


def _good_key(key: str, source: str) -> str:
    if len(key) < _SHORTEST_KEY:
        raise UsageError(f"the key in {source} has {len(key)} characters; it needs at least {_SHORTEST_KEY}")
    if not all("!" <= char <= "~" for char in key):
        raise UsageError(f"the key in {source} must be one line of letters, digits and ASCII signs without spaces")
    return key


class Guard:
    """ASGI middleware: refuses foreign hosts and cross-site requests, and puts `HEADERS` on every answer.

    A server on this machine alone is still reached by every web page that its user opens: by a name of the attacker's that
    resolves to 127.0.0.1, which the host check refuses, or by a form sent across sites, which browsers mark as such.

    Args:
        app: what comes next.
        hosts: names under which the server may be called; empty for any.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = scope["path"].startswith("/api/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store" if api else "no-cache")
            await send(message)

        if problem := self._problem(Headers(scope=scope)):
            response = JSONResponse(document(*problem), 403)
            await response(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _problem(self, headers: Headers) -> tuple[str, str] | None:
        host = headers.get("host", "").lower()
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        if self._hosts and name not in self._hosts:
            return "wrong_host", "the server does not answer to this host name; start it with --allowed-host NAME"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "cross_site", "requests from other sites are refused"
        return None
