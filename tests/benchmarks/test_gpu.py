"""The benchmark of the GPU path: it runs on the CPU backend from end to end, and its table is that of the README."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

gpu = pytest.importorskip("gpu")


@pytest.mark.data
def test_crops_and_photos_on_the_cpu_backend(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    monkeypatch.setenv("FACEEMBED_DATA", str(data))
    words = ["--backend", "cpu", "--encoders", "dlib-resnet", "--sides", "640", "--files", "2", "--photos", "2"]
    words += [
        "--rounds",
        "1",
        "--batch",
        "2",
        "--json",
        str(tmp_path / "gpu.json"),
        "--plot",
        str(tmp_path / "gpu.png"),
    ]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    gpu.main()
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert [(entry["encoder"], entry["set"]) for entry in document["runs"]] == [
        ("dlib-resnet", "crops"),
        ("dlib-resnet", "640 px"),
    ]
    for entry in document["runs"]:
        assert entry["faces"] >= 1
        assert entry["roofline"]["flops_per_face"] > 0.5e9
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "| card | driver | TensorRT | model | photos | batch | photos/s | ratio |" in out
    assert json.loads(out.splitlines()[-1]) == document


def test_without_a_card_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.engine.runtimes import cards
    from faceembed.errors import DeviceError

    def none() -> None:
        raise DeviceError("no NVIDIA driver on this machine")

    monkeypatch.setattr(cards, "probe", none)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="error: no NVIDIA driver on this machine"):
        gpu.main()


def test_table_of_several_cards() -> None:
    entry = {"encoder": "ir101", "set": "crops", "batch_size": 64, "end_to_end": 12345.6, "ratio_to_slowest": 0.914}
    one = {"card": {"name": "A", "driver": "580.1", "runtime": "TensorRT 11"}, "runs": [entry]}
    other = {
        "card": {"name": "B", "driver": "581", "runtime": "R"},
        "runs": [{**entry, "roofline": {"share_of_peak": 0.5}}],
    }
    lines = gpu.table([one, other]).splitlines()
    assert lines[2] == "| A | 580.1 | TensorRT 11 | ir101 | crops | 64 | 12,346 | 0.91 |  |"
    assert lines[3].endswith("| 0.91 | 50 % |")


def test_random_encoders_are_what_the_trainer_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tiny architecture: the conversion of a large one takes a while."""
    from torch import nn

    from faceembed.engine.models.flops import count_flops
    from faceembed.engine.models.registry import resolve
    from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
    from faceembed.trainer.backbones import registry

    spec = ModelSpec("tiny", "encoder", (24, 24), dimension=8, template=ARCFACE_TEMPLATE)

    def tiny(dimension: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.Flatten(), nn.Linear(8 * 25, dimension))

    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", registry.Architecture("tiny", tiny, spec, "2.weight"))
    path = gpu.random_encoder("tiny", str(tmp_path))
    assert count_flops(resolve(str(path), task="encoder")) == 2 * (8 * 5 * 5) * (3 * 5 * 5) + 2 * 8 * (8 * 25)
    assert gpu.random_encoder("tiny", str(tmp_path)) == path
