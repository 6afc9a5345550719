"""The benchmark of training: what its rates mean, and what it says."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from torch import nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.trainer.backbones import registry

training = pytest.importorskip("training")
TEMPLATE = ((7.0, 9.0), (16.0, 9.0), (11.5, 13.0), (8.0, 17.0), (15.0, 17.0))
SPEC = ModelSpec("tiny", "encoder", (24, 24), dimension=8, template=TEMPLATE)


class Tiny(nn.Sequential):
    def __init__(self, dimension: int) -> None:
        super().__init__(nn.Conv2d(3, 8, 5, stride=4), nn.Flatten(), nn.Linear(8 * 25, dimension))


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", registry.Architecture("tiny", Tiny, SPEC, "2.weight"))
    return argparse.Namespace(
        arch=["tiny"], crops=None, batch=16, steps=2, rounds=2, precision="fp32", device="cpu", json=None
    )


def test_rates_and_shares(arguments: argparse.Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = training.run(arguments)
    (found,) = document["architectures"]
    assert (found["arch"], found["batch"], found["precision"]) == ("tiny", 16, "fp32")
    assert all(found[f"{name}_per_second"] > 0 for name in ("forward", "step", "input", "fed"))
    assert found["step_share"] > 0 and 0 <= found["waited"] < 1
    text = training.report(document)
    assert "of forward" in text.splitlines()[0] and text.splitlines()[2].startswith("tiny")
    training.common.emit(document)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == document


def test_a_wrong_set_is_one_line(arguments: argparse.Namespace) -> None:
    arguments.crops = "/nowhere"
    with pytest.raises(training.BenchmarkError, match="not a crop set"):
        training.run(arguments)
