"""A training that begins with an aligner's weights answers as that aligner before its first step, also by a batch's own norms."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.errors import ModelError
from faceembed.trainer.aligner.config import AlignerConfig, AlignerData, AlignerLoop
from faceembed.trainer.aligner.export import parity
from faceembed.trainer.aligner.initial import load_weights, open_norms
from faceembed.trainer.aligner.labels import LabelledPhoto, write_labels
from faceembed.trainer.aligner.loop import to_network
from faceembed.trainer.aligner.network import AlignerNet, NetworkSettings
from faceembed.trainer.aligner.refiner import RefinerNet, RefinerSettings
from faceembed.trainer.aligner.scenes import SceneSettings
from faceembed.trainer.aligner.train import train
from faceembed.trainer.aligner.train_refiner import train_refiner


@pytest.fixture(scope="module")
def builtin() -> Model:
    return resolve("faceembed-align", task="aligner")


@pytest.fixture(scope="module")
def started(builtin: Model) -> tuple[AlignerNet, RefinerNet]:
    torch.manual_seed(0)
    network, refiner = AlignerNet(), RefinerNet()
    load_weights(builtin, network, refiner)
    return network, refiner


def test_the_networks_answer_as_the_file(builtin: Model, started: tuple[AlignerNet, RefinerNet]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), np.uint8)
    assert parity(*started, Path(builtin.path).read_bytes(), builtin.spec, pixels) < 1e-4


def test_norms_go_by_the_batch_and_change_nothing(started: tuple[AlignerNet, RefinerNet]) -> None:
    network = copy.deepcopy(started[0])
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (8, 64, 64, 3), np.uint8))
    with torch.no_grad():
        before = network.eval()(to_network(pixels))
        by_batch = copy.deepcopy(network).train()(to_network(pixels))
        open_norms(network, pixels)
        assert not network.training
        after, trained = network(to_network(pixels)), network.train()(to_network(pixels))
    for old, same, batch, unopened in zip(before, after, trained, by_batch, strict=True):
        scale = float(old.abs().max())
        assert float((same - old).abs().max()) < 1e-3 * scale
        assert float((batch - old).abs().max()) < 1e-3 * scale
        assert float((unopened - old).abs().max()) > 0.1 * scale  # what a training would have begun with


def test_others_are_refused_in_a_line(builtin: Model) -> None:
    with pytest.raises(
        ModelError,
        match=r"faceembed-align has 27 layers, this network 27; they differ from layer 5 on.* \[network\] settings",
    ):
        load_weights(builtin, AlignerNet(NetworkSettings(neck=48)), RefinerNet())
    other = dataclasses.replace(builtin, spec=dataclasses.replace(builtin.spec, decoder="yunet"))
    with pytest.raises(ModelError, match="is no aligner of our own"):
        load_weights(other, AlignerNet(), RefinerNet())


def test_a_training_starts_there(
    some: list[LabelledPhoto], tmp_path: Path, started: tuple[AlignerNet, RefinerNet]
) -> None:
    write_labels(tmp_path / "l.parquet", some)
    config = AlignerConfig(
        data=AlignerData((str(tmp_path / "l.parquet"),), workers=0),
        scenes=SceneSettings(side=64, cuts=0, hidden_share=0),
        refiner=RefinerSettings(steps=1, batch_size=2, lr=1e-8, false_scenes=32),
        loop=AlignerLoop(steps=1, batch_size=2, lr=1e-8, warmup_steps=1, threads=1, start="faceembed-align"),
    )
    said: list[str] = []
    train(config, tmp_path / "run", notice=said.append)
    assert said[0] == "starting from the weights of faceembed-align"
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    torch.testing.assert_close(last["average"]["stem.0.weight"], started[0].stem[0].weight.detach(), atol=1e-5, rtol=0)
    train_refiner(config, tmp_path / "run", notice=said.append)
    assert "refiner: starting from the weights of faceembed-align" in said
    last = torch.load(tmp_path / "run" / "refiner.pt", weights_only=True)
    torch.testing.assert_close(last["average"]["body.0.weight"], started[1].body[0].weight.detach(), atol=1e-5, rtol=0)
    train(
        dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=2)),
        tmp_path / "run",
        notice=said.append,
    )
    assert said[-1] == "going on from step 1"  # and not from the start again
