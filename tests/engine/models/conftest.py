"""A hub on 127.0.0.1 that misbehaves on command, a model home of one's own, and a tiny encoder."""

from __future__ import annotations

import hashlib
import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.graph import GraphWriter


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``body`` under every path. Each GET takes the next word of ``plan``; when none is left, it behaves well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = np.random.default_rng(7).bytes(300_000)
        self.etag = '"one"'
        self.linked = True  # whether HEAD names the SHA-256, as Hugging Face does
        self.redirect = ""
        self.plan: list[str] = []
        self.answers: dict[str, bytes] = {}  # path -> body, for other pages
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.release = threading.Event()  # ends what stalls

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return self.root + "/model.onnx"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def gets(self) -> list[dict[str, str]]:
        return [headers for method, _, headers in self.seen if method == "GET"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are the point


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._note()
        self.close_connection = True
        self.send_response(302 if self.server.redirect else 200)
        if self.server.redirect:
            self.send_header("Location", self.server.redirect)
        if self.server.linked:
            self.send_header("X-Linked-Etag", f'"{self.server.sha256}"')
            self.send_header("X-Linked-Size", str(len(self.server.body)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self._note()
        self.close_connection = True
        if self.path in self.server.answers:
            self._send(200, self.server.answers[self.path])
            return
        word, _, value = (self.server.plan.pop(0) if self.server.plan else "ok").partition(":")
        getattr(self, "_" + word)(value)

    def _note(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))

    def _range(self) -> int:
        fits = self.headers.get("If-Range", self.server.etag) == self.server.etag
        return int(self.headers.get("Range", "bytes=0-")[6:-1]) if fits else 0

    def _send(self, status: int, body: bytes, *, length: int | None = None, **extra: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in extra.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _ok(self, _: str, *, keep: int | None = None, flip: bool = False) -> None:
        """The file from where the client wants it; ``keep`` bytes of it, then the connection ends."""
        start, body = self._range(), self.server.body
        if start >= len(body):
            self._send(416, b"", Content_Range=f"bytes */{len(body)}")
            return
        rest = bytearray(body[start:])
        if flip:
            rest[-1] ^= 1
        span = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        sent = bytes(rest[:keep])
        self._send(206 if start else 200, sent, length=len(rest), ETag=self.server.etag, **span)

    def _cut(self, keep: str) -> None:
        self._ok("", keep=int(keep))

    def _reset(self, keep: str) -> None:
        self._ok("", keep=int(keep))
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _corrupt(self, _: str) -> None:
        self._ok("", flip=True)

    def _whole(self, _: str) -> None:
        self._send(200, self.server.body)  # whatever range was asked for

    def _elsewhere(self, _: str) -> None:
        start = self._range() + 5
        rest = self.server.body[start:]
        self._send(206, rest, Content_Range=f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")

    def _stall(self, keep: str) -> None:
        self._ok("", keep=int(keep))
        self.wfile.flush()
        self.server.release.wait(20)

    def _slow(self, seconds: str) -> None:
        self.server.release.wait(float(seconds))
        self._ok("")

    def _html(self, _: str) -> None:
        self._send(200, b"<!doctype html><title>Sign in</title>", Content_Type="text/html; charset=utf-8")

    def _gzip(self, _: str) -> None:
        self._send(200, self.server.body, Content_Encoding="gzip")

    def _status(self, code: str) -> None:
        self._send(int(code), b"", Retry_After="0")

    def _redirect(self, code: str) -> None:
        self._send(int(code), b"", Location=self.server.redirect)


@pytest.fixture
def model_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty FACEEMBED_HOME, and an environment without proxies, tokens or mirrors."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("FACEEMBED_HOME", str(home))
    return home


@pytest.fixture
def new_hub() -> Iterator[Callable[[], Hub]]:
    """Makes hubs; all of them end with the test."""
    hubs: list[Hub] = []

    def start() -> Hub:
        hub = Hub()
        threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        hubs.append(hub)
        return hub

    yield start
    for hub in hubs:
        hub.release.set()
        hub.shutdown()
        hub.server_close()


@pytest.fixture
def hub(new_hub: Callable[[], Hub]) -> Hub:
    return new_hub()


@pytest.fixture
def tiny_encoder() -> Callable[..., bytes]:
    """Builds ONNX bytes: the mean colour of a chip times a fixed matrix."""

    def build(
        shape: tuple[int | str, ...] = ("N", 3, 112, 112), dimension: int = 16, *, seed: int = 0, batch: int = -1
    ) -> bytes:
        writer = GraphWriter("tiny")
        x = writer.input("chips", list(shape))
        x = writer.node("GlobalAveragePool", [x])
        x = writer.node("Reshape", [x, writer.constant(np.array([batch, 3], np.int64))])
        matrix = np.random.default_rng(seed).normal(size=(3, dimension)).astype(np.float32)
        x = writer.node("MatMul", [x, writer.constant(matrix)])
        writer.output(x, "embedding", [shape[0], dimension])
        return writer.serialise()

    return build
