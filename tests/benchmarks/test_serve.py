"""The arithmetic of the server's benchmark, and its clients against a stand-in for a server."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import serve
from common import BenchmarkError


class Handler(BaseHTTPRequestHandler):
    """Answers as a server that computes everything in batches of 2."""

    protocol_version = "HTTP/1.1"
    photos = 0
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Handler.photos += body.count(b'name="photos"')
        self.reply(b"{}")

    def do_GET(self) -> None:
        self.reply(
            b"# a comment\nfaceembed_batch_photos_sum %d\nfaceembed_batch_photos_count %d\n"
            % (self.photos, self.photos // 2)
        )

    def reply(self, body: bytes) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[serve.Server]:
    monkeypatch.setattr(Handler, "photos", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever).start()
        yield serve.Server("127.0.0.1", http.server_address[1], os.getpid())
        http.shutdown()


def test_clients_ask_for_everything_once(server: serve.Server) -> None:
    found = asyncio.run(serve.load(server, [serve.form(b"photo", "x"), serve.form(b"other", "x")], 4, 40))
    assert Handler.photos == len(found["times"]) == 40
    assert found["batch"] == 2
    assert found["rate"] > 0


def test_an_error_ends_the_benchmark(server: serve.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def requests() -> Iterator[bytes]:
        yield serve.form(b"photo", "x")

    monkeypatch.setattr(Handler, "status", 503)
    with pytest.raises(BenchmarkError, match="the server answers"):
        asyncio.run(serve.client(server.host, server.port, requests()))


def test_rate_is_of_the_time_in_which_all_clients_were_busy() -> None:
    # two clients, an answer each second from 1 to 5; the last request leaves at 4
    times = [(0.0, 1.0), (0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.0, 4.5), (3.0, 4.0), (4.0, 9.0)]
    assert serve.steady_rate(times, 2) == 4 / 3
    with pytest.raises(BenchmarkError, match="--requests"):
        serve.steady_rate(times, 3)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.99, 4), (0.25, 1), (0.26, 2), (1.0, 4)])
def test_quantile(share: float, expected: int) -> None:
    assert serve.quantile([4, 2, 1, 3], share) == expected


def test_ratios_are_taken_within_a_round() -> None:
    def one(in_process: float, rate: float) -> dict[str, object]:
        run = {"rate": rate, "times": [0.1, 0.3], "cpu": 0.02, "client_cpu": 0.5, "batch": 7.5}
        return {"in_process": in_process, "cpu": 0.01, "clients": {8: run}}

    found = serve.summarise([one(100, 80), one(10, 9), one(50, 20)], [8])
    assert found["in_process_rate"] == 50
    assert (found["8"]["ratio"], found["8"]["ratio_range"]) == (0.8, [0.4, 0.9])
    assert (found["8"]["p50_ms"], found["8"]["p99_ms"], found["8"]["cpu_ratio"]) == (100, 300, 0.5)
    document = {"results": found, "clients": [8]}
    assert "0.4 to 0.9" in serve.report(document)
