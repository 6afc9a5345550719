"""Nothing is sent and nothing is left behind: commands in processes of their own, with every look-up and connection refused and noted
by a preloaded library (`refuse.c`), without ``CI``, which keeps the libraries beneath us quiet, and with a home of their own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from faceembed.telemetry import without_openvino_telemetry

REFUSE = Path(__file__).with_name("refuse.c")
MAIN = "from faceembed.cli.main import main; main(prog_name='faceembed')"
TEST_CROPS = "crops"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where watched commands run: a fresh home, a fresh folder for temporary files, a folder for their outputs."""

    root: Path
    library: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the tests' own environment but where programs and real photos are: no CI, no XDG folders."""
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
        folders = {"HOME": "home", "TMPDIR": "tmp", "FACEEMBED_HOME": "faceembed"}
        return {
            **kept,
            **{name: str(self.root / folder) for name, folder in folders.items()},
            "LD_PRELOAD": str(self.library),
            "REFUSE_LOG": str(self.root / "log"),
            "PYTHONDONTWRITEBYTECODE": "1",  # what Python keeps beside its modules is not ours
        }

    def start(self, *args: str | Path, code: str = MAIN) -> subprocess.Popen[str]:
        (self.root / "log").unlink(missing_ok=True)
        for folder in ("home", "tmp"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
            (self.root / folder).mkdir()
        command = [sys.executable, "-c", code, *map(str, args)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.work, env=self.environment, **pipes)

    def run(self, *args: str | Path, code: str = MAIN) -> str:
        """What it printed; it must succeed."""
        process = self.start(*args, code=code)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, f"{args}: {out}{err}"
        return out

    def asked(self) -> list[str]:
        """The look-ups and connections that the last command tried."""
        return [line for line in self._log() if not line.startswith("made ")]

    def left(self) -> list[str]:
        """The files that the last command made outside FACEEMBED_HOME and its outputs, and that are still there."""
        allowed = (str(self.work) + os.sep, str(self.root / "faceembed"))
        made = {os.path.normpath(line[5:]) for line in self._log() if line.startswith("made ")}
        kept = {path for path in made if os.path.isfile(path) and not path.startswith(allowed)}
        for folder in ("home", "tmp"):  # also what was made in a way that the library does not see
            kept.update(str(path) for path in (self.root / folder).rglob("*"))
        return sorted(kept)

    def _log(self) -> list[str]:
        log = self.root / "log"
        return log.read_text(errors="replace").splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `refuse.c`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("what refuses the network is preloaded: it needs Linux and a C compiler")
    made = tmp_path_factory.mktemp("refuse") / "refuse.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(REFUSE), "-ldl"], check=True)
    return made


def _place(root: Path, library: Path) -> Place:
    (root / "work").mkdir()
    return Place(root, library)


@pytest.fixture
def place(tmp_path: Path, library: Path) -> Place:
    """An empty place."""
    return _place(tmp_path, library)


@pytest.fixture(scope="module")
def workshop(
    tmp_path_factory: pytest.TempPathFactory, library: Path, make_faces: Callable[[Path, int], list[Path]]
) -> Place:
    """A place with photos of four people and an index of them; each command of the table below may use what those before it made."""
    place = _place(tmp_path_factory.mktemp("workshop"), library)
    for number, photo in enumerate(make_faces(place.work / "all", 16)):
        person = place.work / "people" / f"person{number % 4}"
        person.mkdir(parents=True, exist_ok=True)
        photo.rename(person / photo.name)
    people = sorted((place.work / "people").glob("*/*.jpg"))
    rows = [(people[0], people[1], 1), (people[2], people[3], 1), (people[0], people[5], 0), (people[1], people[9], 0)]
    (place.work / "pairs.csv").write_text("path_a,path_b,label\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    return place


TRAINING = ["loop.batch_size=8", "loop.epochs=1", "validation.count=4", "schedule.warmup_steps=0", "loop.device=cpu"]
SETTINGS = [word for setting in (*TRAINING, "model.arch=mobilefacenet") for word in ("--set", setting)]
COMMANDS = {
    "embed": "embed people -o people.faiss",
    "verify": "verify people/person0/0000.jpg people/person1/0001.jpg",
    "verify by ONNX Runtime": "verify people/person0/0000.jpg people/person1/0001.jpg --runtime onnxruntime",
    "doctor": "doctor",
    "a report with plots": "eval pairs.csv --report report.html",
    "a map": "project people.faiss -o map.html --method tsne",
    "data align": f"data align people -o {TEST_CROPS} --encoder mobilefacenet",
    "train": f"train pretrain --crops {TEST_CROPS} -o run {' '.join(SETTINGS)}",
    "export": f"export run/last.pt -o mine.onnx --photos {TEST_CROPS}",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_asks_nobody_and_leaves_nothing_behind(name: str, workshop: Place) -> None:
    workshop.run(*COMMANDS[name].split(), "--json")
    assert workshop.asked() == []
    assert workshop.left() == []


def test_the_server_asks_nobody(workshop: Place) -> None:
    process = workshop.start("serve", "--index", "people.faiss", "--port", "0", "--json")
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        photo = (workshop.work / "people" / "person0" / "0000.jpg").read_bytes()
        found = httpx.post(f"{url}/api/v1/search", files={"photo": photo}, data={"k": "1"}, timeout=120)
        assert found.status_code == 200, found.text
        assert httpx.get(f"{url}/").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert (workshop.asked(), workshop.left()) == ([], [])


def test_python_asks_nobody(workshop: Place) -> None:
    code = """
import faceembed
report = faceembed.embed("people", "by_python.faiss")
first = faceembed.search("by_python.faiss", ["people/person0/0000.jpg"], k=1)
print(report.faces, len(first))
"""
    assert workshop.run(code=code).split() == ["16", "1"]
    assert (workshop.asked(), workshop.left()) == ([], [])


def test_workers_and_benchmarks_inherit_it(place: Place) -> None:
    """A process that is spawned and one that is forked import both runtimes; a benchmark is a program that imports the package."""
    code = """
import multiprocessing, sys
import faceembed

def both():
    from faceembed.engine.runtimes import onnxruntime, openvino
    print(len(openvino.version()) > 3, len(onnxruntime.version()) > 3, flush=True)

if __name__ == "__main__":
    for way in ("fork", "spawn"):
        process = multiprocessing.get_context(way).Process(target=both)
        process.start()
        process.join()
        assert process.exitcode == 0
"""
    script = place.work / "benchmark.py"
    script.write_text(code)
    assert place.run(code=f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')").split() == ["True"] * 4
    assert (place.asked(), place.left()) == ([], [])


def _without(*what: str) -> str:
    """The command with the switches left out."""
    lines = ["import contextlib, os, faceembed.engine.runtimes.openvino_import as runtime"]
    if "openvino" in what:
        lines.append("runtime.without_openvino_telemetry = runtime._without_converter = contextlib.nullcontext")
    if "onnxruntime" in what:
        lines.append("del os.environ['ORT_DISABLE_TELEMETRY']")
    return "\n".join([*lines, MAIN])


def test_a_leak_of_openvino_would_be_seen(workshop: Place, place: Place) -> None:
    """The fault is put in: the switch is left out, the look-up and the client id are seen."""
    photos = sorted((workshop.work / "people" / "person0").iterdir())[:2]
    place.run("verify", *photos, "--runtime", "openvino", code=_without("openvino"))
    assert "lookup www.google-analytics.com" in place.asked()
    assert any(path.endswith("openvino_ga_cid") for path in place.left())


def test_a_leak_of_onnx_runtime_would_be_seen(workshop: Place, place: Place) -> None:
    """ONNX Runtime sends some seconds later, from a queue on disk, with a device id: these are there at once."""
    photos = sorted((workshop.work / "people" / "person0").iterdir())[:2]
    place.run("verify", *photos, "--runtime", "onnxruntime", code=_without("onnxruntime"))
    assert [path for path in place.left() if path.endswith(("deviceid", "onnxruntime.db"))] != []


@pytest.mark.parametrize(
    ("attempt", "seen"),
    [
        ("socket.getaddrinfo('faces.example', 443)", "lookup faces.example"),
        ("socket.gethostbyname('faces.example')", "lookup faces.example"),
        ("socket.socket().connect(('192.0.2.1', 443))", "connect 192.0.2.1"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'a', ('2001:db8::1', 53))", "connect 2001:db8::1"),
    ],
)
def test_what_refuses_sees_every_way_out(attempt: str, seen: str, place: Place) -> None:
    code = f"import socket\ntry:\n    {attempt}\nexcept OSError:\n    print('refused')"
    assert place.run(code=code).split() == ["refused"]
    assert place.asked() == [seen]


def test_openvino_telemetry_stays_for_others(place: Place) -> None:
    """A program of somebody else that uses it, before or after, is left alone; the child sends nothing, as CI is set."""
    code = """
import os; os.environ["CI"] = "true"
import openvino_telemetry.main as before
import faceembed
from faceembed.engine.runtimes import openvino
openvino.version()
import openvino_telemetry.main as after
import openvino
try: openvino.convert_model(0)
except Exception: pass
from openvino.tools.ovc import telemetry_utils
print(before is after, telemetry_utils.tm.__name__)
"""
    assert place.run(code=code).split() == ["True", "openvino.tools.ovc.telemetry_stub"]


def test_what_somebody_set_stays(place: Place) -> None:
    code = "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; import faceembed; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert place.run(code=code).split() == ["0"]
    assert place.run(code="import os, faceembed; print(os.environ['ORT_DISABLE_TELEMETRY'])").split() == ["1"]


@pytest.fixture(autouse=True)
def _no_network_of_ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests' own client asks the server directly, whatever proxy the machine has."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield


def test_other_threads_may_import_meanwhile() -> None:
    """Models are opened side by side: while one thread imports OpenVINO, another may import anything."""
    done = threading.Event()

    def importing() -> None:
        while not done.is_set():
            sys.modules["_a_module"] = sys
            del sys.modules["_a_module"]

    thread, before = threading.Thread(target=importing), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(300):
            with without_openvino_telemetry():
                pass
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(before)
