"""Teaching a slim network SFace's maps: it learns, goes on bit for bit, and ends in SFace's own embedding layer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from faceembed.engine.models import sface
from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones.checkpoints import load_encoder
from faceembed.trainer.backbones.registry import build
from faceembed.trainer.backbones.slimface import SPEC, SlimFace, merge_ending
from faceembed.trainer.loop import maps
from faceembed.trainer.loop.maps import MAPS, OUTPUTS, Teacher, teach_maps
from faceembed.trainer.loop.train import Callbacks, train
from faceembed.trainer.recipes.config import read_config
from faceembed.trainer.recipes.goals import Maps

MakeCrops = Callable[..., str]
FAST = ["loop.device=cpu", "loop.batch_size=8", "loop.tensorboard=false", "data.threads=1", "loop.precision=fp32"]


@pytest.fixture(scope="module")
def chips() -> np.ndarray:
    """Smooth pictures, each of its own."""
    rows, columns = np.mgrid[:112, :112] / 20
    phases = np.arange(12)[:, None, None, None]
    colours = np.arange(3)[None, None, None]
    waves = np.sin(rows[None, ..., None] + phases + colours) + np.cos(
        columns[None, ..., None] * (1 + phases / 7) - colours
    )
    return np.clip(128 + 50 * waves, 0, 255).astype(np.uint8)


def teach(body: torch.nn.Module, chips: np.ndarray, file: Path, config: Maps, lines: list[str] | None = None) -> float:
    crops = np.arange(len(chips))
    notice = (lines if lines is not None else []).append
    return teach_maps(
        body, chips.__getitem__, crops, config, file=file, precision="fp32", threads=1, seed=3, notice=notice
    )


def start() -> SlimFace:
    torch.manual_seed(2)
    body = load_encoder("sface")[0]
    assert isinstance(body, SlimFace)
    return body


def test_it_learns_and_says_so(chips: np.ndarray, tmp_path: Path) -> None:
    body, lines = start(), []
    taught = Teacher("fp32", threads=1)(chips)
    wanted = taught[0]

    def missed() -> float:
        with torch.no_grad():
            front = body.front((torch.from_numpy(chips).permute(0, 3, 1, 2).float() - 127.5) / 128)
        return float((front - wanted).square().mean() / wanted.var())

    before = missed()
    share = teach(body, chips, tmp_path / MAPS, Maps(front_steps=6, steps=2, batch_size=8, lr=3e-3), lines)
    assert missed() < 0.8 * before
    found = re.fullmatch(r"maps, step 8: (\d+\.\d) % of SFace's last map not explained", lines[-1])
    assert found and abs(float(found[1]) - 100 * share) < 100, lines
    assert not body.training


def test_what_it_ends_in_is_sfaces_embedding_layer(chips: np.ndarray, tmp_path: Path) -> None:
    """With no step of teaching, what it is given is what `load_sface` gave it."""
    body = start()
    before = body.fc.weight.detach().clone()
    teach(body, chips, tmp_path / MAPS, Maps(steps=1, batch_size=2, lr=1e-12, weight_decay=0))
    assert torch.allclose(body.fc.weight, before, atol=1e-6)


def test_goes_on_bit_for_bit(chips: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "_EACH", 1)
    config = Maps(front_steps=2, steps=1, batch_size=4)
    straight, twice = start(), start()
    teach(straight, chips, tmp_path / "a.pt", config)

    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        teach_maps(
            twice,
            chips.__getitem__,
            np.arange(12),
            config,
            file=tmp_path / "b.pt",
            precision="fp32",
            threads=1,
            seed=3,
            notice=stop,
        )
    again = start()
    teach(again, chips, tmp_path / "b.pt", config)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_foreign_file_is_refused(chips: np.ndarray, tmp_path: Path) -> None:
    torch.save({"format": "something else"}, tmp_path / MAPS)
    with pytest.raises(ModelError, match=r"maps\.pt is not of this training; remove it, or use --fresh"):
        teach(start(), chips, tmp_path / MAPS, Maps(steps=1, batch_size=2))


def test_another_network_is_refused(chips: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="teaches a 'slimface'"):
        teach(build("mobilefacenet"), chips, tmp_path / MAPS, Maps(steps=1))


def test_another_start_is_refused() -> None:
    with pytest.raises(UsageError, match=r"are for model\.start = 'sface'"):
        read_config("pretrain", overrides=["model.arch=slimface", "maps.steps=5"])


def test_in_a_training(make_crops: MakeCrops, tmp_path: Path) -> None:
    """Taught first, then trained; a training that goes on is not taught again."""
    given = [
        *FAST,
        f"data.crops=['{make_crops('real', people=range(6), photos=4, spec=SPEC)}']",
        "model.arch=slimface",
        "model.start=sface",
        "maps.steps=1",
    ]
    given += ["maps.batch_size=4", "data.min_photos=2", "loop.epochs=1", "loss.name=cosface"]
    lines: list[str] = []
    train(read_config("pretrain", overrides=given), tmp_path, tell=Callbacks(lines.append))
    assert lines[0].startswith("maps, step 1:"), lines
    assert (tmp_path / MAPS).exists()
    lines.clear()
    train(read_config("pretrain", overrides=[*given, "loop.epochs=2"]), tmp_path, tell=Callbacks(lines.append))
    assert not any(line.startswith("maps") for line in lines) and not (tmp_path / MAPS).exists()


def test_the_teacher_is_sface(chips: np.ndarray) -> None:
    """Its last map through the embedding layer that a whole network gets is SFace's embedding."""
    session = onnxruntime.InferenceSession(sface.build()[0], providers=["CPUExecutionProvider"])
    pixels = chips[:2].transpose(0, 3, 1, 2).astype(np.float32)
    whole = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    graph = sface.package_graph()
    body = SlimFace(last=1024)
    merge_ending(body, graph, torch.eye(1024), torch.zeros(1024))  # SFace's last layer alone
    last = dict(zip(OUTPUTS, Teacher("fp32", threads=1)(chips[:2]), strict=True))["bn1"]
    with torch.no_grad():
        assert np.abs(body.fc(last.flatten(1)).numpy() - whole).max() < 1e-3 * np.abs(whole).max()
