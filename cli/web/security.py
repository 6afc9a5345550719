"""Who may ask, and what browsers are told: host names, cross-site requests, the key, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceembed.cli.web.errors import ApiError, document
from faceembed.errors import UsageError

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
    """The key that clients must know, if there is one."""

    def __init__(self, key: str | None) -> None:
        self._digest = hashlib.sha256(key.encode()).digest() if key is not None else None

    @property
    def required(self) -> bool:
        """Whether there is one."""
        return self._digest is not None

    def check(self, connection: HTTPConnection) -> None:
        """Let a request pass that carries the key, as ``X-API-Key: KEY`` or ``Authorization: Bearer KEY``.

        Digests are compared, in constant time: neither the key's characters nor its length can be found by timing.

        Raises:
            ApiError: 401.
        """
        if self._digest is None:
            return
        given = connection.headers.get("x-api-key")
        if given is None:
            scheme, _, token = connection.headers.get("authorization", "").partition(" ")
            given = token if scheme.lower() == "bearer" else ""
        if not hmac.compare_digest(hashlib.sha256(given.encode("latin-1", "replace")).digest(), self._digest):
            what = "the key in X-API-Key is wrong" if given else "a key is needed: send it as the header X-API-Key"
            raise ApiError(401, "unauthorised", what)


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
