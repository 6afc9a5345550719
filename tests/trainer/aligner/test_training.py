"""A whole training on dotted pictures: it learns, goes on where it stopped, and what it exports finds the dots."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.errors import DataError, ModelError, UsageError
from faceembed.trainer.aligner.config import AlignerConfig, AlignerData, AlignerLoop, from_dict, read_config
from faceembed.trainer.aligner.export import export_aligner
from faceembed.trainer.aligner.labels import LabelledPhoto, write_labels
from faceembed.trainer.aligner.loop import read_checkpoint
from faceembed.trainer.aligner.network import NetworkSettings
from faceembed.trainer.aligner.refiner import RefinerSettings
from faceembed.trainer.aligner.scenes import SceneSettings
from faceembed.trainer.aligner.train import FORMAT, LAST, sample_scenes, train
from faceembed.trainer.aligner.train_refiner import train_refiner
from faceembed.trainer.recipes.crops import Augment


@pytest.fixture(scope="module")
def config(some: list[LabelledPhoto], tmp_path_factory: pytest.TempPathFactory) -> AlignerConfig:
    labels = tmp_path_factory.mktemp("labels") / "labels.parquet"
    write_labels(labels, some)
    return AlignerConfig(
        network=NetworkSettings(stem=16, widths=(16, 24, 24), neck=16),
        data=AlignerData((str(labels),), (str(labels),), workers=0),
        scenes=SceneSettings(side=96, cuts=2, least=0.4, turn=3, hidden_share=0),
        augment=Augment(flip=0),
        refiner=RefinerSettings(steps=150, batch_size=16, lr=3e-3),
        loop=AlignerLoop(steps=120, batch_size=8, lr=4e-3, warmup_steps=10, ema=0.95, validate_every=40, threads=1),
    )


@pytest.fixture(scope="module")
def trained(config: AlignerConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(config, folder, notice=lambda line: None)
    train_refiner(config, folder, notice=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def model(config: AlignerConfig, trained: Path) -> Model:
    return export_aligner(
        trained, trained / "dots.onnx", name="dots", licence="CC0-1.0", source="a test", pixels=sample_scenes(config, 4)
    )


def test_it_learns(trained: Path) -> None:
    rows = read_checkpoint(trained / LAST, FORMAT)["rows"]
    assert [row["step"] for row in rows] == [40, 80, 120]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert (trained / "metrics.csv").read_text().startswith("step,loss,score,box,landmarks\n40.0,")


def test_the_model_finds_the_dots(model: Model, some: list[LabelledPhoto]) -> None:
    assert resolve(model.path, task="aligner").spec == model.spec
    assert Path(model.path).stat().st_size < 500_000  # two bytes a weight
    detector = open_detector(model, RuntimeChoice("openvino", "cpu", "fp32", "a test"), threads=1)
    photos = [np.ascontiguousarray(cv2.imread(photo.path)[..., ::-1]) for photo in some]
    found = detector.detect(photos, [20] * len(photos), only_largest=True)
    assert len(found) >= 3
    apart = []
    for owner, points in zip(found.photo, found.landmarks, strict=True):
        wanted = some[owner].landmarks[0]
        apart.append(np.linalg.norm(points - wanted, axis=1).mean() / np.linalg.norm(wanted[0] - wanted[1]))
    assert np.median(apart) < 0.15


def test_a_training_goes_on_as_if_it_had_not_stopped(config: AlignerConfig, tmp_path: Path) -> None:
    short = dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=12, validate_every=6))
    train(short, tmp_path / "whole", notice=lambda line: None)

    def stop(line: str) -> None:
        if line.startswith("held out"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # before step 6 is saved: the run starts over
        train(short, tmp_path / "broken", notice=stop)
    steps = []
    train(short, tmp_path / "broken", notice=steps.append)
    first = dataclasses.replace(short, loop=dataclasses.replace(short.loop, steps=6))
    train(first, tmp_path / "again", notice=lambda line: None)
    wholes = [read_checkpoint(tmp_path / name / LAST, FORMAT) for name in ("whole", "broken")]
    for key, value in wholes[0]["average"].items():
        assert torch.equal(value, wholes[1]["average"][key]), key
    said: list[str] = []
    train(short, tmp_path / "again", notice=said.append)
    assert said[0] == "going on from step 6"
    assert read_checkpoint(tmp_path / "again" / LAST, FORMAT)["step"] == 12


def test_other_settings_are_refused(config: AlignerConfig, trained: Path) -> None:
    other = dataclasses.replace(config, seed=2)
    with pytest.raises(UsageError, match="holds a training with other settings"):
        train(other, trained, notice=lambda line: None)
    with pytest.raises(UsageError, match="holds a training with other settings"):
        train_refiner(other, trained, notice=lambda line: None)


def test_mistakes_are_one_line(config: AlignerConfig, tmp_path: Path) -> None:
    nothing = dataclasses.replace(config, data=AlignerData())
    with pytest.raises(UsageError, match=r"data\.labels is empty"):
        train(nothing, tmp_path, notice=lambda line: None)
    strangers = dataclasses.replace(config, data=dataclasses.replace(config.data, groups=("nobody",)))
    with pytest.raises(DataError, match=r"no faces of nobody in .*; they hold .*: --set 'data\.groups=\[\]' "):
        train(strangers, tmp_path / "b", notice=lambda line: None)
    uneven = dataclasses.replace(config, data=dataclasses.replace(config.data, shares=(1.0, 2.0)))
    with pytest.raises(UsageError, match="2 numbers for 1 groups"):
        train(uneven, tmp_path / "c", notice=lambda line: None)
    with pytest.raises(ModelError, match=r"no checkpoint at .*last\.pt"):
        export_aligner(
            tmp_path, tmp_path / "x.onnx", name="x", licence="", source="", pixels=np.zeros((1, 64, 64, 3), np.uint8)
        )
    (tmp_path / LAST).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="is not a checkpoint of kind"):
        export_aligner(
            tmp_path, tmp_path / "x.onnx", name="x", licence="", source="", pixels=np.zeros((1, 64, 64, 3), np.uint8)
        )


def test_recipe_and_overrides(tmp_path: Path) -> None:
    recipe = read_config("aligner", overrides=["loop.steps=7", 'data.labels=["a", "b"]', "scenes.turn=4"])
    assert (recipe.loop.steps, recipe.data.labels, recipe.scenes.turn) == (7, ("a", "b"), 4.0)
    assert sum(recipe.data.shares) == pytest.approx(1)
    assert from_dict(dataclasses.asdict(recipe), where="x") == recipe
    (tmp_path / "mine.toml").write_text("[loop]\nlr = 1e-4\n")
    assert read_config(str(tmp_path / "mine.toml")).loop.lr == 1e-4
    flipped = read_config("aligner", overrides=["augment.flip=0.5"]).augment
    assert flipped == dataclasses.replace(AlignerConfig().augment, flip=0.5)  # the others stay an aligner's own
    (tmp_path / "more.toml").write_text('base = "aligner"\n[loop]\nlr = 1e-4\n')
    more, shipped = read_config(str(tmp_path / "more.toml")), read_config("aligner")
    assert more == dataclasses.replace(shipped, loop=dataclasses.replace(shipped.loop, lr=1e-4))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["loop.step=7"],
            r"--set loop\.step=7: no setting 'step' in table \[loop\]; did you mean 'loop\.steps'\?",
        ),
        (["loop.steps=many"], r"--set loop\.steps=many: 'loop\.steps' is a whole number, got text 'many'"),
        (["loop.steps"], "expected table.key=value"),
        (["loop.learning_rate=1"], r"did you mean 'loop\.lr'\?"),
        (["loop.batch_size=7"], "aligner: loop.batch_size is 7; expected an even number"),
        (["loop.ema=1.5"], r"expected in \[0, 1\)"),
        (["data.labels=3"], r"'data\.labels' is a list of texts, got whole number 3"),
        (["loop=3"], "'loop' is a table, got whole number 3"),
    ],
)
def test_wrong_settings_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config("aligner", overrides=overrides)


def test_unknown_recipe_is_named() -> None:
    with pytest.raises(UsageError, match=r"no config file at nothing\.toml.* the recipes are aligner"):
        read_config("nothing.toml")
