"""Who is let in, what browsers are told, and that photos leave no trace."""

from __future__ import annotations

import hmac
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from faceembed.cli.web import app, security
from faceembed.cli.web.security import Key, is_loopback, read_key
from faceembed.cli.web.service import Service
from faceembed.engine.pipeline.serving import Embedder
from faceembed.errors import UsageError

KEY = "correct-horse-battery"
POSTS = ("embed", "compare", "search", "explain")


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": KEY[:-1]}, 401),
        ({"X-API-Key": KEY + "x"}, 401),
        ({"X-API-Key": "ключ".encode()}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"X-API-Key": KEY}, 415),
        ({"Authorization": f"Bearer {KEY}"}, 415),
    ],
)
@pytest.mark.parametrize("route", POSTS)
def test_a_key_is_asked_for_everywhere(
    ask: Any, embedder: Embedder, route: str, headers: dict[str, str], status: int
) -> None:
    service = Service(embedder, key=Key(KEY))
    response = ask(service, lambda client: client.post(f"/api/v1/{route}", headers=headers))
    assert response.status_code == (404 if route == "search" and status == 415 else status)
    if status == 401:
        assert code(response) == (401, "unauthorised")


def test_what_needs_no_key(ask: Any, embedder: Embedder) -> None:
    async def questions(client: httpx.AsyncClient) -> Any:
        paths = ("/", "/static/icon.svg", "/openapi.json", "/api/v1/health", "/metrics")
        return [await client.get(path) for path in paths]

    *free, metrics = ask(Service(embedder, key=Key(KEY)), questions)
    assert [answer.status_code for answer in free] == [200] * 4
    assert free[-1].json()["key_required"] is True
    assert code(metrics) == (401, "unauthorised")


def test_keys_are_compared_in_constant_time(ask: Any, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, compare_digest = [], hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare_digest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ask(Service(embedder, key=Key(KEY)), lambda client: client.post("/api/v1/embed", headers={"X-API-Key": "x"}))
    assert compared == [(32, 32)]  # digests of one length, whatever was given


def test_reading_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(security.KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    file = tmp_path / "key.txt"
    file.write_text(KEY + "\n")
    assert read_key(str(file)) == KEY
    monkeypatch.setenv(security.KEY_VARIABLE, "another-key-for-the-test")
    assert read_key(None) == "another-key-for-the-test"
    assert read_key(str(file)) == KEY
    for bad, why in (
        ("short", "at least 16"),
        ("two\nlines" * 3, "one line"),
        ("with a space in it", "one line"),
        ("", "0 ch"),
    ):
        file.write_text(bad)
        with pytest.raises(UsageError, match=why):
            read_key(str(file))
    monkeypatch.setenv(security.KEY_VARIABLE, "")
    with pytest.raises(UsageError):
        read_key(None)
    with pytest.raises(FileNotFoundError):
        read_key(str(tmp_path / "nix"))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org")),
    ],
)
def test_which_addresses_are_this_machines_alone(host: str, local: bool) -> None:
    assert is_loopback(host) == local


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LocalHost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]")),
        *((host, 403) for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "")),
    ],
)
def test_host_names(ask: Any, embedder: Embedder, host: str, status: int) -> None:
    def question(client: httpx.AsyncClient) -> Any:
        return client.get("/api/v1/health", headers={"Host": host})

    assert ask(Service(embedder), question, hosts=security.LOOPBACK).status_code == status


def test_other_sites_are_refused(ask: Any, embedder: Embedder) -> None:
    async def questions(client: httpx.AsyncClient) -> Any:
        cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Origin": "https://evil.example"}
        return (
            await client.post("/api/v1/embed", headers=cross),
            await client.post("/api/v1/embed", headers={"Sec-Fetch-Site": "same-origin"}),
            await client.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        )

    cross, same, link = ask(Service(embedder), questions)
    assert code(cross) == (403, "cross_site")
    assert same.status_code == 415
    assert link.status_code == 200


def test_every_answer_has_the_headers_and_none_allows_other_origins(ask: Any, embedder: Embedder) -> None:
    async def questions(client: httpx.AsyncClient) -> Any:
        origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        return [
            await client.request(method, path, headers=origin)
            for method, path in (
                ("GET", "/"),
                ("GET", "/static/icon.svg"),
                ("GET", "/nix"),
                ("GET", "/api/v1/health"),
                ("OPTIONS", "/api/v1/embed"),
                ("POST", "/api/v1/embed"),
                ("POST", "/api/v1/search"),
                ("GET", "/metrics"),
                ("GET", "/openapi.json"),
            )
        ]

    for answer in ask(Service(embedder), questions):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        if "/api/" in str(answer.url):
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_failure_of_ours_is_an_answer_with_headers_too(
    embedder: Embedder, listening: Any, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "embed", lambda items: 1 / 0)
    with listening(Service(embedder)) as (host, port):
        response = httpx.post(f"http://{host}:{port}/api/v1/embed", files={"photos": picture(1)})
        assert httpx.get(f"http://{host}:{port}/api/v1/health").status_code == 200
    assert code(response) == (500, "internal")
    assert "division" not in response.text
    assert "default-src" in response.headers["Content-Security-Policy"]


_opened: list[str] | None = None


def _note(event: str, details: tuple[Any, ...]) -> None:
    if _opened is None or event != "open":
        return
    path, mode, flags = details
    if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _opened.append(str(path))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that Python opens for writing during a test."""
    global _opened
    if not getattr(_note, "added", False):
        sys.addaudithook(_note)
        _note.added = True  # type: ignore[attr-defined]
    _opened = files = []
    yield files
    _opened = None


def snapshot(*folders: Path) -> set[str]:
    return {str(path) for folder in folders for path in folder.rglob("*")}


def test_photos_and_their_names_leave_no_trace(
    embedder: Embedder,
    listening: Any,
    picture: Any,
    opened: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No file is written, even for photos of several MB, and no log tells of them: not when all is well, nor in a failure."""
    home = Path(os.environ["FACEEMBED_HOME"])
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened.clear()  # of what the fixtures opened
    with open(tmp_path / "control", "w"):
        pass
    assert opened == [str(tmp_path / "control")]  # the watch works
    opened.clear()
    before, secret = snapshot(home, tmp_path), "Secret Person"
    noisy = picture(1, side=900, kind=".bmp")
    assert len(noisy) > 2 << 20
    caplog.set_level(logging.DEBUG)
    with listening(Service(embedder)) as (host, port):
        url = f"http://{host}:{port}/api/v1/"
        good = httpx.post(url + "embed", files={"photos": (f"{secret}.bmp", noisy)})
        bad = httpx.post(url + "embed", files={"photos": (f"{secret}.txt", b"Secret Text")})
        large = httpx.post(url + "embed", files={"photos": (f"{secret}.bmp", picture(1, side=1200, kind=".bmp"))})
        httpx.post(url + "explain", files=[("photos", (f"{secret}.bmp", noisy))] * 2)
        monkeypatch.setattr(embedder, "embed", lambda items: 1 / 0)
        failed = httpx.post(url + "embed", files={"photos": (f"{secret}.bmp", noisy)})
    assert [answer.status_code for answer in (good, bad, large, failed)] == [200, 415, 413, 500]
    assert opened == []
    assert snapshot(home, tmp_path) == before
    written = caplog.text + "".join(capfd.readouterr())
    assert "ZeroDivisionError" in written  # the failure is in the log, its photo is not
    assert "Secret" not in written
    assert repr(noisy[:40])[2:-1] not in written


@pytest.mark.parametrize("ours", [True, False])
def test_nobody_is_told_of_requests(ours: bool, ask: Any, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI tells OpenTelemetry of each, wherever a machine's variables or a wrapper have set that up; its own default shows the fault."""
    pytest.importorskip("fastapi.telemetry", reason="older versions of FastAPI have nothing of the kind")
    from opentelemetry import trace

    told: list[str] = []

    class Tracer(trace.NoOpTracer):
        def start_span(self, name: str, *args: Any, **options: Any) -> Any:
            told.append(name)
            return super().start_span(name, *args, **options)

    class Provider(trace.TracerProvider):
        def get_tracer(self, *args: Any, **options: Any) -> Tracer:
            return Tracer()

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Provider())
    if not ours:
        monkeypatch.setattr(app, "NO_TELEMETRY", None)
    assert ask(Service(embedder), lambda client: client.get("/api/v1/health")).status_code == 200
    assert bool(told) is not ours
