"""Networks as they were compiled: the next start takes them in, with the same bits, and what is damaged or of another kind is made anew."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.runtimes import compiled, openvino
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.openvino import OpenVinoSession
from tests.engine.runtimes import test_fixed_batch


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def net(tmp_path: Path) -> Model:
    """Two convolutions on 16x16 pixels, 32 numbers."""
    random = np.random.default_rng(0)
    writer = GraphWriter("net")
    x = writer.conv(writer.input("chips", ["N", 3, 16, 16]), random.normal(size=(8, 3, 4, 4)), np.zeros(8), stride=4)
    x = writer.conv(writer.node("Relu", [x]), random.normal(size=(2, 8, 1, 1)), np.zeros(2))
    writer.output(writer.node("Flatten", [x]), "embedding", ["N", 32])
    return with_digest(tmp_path / "net.onnx", writer.serialise())


def with_digest(path: Path, data: bytes) -> Model:
    path.write_bytes(data)
    template = tuple((x / 8, y / 8) for x, y in ARCFACE_TEMPLATE)
    digest = hashlib.sha256(data).hexdigest()
    return Model(ModelSpec("net", "encoder", (16, 16), dimension=32, template=template, sha256=digest), str(path))


def opened(model: Model, *, exact: int = 0, threads: int = 1) -> OpenVinoSession:
    return OpenVinoSession(model, RuntimeChoice("openvino", "cpu", "fp32", "", exact_layers=exact), threads=threads)


def rows(session: OpenVinoSession, count: int = 5) -> np.ndarray[Any, Any]:
    return session.run(np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8))[0]


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> bytes:
        raise AssertionError("the model's file was read")

    for name in ("with_pixel_input", "with_packed_input"):
        monkeypatch.setattr(openvino, name, refuse)


def files(home: Path) -> list[Path]:
    return sorted((home / "compiled").iterdir())


@pytest.mark.parametrize("exact", [0, 1])
def test_a_second_start_takes_it_in(net: Model, home: Path, exact: int, request: pytest.FixtureRequest) -> None:
    first = rows(opened(net, exact=exact))
    (kept,) = files(home)
    before = kept.stat().st_mtime_ns
    request.getfixturevalue("no_reading")
    assert np.array_equal(rows(opened(net, exact=exact)), first)
    assert files(home) == [kept] and kept.stat().st_mtime_ns == before


def test_batches_of_fixed_length_too(tmp_path: Path, home: Path, request: pytest.FixtureRequest) -> None:
    model = with_digest(tmp_path / "tokens.onnx", Path(test_fixed_batch.network(tmp_path).path).read_bytes())
    session = opened(model)
    found = {count: rows(session, count) for count in (1, 5, 40)}
    assert len(files(home)) == 3
    request.getfixturevalue("no_reading")
    again = opened(model)
    for count, wanted in found.items():
        assert np.array_equal(rows(again, count), wanted)


def test_a_batch_that_is_new_is_compiled_then(tmp_path: Path, home: Path) -> None:
    model = with_digest(tmp_path / "tokens.onnx", Path(test_fixed_batch.network(tmp_path).path).read_bytes())
    opened(model)
    assert [path.name.split("-")[1] for path in files(home)] == ["1"]
    assert rows(opened(model), 30).shape == (30, 32)
    assert [path.name.split("-")[1] for path in files(home)] == ["1", "32"]


def _flip(data: bytes) -> bytes:
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_flip, id="one bit"),
        pytest.param(lambda data: data[: len(data) // 2], id="half written"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"PK\3\4" + bytes(500), id="another kind of file"),
    ],
)
def test_a_damaged_file_is_made_anew(net: Model, home: Path, damage: Any) -> None:
    first = rows(opened(net))
    (kept,) = files(home)
    sound = kept.read_bytes()
    kept.write_bytes(damage(sound))
    assert np.array_equal(rows(opened(net)), first)
    assert len(kept.read_bytes()) == len(sound) and compiled.find(_facts(net), 0) is not None


def _facts(net: Model) -> compiled.Facts:
    facts = opened(net)._facts
    assert facts is not None
    return facts


def test_what_openvino_refuses_is_made_anew(net: Model, home: Path) -> None:
    first = rows(opened(net))
    facts = _facts(net)
    compiled.keep(facts, 0, compiled.Kept((b"no network at all",), (16, 16, 3)))
    assert np.array_equal(rows(opened(net)), first)
    kept = compiled.find(facts, 0)
    assert kept is not None and len(kept.parts[0]) > 100


def test_another_file_precision_thread_or_release_is_another_network(
    net: Model, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(net)
    opened(net, threads=2)
    opened(net, exact=1)
    other = with_digest(tmp_path / "other.onnx", Path(net.path).read_bytes() + b"")
    opened(dataclasses.replace(other, spec=dataclasses.replace(other.spec, sha256="0" * 64)))
    monkeypatch.setattr(openvino, "version", lambda: "2099.1")
    opened(net)
    assert len(files(home)) == 5


def test_a_header_of_other_facts_is_not_believed(net: Model, home: Path) -> None:
    opened(net)
    facts = _facts(net)
    (kept,) = files(home)
    other = dataclasses.replace(facts, threads=7)
    kept.rename(compiled._path(other, 0))
    assert compiled.find(other, 0) is None


def test_a_home_that_cannot_be_written_costs_nothing_else(net: Model, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "file" / "home"))
    assert rows(opened(net)).shape == (5, 32)


def test_a_model_without_a_digest_is_not_kept(net: Model, home: Path) -> None:
    opened(dataclasses.replace(net, spec=dataclasses.replace(net.spec, sha256="")))
    assert not home.exists()


def test_the_oldest_give_way(net: Model, home: Path) -> None:
    facts = _facts(net)
    (first,) = files(home)
    os.utime(first, (1, 1))
    for threads in range(2, compiled.KEPT + 2):
        compiled.keep(dataclasses.replace(facts, threads=threads), 0, compiled.Kept((b"x",), (1,)))
    assert len(files(home)) == compiled.KEPT and not first.exists()


def test_a_second_verify_needs_no_onnx(workshop_photos: tuple[Path, Path], home: Path) -> None:
    script = (
        "import sys; sys.argv[0] = 'faceembed'; from faceembed.cli.main import main\n"
        "try: main()\nfinally: print(sorted({'onnx', 'google.protobuf', 'pyarrow', 'openvino.tools.ovc'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, "verify", *map(str, workshop_photos), "-q"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.stdout.splitlines()[-1] == "['google.protobuf', 'onnx']", first.stderr
    assert second.stdout.splitlines()[-1] == "[]", second.stderr
    assert second.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1] != []


@pytest.fixture
def workshop_photos() -> tuple[Path, Path]:
    from faceembed.engine.photos.sample import sample_photos

    first, second = sorted(sample_photos().glob("*.jpg"))[:2]
    return first, second


def test_the_converter_comes_when_it_is_called(net: Model) -> None:
    script = (
        "import sys; from faceembed.engine.runtimes.openvino import version; version(); import openvino\n"
        "assert 'openvino.tools.ovc' not in sys.modules\n"
        f"print(len(openvino.convert_model({net.path!r}).inputs), openvino.convert_model.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "openvino.tools.ovc.convert"], done.stderr
