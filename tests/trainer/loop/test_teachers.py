"""Trainings with teachers: what they say is learned, of photos of nobody in particular too, and goes on bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from faceembed.engine.index.shards import FaceTable
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import encode_path
from faceembed.errors import UsageError
from faceembed.trainer.backbones.checkpoints import load_checkpoint, load_encoder
from faceembed.trainer.batches import targets
from faceembed.trainer.data.crops import read_crops
from faceembed.trainer.loop.epochs import TrainProgress
from faceembed.trainer.loop.fit import fit_embedding
from faceembed.trainer.loop.runlog import read_metrics
from faceembed.trainer.loop.train import Callbacks, train
from faceembed.trainer.recipes.config import read_config
from faceembed.trainer.recipes.settings import TrainConfig

MakeCrops = Callable[..., str]
FAST = ["loop.device=cpu", "loop.batch_size=16", "loop.tensorboard=false", "data.threads=1", "loop.precision=fp32"]


class Stopped(Exception):
    """What stands for a kill."""


@pytest.fixture
def taught(tiny: ModelSpec, make_crops: MakeCrops, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainConfig]:
    """A pre-training whose teacher knows everybody, those of nobody's set too."""
    folders = [make_crops("real", people=range(9), photos=6), make_crops("nobody", people=range(20, 30), photos=2)]
    rng = np.random.default_rng(5)
    photos, vectors = [], []
    known = {person: rng.normal(size=16) for person in range(40)}
    for folder in folders:
        for row in read_crops(folder).rows:
            photos.append(encode_path(row.photo))
            vectors.append(known[int(row.person[1:])] + 0.2 * rng.normal(size=16))
    table = FaceTable(pa.table({"path": photos}), np.array(vectors, np.float32))
    monkeypatch.setattr(targets, "load_faces", lambda files: table)

    def config(*overrides: str) -> TrainConfig:
        given = [
            f"data.crops=['{folders[0]}']",
            f"data.unlabelled=['{folders[1]}']",
            "teachers.indexes=['teacher.faiss']",
            "data.min_photos=3",
            "model.arch=tiny",
            "loop.epochs=4",
            "optimizer.lr=0.02",
            "schedule.warmup_steps=4",
        ]
        return read_config("pretrain", overrides=[*FAST, *given, *overrides])

    return config


def test_what_the_teacher_says_is_learned(taught: Callable[..., TrainConfig], tmp_path: Path) -> None:
    report = train(taught("loss.weight=0", "loop.epochs=12"), tmp_path)
    assert report.crops == 7 * 6 + 10 * 2, "photos of nobody in particular are learned from"
    rows = read_metrics(tmp_path)
    assert rows[-1]["teachers"] < 0.5 * rows[1]["teachers"]


def test_classes_are_of_people_with_enough_photos(taught: Callable[..., TrainConfig], tmp_path: Path) -> None:
    """Beside teachers, a class loss sees the people of the labelled set alone; a batch of nobody does no harm."""
    report = train(taught("loss.weight=0.1", "loop.batch_size=4"), tmp_path)
    assert np.isfinite([report.result["class"], report.result["teachers"]]).all()


def test_goes_on_bit_for_bit(taught: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(taught(), tmp_path / "straight")

    def stop(progress: TrainProgress) -> None:
        if (progress.epoch, progress.batch) == (3, 1):
            raise Stopped

    with pytest.raises(Stopped):
        train(taught(), tmp_path / "twice", tell=Callbacks(progress=stop))
    train(taught(), tmp_path / "twice")
    straight, twice = tmp_path / "straight", tmp_path / "twice"
    assert (straight / "metrics.csv").read_bytes() == (twice / "metrics.csv").read_bytes()
    one, two = (load_checkpoint(run / "last.pt").model for run in (straight, twice))
    assert one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_start_is_fitted_to_the_teachers(taught: Callable[..., TrainConfig], tmp_path: Path) -> None:
    first = train(taught("teachers.weight=0", "teachers.indexes=[]", "data.unlabelled=[]"), tmp_path / "start").best
    lines: list[str] = []
    train(taught(f"model.start='{first}'", "loop.epochs=1"), tmp_path / "b", tell=Callbacks(lines.append))
    found = re.search(r"fitted to the teachers: cosine (\d\.\d+) on 62 crops", lines[0])
    assert found and float(found[1]) > 0.9, lines
    assert "7 people, 62 crops" in lines[1], "nobody in particular is not counted as a person"


@pytest.mark.parametrize("bias", [False, True])
def test_fit_is_least_squares(bias: bool) -> None:
    torch.manual_seed(1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=bias))
    x = torch.rand(300, 3, 2, 2) + 0.5
    wanted = x.flatten(1) @ torch.randn(12, 5) + (0.7 if bias else 0.0)
    assert fit_embedding(body, "1.weight", x.split(64), wanted) > 0.999
    assert torch.allclose(body(x), wanted, atol=0.05)
    with pytest.raises(UsageError, match="linear layer of 6 outputs"):
        fit_embedding(body, "1.weight", x.split(64), torch.zeros(300, 6))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["model.dimension=8"], "16 dimensions together, the network 8; set model.dimension = 16"),
        (["data.sampling=groups"], "data.sampling = 'groups' with teachers.indexes"),
        (["teachers.indexes=[]"], "data.unlabelled without teachers.indexes"),
        (["data.min_photos=1"], "data.unlabelled wants data.min_photos = 2"),
        (["loss.weight=0", "teachers.weight=0", "data.unlabelled=[]"], "nothing to learn"),
        (["teachers.settings={nonsense=1}"], "no setting 'nonsense'"),
    ],
)
def test_settings_that_cannot_be(
    taught: Callable[..., TrainConfig], tmp_path: Path, overrides: list[str], line: str
) -> None:
    with pytest.raises(UsageError, match=line):
        train(taught(*overrides), tmp_path)


def test_finetuning_has_no_teachers(taught: Callable[..., TrainConfig]) -> None:
    with pytest.raises(UsageError, match=r"teachers\.indexes is for pre-training"):
        read_config("finetune", overrides=["teachers.indexes=['a.faiss']"])


def test_the_shipped_recipe_reads() -> None:
    config = read_config("pretrain", "taught", overrides=["teachers.indexes=['a.faiss', 'b.faiss']"])
    assert (config.model.arch, config.model.start, config.taught) == ("resnet29-131", "dlib-resnet", True)


def test_dlib_in_fewer_pixels() -> None:
    """The same filters; the last layer is its own, of 256 numbers, and the face is framed alike."""
    network, spec, arch = load_encoder("dlib-resnet", arch="resnet29-131")
    whole, whole_spec, _ = load_encoder("dlib-resnet")
    assert (arch, spec.input_size, spec.dimension) == ("resnet29-131", (131, 131), 256)
    for name, value in whole.state_dict().items():
        assert name == "fc.weight" or torch.equal(value, network.state_dict()[name])
    assert network(torch.zeros(1, 3, 131, 131)).shape == (1, 256)
    scale = (np.array(spec.template) + 0.5) / (np.array(whole_spec.template) + 0.5)
    np.testing.assert_allclose(scale, 131 / 150, rtol=1e-12)
