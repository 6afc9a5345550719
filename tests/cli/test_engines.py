"""`build-engine` and `doctor`: options, results in text and JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faceembed.cli import build_engine as command
from faceembed.engine.parity.rule import DRAWN
from faceembed.engine.pipeline import build_engine as module
from faceembed.engine.pipeline import sample_faces
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes import flavours
from faceembed.engine.verbs import doctor
from faceembed.errors import DeviceError


def test_precisions_are_the_engines() -> None:
    assert command.ENGINE_PRECISIONS == module.PRECISIONS


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")

    def missing() -> None:
        raise DeviceError("no NVIDIA driver on this machine; install driver 580, or use --device cpu")

    monkeypatch.setattr(module, "probe", missing)
    monkeypatch.setattr(flavours, "installed", lambda: ("tensorrt_rtx",))


def test_build_inspect_and_refuse(
    run: Any, run_json: Any, no_card: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    faces = np.random.default_rng(0).integers(0, 256, (4, 150, 150, 3), dtype=np.uint8)
    monkeypatch.setattr(sample_faces, "sample_chips", lambda spec, folder: faces)
    path = tmp_path / "a.engine"
    result = run("build-engine", "--target", "sm89,sm120", "--batch", "1,16,32", "-o", path, "--json")
    document = json.loads(result.stdout)
    assert (
        document["path"] == str(path) and document["targets"] == ["sm89", "sm120"] and document["batch"] == [1, 16, 32]
    )
    assert not document["executed"] and not document["cached"]
    assert "the engine itself was not executed" in result.stderr
    text = run("build-engine", "--inspect", path).stdout
    assert f"{EmbedSettings().encoder}, fp16, " in text and "for sm89, sm120; batches of 1 to 32, tuned for 16" in text
    faces_and_drawn = len(faces) + DRAWN
    assert f"on {faces_and_drawn} faces, of its graph in ONNX Runtime; the engine itself was not executed" in text
    assert run_json("build-engine", "--inspect", path)["networks"] == document["networks"]
    refused = run("build-engine", "--add", path, code=1).stderr
    assert "no NVIDIA driver on this machine; install driver 580" in refused and "--device cpu" not in refused
    path.write_bytes(b"x" * 100)
    assert "is no engine file of faceembed" in run("build-engine", "--inspect", path, code=1).stderr
    assert "is no engine file of faceembed" in run("build-engine", "--add", path, code=1).stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--precision", "int8", "--aligner", "faceembed-align"), 2, "--precision int8 is for encoders; the aligner"),
        (("--batch", "8,4,2"), 2, "give MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX"),
        (("--batch", "many"), 2, "--batch 'many': give MIN,OPT,MAX"),
        (("--target", "ada"), 2, "--target 'ada' is no architecture"),
        (("--target", "sm90"), 1, "--target sm90: TensorRT for RTX"),
        (("--aligner", "mtcnn"), 1, "aligner 'mtcnn' runs on the CPU only"),
        (("--encoder", "dlib-resnet", "--aligner", "mtcnn"), 2, "give --encoder or --aligner, not both"),
        (("--add", "a", "--inspect", "b"), 2, "give --add or --inspect, not both"),
        (("--device", "cuda:0"), 1, "no NVIDIA driver on this machine; install driver 580"),
        (("--encoder", "nobody"), 1, "no model 'nobody'"),
    ],
)
def test_what_cannot_be_built(run: Any, no_card: None, words: tuple[str, ...], code: int, message: str) -> None:
    result = run("build-engine", *words, code=code)
    assert result.stdout == "" and message in result.stderr
    assert "--device cpu" not in result.stderr  # no advice for who builds an engine
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error: ")]) == 1


def test_without_tensorrt(run: Any, no_card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours, "installed", lambda: ())
    assert "TensorRT is not installed; run: pip install tensorrt-rtx" in run("build-engine", code=1).stderr


def test_doctor(run: Any, run_json: Any) -> None:
    text = run("doctor").stdout
    assert "ok  processor" in text and "will use: " in text
    document = run_json("doctor")
    assert document["problem"] == "" and document["will_use"]["runtime"] in ("openvino", "onnxruntime", "tensorrt")
    assert {"processor", "driver", "FAISS", "DALI"} <= {finding["name"] for finding in document["findings"]}


def test_doctor_where_nothing_can_compute(run: Any, run_json: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(settings: Any) -> None:
        raise DeviceError("neither OpenVINO nor ONNX Runtime is installed")

    monkeypatch.setattr(doctor, "choose", nothing)
    assert "nothing can compute: neither OpenVINO nor" in run("doctor", code=1).stdout
    assert run_json("doctor", code=1)["will_use"] is None
