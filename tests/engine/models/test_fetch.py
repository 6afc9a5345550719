"""Downloads from a hub that cuts, corrupts, stalls and lies; nothing here reaches the outside."""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models import fetch
from faceembed.engine.models.fetch import download
from faceembed.engine.models.web import Patience, Unreachable, ask
from faceembed.errors import FetchError, ModelError

pytestmark = pytest.mark.usefixtures("model_home")
FAST = Patience(timeout_s=0.5, attempts=3, backoff_s=0.01)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "model.onnx"


def get(hub: Any, target: Path, **settings: Any) -> None:
    download(hub.url, target, sha256=settings.pop("sha256", hub.sha256), patience=FAST, **settings)


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize(
    ("plan", "requests"),
    [
        ([], 1),
        (["cut:100000"], 2),
        (
            ["cut:1", "reset:70000", "cut:50000", "reset:9", "cut:8"],
            6,
        ),  # more failures than attempts, but each brings bytes
        (["status:500", "status:503"], 3),
        (["stall:100000"], 2),
        (["cut:100000", "whole"], 2),
        (["cut:100000", "elsewhere"], 3),
        (["corrupt"], 2),
        (["cut:1000", "status:416"], 3),
    ],
)
def test_a_bad_connection_still_gives_the_file(hub: Any, target: Path, plan: list[str], requests: int) -> None:
    hub.plan = list(plan)
    get(hub, target)
    assert target.read_bytes() == hub.body
    assert len(hub.gets()) == requests
    assert leftovers(target) == ["model.onnx"]


def test_it_goes_on_where_it_was_cut(hub: Any, target: Path) -> None:
    hub.plan = ["cut:100000"]
    calls: list[tuple[int, int | None]] = []
    get(hub, target, progress=lambda done, total: calls.append((done, total)))
    assert hub.gets()[1]["Range"] == "bytes=100000-"
    assert hub.gets()[1]["If-Range"] == hub.etag
    assert calls[-1] == (300_000, 300_000)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_file_that_changes_between_attempts_is_started_anew(hub: Any, target: Path) -> None:
    hub.plan = ["cut:100000", "status:404"]
    with pytest.raises(Unreachable, match="404"):
        get(hub, target)
    assert leftovers(target) == ["model.onnx.part", "model.onnx.part.etag"]
    hub.body, hub.etag = hub.body[::-1], '"two"'
    get(hub, target)
    assert target.read_bytes() == hub.body
    assert hub.gets()[2]["If-Range"] == '"one"'


def test_a_part_of_another_file_is_found_out_by_the_digest(hub: Any, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("model.onnx.part").write_bytes(b"x" * 1000)
    get(hub, target)
    assert target.read_bytes() == hub.body
    assert ["Range" in headers for headers in hub.gets()] == [True, False]


def test_a_complete_part_needs_no_further_byte(hub: Any, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("model.onnx.part").write_bytes(hub.body)
    get(hub, target)
    assert target.read_bytes() == hub.body
    assert len(hub.gets()) == 1  # answered with 416


def test_a_file_that_is_there_is_not_fetched_again(hub: Any, target: Path) -> None:
    get(hub, target)
    get(hub, target)
    assert len(hub.gets()) == 1


def test_a_wrong_file_is_refused_and_not_kept(hub: Any, target: Path) -> None:
    wanted = "0" * 64
    with pytest.raises(FetchError) as caught:
        get(hub, target, sha256=wanted)
    assert hub.sha256 in str(caught.value) and wanted in str(caught.value) and "--sha256" in str(caught.value)
    assert leftovers(target) == []


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (["html"], "web page"),
        (["gzip"], "encoded as 'gzip'"),
        (["status:404"], "no such file"),
        (["status:401"], "HF_TOKEN"),
        (["status:403"], "HF_TOKEN"),
        (["status:410"], "410"),
        (["status:500"] * 3, "500"),
        (["reset:0"] * 3, "connection"),
        (["stall:0"] * 3, "timed out"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(hub: Any, target: Path, plan: list[str], message: str) -> None:
    hub.plan = list(plan)
    with pytest.raises(Unreachable, match=message) as caught:
        get(hub, target)
    assert hub.url in str(caught.value) and "\n" not in str(caught.value)
    assert not target.exists()


def test_no_connection_names_the_host(target: Path) -> None:
    with pytest.raises(Unreachable, match=r"no connection to 127\.0\.0\.1:1 "):
        download("http://127.0.0.1:1/model.onnx", target, sha256="0" * 64, patience=FAST)


def test_a_length_that_is_not_the_published_one_is_refused_before_the_download(hub: Any, target: Path) -> None:
    with pytest.raises(FetchError, match=r"300,000 bytes, expected 299,999"):
        get(hub, target, size_bytes=299_999)
    assert not target.exists()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_token_stays_with_its_host(
    new_hub: Callable[[], Any], target: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    hub, store = new_hub(), new_hub()
    store.body = hub.body
    monkeypatch.setenv("HF_ENDPOINT", hub.root)
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.redirect, hub.plan, store.plan = store.url, [f"redirect:{code}"] * 2, ["cut:1000"]
    download("https://huggingface.co/a/b/resolve/main/m.onnx", target, sha256=hub.sha256, patience=FAST)
    assert target.read_bytes() == hub.body
    assert [headers.get("Authorization") for headers in hub.gets()] == ["Bearer secret"] * 2
    assert [headers.get("Authorization") for headers in store.gets()] == [None] * 2
    assert store.gets()[1]["Range"] == "bytes=1000-"  # the range survives the redirect


def test_other_hosts_never_see_the_token(hub: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    get(hub, target)
    assert "Authorization" not in hub.gets()[0]


def test_a_redirect_within_the_hub_keeps_the_token(hub: Any, monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.root)
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.redirect, hub.plan = "/renamed/model.onnx", ["redirect:307"]
    get(hub, target)
    assert [headers.get("Authorization") for headers in hub.gets()] == ["Bearer secret"] * 2


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/model.onnx"])
def test_redirects_away_from_the_web_are_refused(hub: Any, target: Path, address: str) -> None:
    hub.redirect, hub.plan = address, ["redirect:302"]
    with pytest.raises(FetchError):
        get(hub, target)


def test_the_proxy_of_the_environment_is_used(hub: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.root)
    monkeypatch.setenv("no_proxy", "")
    download("http://models.invalid/model.onnx", target, sha256=hub.sha256, patience=FAST)
    assert hub.seen[0][1] == "http://models.invalid/model.onnx"


def test_ask_stops_at_a_redirect_to_another_host(hub: Any) -> None:
    hub.redirect = "http://models.invalid/model.onnx"
    answer = ask(hub.url, method="HEAD", follow=False, patience=FAST)
    assert answer.status == 302
    assert answer.headers["X-Linked-Etag"] == f'"{hub.sha256}"'


def test_too_little_space_is_said_before_the_download(hub: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(ModelError, match="the disk is full"):
        get(hub, target)
    assert leftovers(target) == []


def test_a_disk_that_fills_up_keeps_the_part(hub: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def full(path: Path) -> Iterator[Any]:
        def write(piece: bytes) -> None:
            file.write(piece[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        with builtins.open(path, "wb") as file:
            yield types.SimpleNamespace(write=write)

    def fake_open(path: Any, mode: str = "r", **settings: Any) -> Any:
        return full(path) if str(path).endswith(".part") and mode == "wb" else builtins.open(path, mode, **settings)

    monkeypatch.setattr(fetch, "open", fake_open, raising=False)
    with pytest.raises(ModelError, match="the disk is full") as caught:
        get(hub, target)
    assert not isinstance(caught.value, Unreachable)
    monkeypatch.undo()
    assert leftovers(target) == ["model.onnx.part", "model.onnx.part.etag"]


def test_an_unwritable_folder_is_one_clear_line(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="set FACEEMBED_HOME"):
        get(hub, tmp_path / "file" / "model.onnx")


SCRIPT = """
import sys
from pathlib import Path
from faceembed.engine.models.fetch import download
url, target, sha256 = sys.argv[1:]
download(url, Path(target), sha256=sha256)
"""


def start(hub: Any, target: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, hub.url, str(target), hub.sha256])


def test_a_killed_download_is_taken_up_again(hub: Any, target: Path) -> None:
    hub.plan = ["stall:200000"]
    part = target.with_name("model.onnx.part")
    with start(hub, target) as process:
        try:
            deadline = time.monotonic() + 15
            while not (part.exists() and part.stat().st_size == 200_000):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    hub.release.set()
    get(hub, target)
    assert target.read_bytes() == hub.body
    assert hub.gets()[1]["Range"] == "bytes=200000-"


def test_two_processes_fetch_once(hub: Any, target: Path) -> None:
    hub.plan = ["slow:1.0"]
    with start(hub, target) as one, start(hub, target) as two:
        assert (one.wait(20), two.wait(20)) == (0, 0)
    assert target.read_bytes() == hub.body
    assert len(hub.gets()) == 1
