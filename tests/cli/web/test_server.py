"""`faceembed serve` as a user starts it: a process, a port, real models, and its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.install import pip_install


@pytest.fixture(scope="module")
def server(built: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], str]]:
    """A server with an index and a key: its process, what it said on stdout, and the key."""
    key = "a-key-for-the-tests"
    file = built.parent / "key.txt"
    file.write_text(key + "\n")
    process = start("--index", str(built), "--api-key-file", str(file), "--port", "0", "--json")
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline()), key
    finally:
        process.kill()
        process.communicate()


def start(*args: str) -> subprocess.Popen[str]:
    import sys

    program = "from faceembed.cli.main import main; main(prog_name='faceembed')"
    command = [sys.executable, "-c", program, "serve", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_end_to_end(server: Any, small: Path) -> None:
    _, said, key = server
    url = said["url"]
    assert said == {"url": url, "encoder": EmbedSettings().encoder, "key_required": True}
    photo = small / "small.jpg"
    with httpx.Client(base_url=url, timeout=120, headers={"X-API-Key": key}) as client:
        health = client.get("/api/v1/health").json()
        assert (health["encoder"], health["aligner"], health["key_required"]) == (
            EmbedSettings().encoder,
            EmbedSettings().aligner,
            True,
        )
        assert health["index"] == {"faces": 2}
        found = client.post("/api/v1/search", files={"photo": photo.read_bytes()}, data={"k": "1"}).json()
        assert [hit["path"] for hit in found["hits"]] == ["small.jpg"]
        assert found["hits"][0]["similarity"] > 0.98
        assert found["hits"][0]["thumbnail"].startswith("data:image/jpeg;base64,")
        assert client.get("/").status_code == 200
        assert client.get("/static/app.js").status_code == 200
        assert "faceembed_photos_total" in client.get("/metrics").text
    assert httpx.post(f"{url}/api/v1/embed", files={"photos": photo.read_bytes()}).status_code == 401
    assert httpx.get(f"{url}/api/v1/health", headers={"Host": "evil.example"}).status_code == 403


def test_a_port_in_use_is_one_line(server: Any, run: Any) -> None:
    port = server[1]["url"].rpartition(":")[2]
    result = run("serve", "--port", port, code=1)
    assert len(result.stderr.splitlines()) == 1
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr


def test_what_is_under_way_is_finished_when_the_server_ends(server: Any, small: Path) -> None:
    """SIGTERM: the request is answered, new connections are refused, the exit code is 0 and stderr has no traceback."""
    process, said, key = server
    answers: list[httpx.Response] = []
    files = [("photos", (str(number), (small / "small.jpg").read_bytes())) for number in range(10)]

    def ask() -> None:
        headers = {"X-API-Key": key}
        answers.append(httpx.post(f"{said['url']}/api/v1/embed", files=files, headers=headers, timeout=120))

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        metrics = httpx.get(f"{said['url']}/metrics", headers={"X-API-Key": key}, timeout=60).text
        held = next(line for line in metrics.splitlines() if line.startswith("faceembed_held_bytes "))
        if float(held.split()[1]) > 0 or answers:
            break
    process.send_signal(signal.SIGTERM)
    thread.join(120)
    assert [answer.status_code for answer in answers] == [200]
    assert len(answers[0].json()["photos"]) == 10
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{said['url']}/api/v1/health")


def test_other_machines_need_a_key(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEEMBED_API_KEY", raising=False)
    result = run("serve", "--host", "0.0.0.0", "--port", "0", code=2)
    assert "--api-key-file" in result.stderr
    assert "--insecure" in result.stderr
    (tmp_path / "key.txt").write_text("short")
    assert "at least 16" in run("serve", "--api-key-file", tmp_path / "key.txt", code=2).stderr
    assert "No such file" in run("serve", "--api-key-file", tmp_path / "nix", code=1).stderr


def test_bad_addresses(run: Any) -> None:
    assert "--host" in run("serve", "--host", "no such host", "--insecure", code=1).stderr
    assert "no index at" in run("serve", "--port", "0", "--index", "nix.faiss", code=1).stderr


def test_insecure_listens_everywhere(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """With --insecure the server starts; what it would run is not started here."""
    from faceembed.cli import serve

    started: list[Any] = []
    monkeypatch.delenv("FACEEMBED_API_KEY", raising=False)
    monkeypatch.setattr(serve, "_service", lambda *_: "service")
    monkeypatch.setattr(serve, "_run", lambda *args: started.append(args))
    run("serve", "--host", "0.0.0.0", "--port", "0", "--insecure")
    run("serve", "--port", "0", "--allowed-host", "faces.example")
    (_, _, any_host, *_), (_, _, some, *_) = started
    assert any_host == set()
    assert some == {"127.0.0.1", "localhost", "[::1]", "faces.example"}


def test_a_missing_package_is_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastapi" else find(name))
    assert pip_install("serve") in run("serve", code=1).stderr


def test_the_listener_is_released(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in run("serve", "--port", str(port), code=1).stderr
    from faceembed.cli import serve

    with serve._listen("127.0.0.1", port) as listener:
        assert listener.getsockname()[1] == port


def test_answers_are_not_held_back() -> None:
    """Head and body of an answer are two writes; with Nagle's algorithm the second waits 40 ms for the client's acknowledgement."""
    from faceembed.cli import serve

    with serve._listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
