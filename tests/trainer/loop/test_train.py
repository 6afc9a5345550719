"""Whole trainings of a tiny network: they learn, go on bit for bit where they stopped, and fail in one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError, DeviceError, FaceEmbedError, ModelError, UsageError
from faceembed.trainer.backbones import checkpoints
from faceembed.trainer.backbones.checkpoints import load_checkpoint, load_encoder
from faceembed.trainer.data.split import write_split
from faceembed.trainer.loop.compare import compare_runs, table
from faceembed.trainer.loop.epochs import TrainProgress
from faceembed.trainer.loop.runlog import read_metrics
from faceembed.trainer.loop.train import Callbacks, TrainReport, train
from faceembed.trainer.recipes.config import from_toml, read_config
from faceembed.trainer.recipes.settings import TrainConfig

FAST = ["loop.device=cpu", "loop.batch_size=16", "loop.tensorboard=false", "data.threads=1", "loop.precision=fp32"]
MakeCrops = Callable[..., str]


def pretraining(crops: str, *overrides: str) -> TrainConfig:
    given = [
        f"data.crops=['{crops}']",
        "model.arch=tiny",
        "loop.epochs=4",
        "optimizer.lr=0.02",
        "schedule.warmup_steps=4",
    ]
    return read_config("pretrain", overrides=[*FAST, *given, *overrides])


def tuning(crops: str, fakes: str, *overrides: str) -> TrainConfig:
    given = [
        f"data.crops=['{crops}']",
        f"data.fakes=['{fakes}']",
        "model.start=''",
        "model.centre=0",
        "model.balance=false",
        "model.arch=tiny",
        "loop.epochs=4",
    ]
    return read_config("finetune", overrides=[*FAST, *given, "distillation.weight=0", "optimizer.lr=2e-3", *overrides])


class Stopped(Exception):
    """What stands for a kill."""


def stop_at(epoch: int, batch: int) -> Callbacks:
    def progress(progress: TrainProgress) -> None:
        if (progress.epoch, progress.batch) == (epoch, batch):
            raise Stopped

    return Callbacks(progress=progress)


def same_run(a: Path, b: Path) -> None:
    """Every tensor and number of two checkpoints, and the tables, are equal bit for bit."""
    assert (a / "metrics.csv").read_bytes() == (b / "metrics.csv").read_bytes()
    for name in ("last.pt", "best.pt"):
        one, two = load_checkpoint(a / name), load_checkpoint(b / name)
        _same(one.model, two.model, "model")
        _same(one.training, two.training, "training")


def _same(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            _same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            _same(x, y, f"{where}[{place}]")
    else:
        assert a == b or where.endswith("config"), where


@pytest.fixture
def real(make_crops: MakeCrops) -> str:
    return make_crops("real", people=range(9), photos=6)


@pytest.fixture
def fakes(make_crops: MakeCrops) -> str:
    return make_crops("fakes", people=range(9), photos=4, methods=("swap", "blend"))


def test_pretrain_then_finetune(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    lines: list[str] = []
    shown: list[TrainProgress] = []
    report = train(pretraining(real), tmp_path / "a", tell=Callbacks(lines.append, shown.append))
    assert (report.epochs, report.people, report.crops, report.steps) == (4, 7, 42, 4 * (42 // 16))
    rows = read_metrics(tmp_path / "a")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[-1]["loss"] < rows[1]["loss"] / 2
    assert rows[0]["eer_fake"] is None and rows[0]["eer_other"] is not None
    assert len(lines) == 1 + 5 and "7 people, 42 crops" in lines[0]
    assert [(p.epoch, p.batch, p.batches) for p in shown[:3]] == [(1, 1, 2), (1, 2, 2), (2, 1, 2)]
    assert (tmp_path / "a" / "training.png").read_bytes().startswith(b"\x89PNG")
    saved = from_toml(tmp_path / "a" / "config.toml")
    assert (saved.model.arch, saved.loop.device) == ("tiny", "cpu")

    start = f"model.start='{report.best}'"
    config = tuning(
        real,
        fakes,
        start,
        "loop.epochs=10",
        "data.leave_out=['blend']",
        "distillation.weight=0.1",
        "loop.tensorboard=true",
    )
    tuned = train(config, tmp_path / "b")
    assert len(list((tmp_path / "b" / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert not (tmp_path / "a" / "tensorboard").exists()
    assert tuned.people == 7 and tuned.crops == 42 + 7 * 2  # half of the fakes are of the method that is left out
    assert tuned.result["eer_fake"] < tuned.start["eer_fake"]
    assert set(tuned.result) >= {"eer_fake:swap", "eer_fake:blend", "val_accuracy", "error_real_deepfake", "val_loss"}
    pairs = read_pairs(tmp_path / "b" / "validation.csv")
    assert set(pairs.kinds) == {"same", "other", "fake"}
    model, spec, arch = load_encoder(tuned.best)
    assert (arch, spec.name, spec.threshold, spec.dimension) == ("tiny", "tiny-tuned", None, 16)
    best = load_encoder(tmp_path / "b" / "best.pt")[0].state_dict()
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())


EVERYTHING = [
    "loop.ema=0.9",
    "loop.accumulate=2",
    "distillation.weight=0.5",
    "batch_loss.name=triplet",
    "batch_loss.weight=0.1",
    "adversarial.weight=0.3",
    "schedule.patience=0",
    "augment.noise_share=0.5",
    "loop.stop_after=9",
]


@pytest.mark.parametrize("where", [(3, 1), (2, 2)], ids=["within an epoch", "at its end"])
def test_pretraining_goes_on_bit_for_bit(tiny: ModelSpec, real: str, tmp_path: Path, where: tuple[int, int]) -> None:
    config = pretraining(real)
    train(config, tmp_path / "straight")
    with pytest.raises(Stopped):
        train(config, tmp_path / "twice", tell=stop_at(*where))
    lines: list[str] = []
    train(config, tmp_path / "twice", tell=Callbacks(notice=lines.append))
    assert f"going on after epoch {where[0] - 1}" in lines[0]
    same_run(tmp_path / "straight", tmp_path / "twice")


def test_finetuning_goes_on_bit_for_bit(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    """With everything that has a state: average, accumulation, plateau, triplets, adversarial crops, a teacher."""
    start = train(pretraining(real, "loop.epochs=1"), tmp_path / "start").best
    config = tuning(real, fakes, f"model.start='{start}'", "model.batch_norm=train", *EVERYTHING)
    train(config, tmp_path / "straight")
    with pytest.raises(Stopped):
        train(config, tmp_path / "twice", tell=stop_at(3, 2))
    torch.manual_seed(99), np.random.seed(99)
    train(config, tmp_path / "twice")
    same_run(tmp_path / "straight", tmp_path / "twice")


def test_checkpoints_of_steps(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    """A run that is killed within an epoch goes on from its last step, with the same result."""
    config = tuning(real, fakes, "loop.epochs=2", "loop.batch_size=8", "loop.save_every=2")
    train(config, tmp_path / "straight")
    with pytest.raises(Stopped):
        train(config, tmp_path / "twice", tell=stop_at(2, 4))
    saved = load_checkpoint(tmp_path / "twice" / "last.pt").training
    assert saved is not None and saved["progress"]["batch"] > 0
    done: list[int] = []
    train(config, tmp_path / "twice", tell=Callbacks(progress=lambda progress: done.append(progress.batch)))
    assert done[0] == saved["progress"]["batch"] + 1
    same_run(tmp_path / "straight", tmp_path / "twice")


CHILD = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
import conftest
from faceembed.trainer.backbones import registry
registry.ARCHITECTURES["tiny"] = registry.Architecture("tiny", conftest.Tiny, conftest.TINY, "7.weight")
from faceembed.trainer.recipes.config import read_config
from faceembed.trainer.loop.train import Callbacks, train
"""


def child(code: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that knows the tiny architecture."""
    program = CHILD.format(tests=str(Path(__file__).parents[1])) + code
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_kill_9(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    """A killed process loses the epoch it was in, nothing else, and leaves no half of a file."""
    config = tuning(real, fakes, "loop.epochs=3")
    train(config, tmp_path / "straight")
    process = child(f"""
import os, signal
from faceembed.trainer.recipes.config import from_toml
def progress(progress):
    if (progress.epoch, progress.batch) == (3, 1):
        os.kill(os.getpid(), signal.SIGKILL)
train(from_toml({str(tmp_path / "straight" / "config.toml")!r}), {str(tmp_path / "twice")!r}, tell=Callbacks(progress=progress))
""")
    assert process.wait(300) == -signal.SIGKILL, process.stderr and process.stderr.read()
    assert [row["epoch"] for row in read_metrics(tmp_path / "twice")] == [0, 1, 2]
    train(config, tmp_path / "twice")
    same_run(tmp_path / "straight", tmp_path / "twice")
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_two_processes_are_one_of_twice_the_batch(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    """Gradients are averaged, batches are divided, every change of a crop is the same."""
    start = train(pretraining(real, "loop.epochs=1"), tmp_path / "start").best
    # Sums in another order differ in the last bits, which Adam would make large: plain SGD.
    both = [
        f"model.start='{start}'",
        "optimizer.name=sgd",
        "optimizer.momentum=0",
        "loop.epochs=2",
        "optimizer.lr=1e-3",
    ]
    train(tuning(real, fakes, *both, "loop.batch_size=16"), tmp_path / "one")
    overrides = [
        *FAST,
        f"data.crops=['{real}']",
        f"data.fakes=['{fakes}']",
        "model.centre=0",
        "model.balance=false",
        "distillation.weight=0",
        *both,
        "loop.batch_size=8",
    ]
    code = f"train(read_config('finetune', overrides={overrides!r}), {str(tmp_path / 'two')!r})"
    port = str(29500 + os.getpid() % 2000)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    processes = [child(code, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    one, two = (load_checkpoint(tmp_path / name / "last.pt").model for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
    first, second = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [row["loss"] for row in second[1:]] == pytest.approx([row["loss"] for row in first[1:]], rel=1e-4)


def test_a_diverging_loss_stops_with_advice(tiny: ModelSpec, real: str, tmp_path: Path) -> None:
    train(pretraining(real, "loop.epochs=1", "schedule.name=constant"), tmp_path / "a")
    kept = (tmp_path / "a" / "last.pt").read_bytes()
    wild = pretraining(real, "optimizer.lr=1e20", "loop.clip=0", "schedule.name=constant", "schedule.warmup_steps=0")
    with pytest.raises(
        ModelError, match=r"(the loss|the gradient) is (nan|inf) .*; try a lower optimizer.lr .now 1e\+20"
    ) as caught:
        train(wild, tmp_path / "b")
    assert "\n" not in str(caught.value) and "checkpoints of epoch" in str(caught.value)
    saved = load_checkpoint(tmp_path / "b" / "last.pt")
    assert saved.training and all(torch.isfinite(value).all() for value in saved.model.values())
    assert (tmp_path / "a" / "last.pt").read_bytes() == kept


def test_a_growing_loss_stops_with_advice(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    config = tuning(real, fakes, "loss.name=contrastive", "loop.diverged=0.2", "loop.epochs=30", "loop.batch_size=8")
    with pytest.raises(ModelError, match=r"the loss diverges: .* lower optimizer.lr"):
        train(config, tmp_path / "a")


def test_a_full_disk_keeps_the_old_checkpoint(
    tiny: ModelSpec, real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pretraining(real)
    with pytest.raises(Stopped):
        train(config, tmp_path / "a", tell=stop_at(3, 1))
    kept = (tmp_path / "a" / "last.pt").read_bytes()
    write = torch.save

    def full(content: Any, file: Any) -> None:
        file.write(b"a part of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(ModelError, match=r"the disk is full.*the same command goes on from last.pt") as caught:
        train(config, tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a" / "last.pt").read_bytes() == kept
    assert not list((tmp_path / "a").glob(".*.tmp"))
    monkeypatch.setattr(checkpoints.torch, "save", write)
    assert train(config, tmp_path / "a").epochs == 4


def test_other_settings_are_no_continuation(tiny: ModelSpec, real: str, tmp_path: Path) -> None:
    train(pretraining(real, "loop.epochs=1"), tmp_path / "a")
    with pytest.raises(UsageError, match=r"last.pt was made with optimizer.lr = 0.02, now it is 0.5; .*--fresh"):
        train(pretraining(real, "optimizer.lr=0.5"), tmp_path / "a")
    assert train(pretraining(real, "loop.epochs=2"), tmp_path / "a").epochs == 2  # more epochs are welcome
    assert train(pretraining(real, "optimizer.lr=0.5", "loop.epochs=1"), tmp_path / "a", fresh=True).epochs == 1


def test_other_crops_are_no_continuation(tiny: ModelSpec, make_crops: MakeCrops, tmp_path: Path) -> None:
    train(pretraining(make_crops("real"), "loop.epochs=1"), tmp_path / "a")
    with pytest.raises(ModelError, match="40 crops of 8 people, 6 to tell apart, and there is 54 crops of 9 people"):
        train(pretraining(make_crops("real", people=range(9), photos=6), "loop.epochs=2"), tmp_path / "a")


def test_unreadable_crops_are_listed(tiny: ModelSpec, real: str, tmp_path: Path) -> None:
    (Path(real) / "p00" / "1.png").write_bytes(b"no picture")
    (Path(real) / "p05" / "2.png").unlink()
    lines: list[str] = []
    report = train(pretraining(real, "loop.epochs=1"), tmp_path / "a", tell=Callbacks(notice=lines.append))
    assert report.unreadable == 2
    assert "2 crops cannot be read and are left out" in lines[0]
    listed = (tmp_path / "a" / "unreadable.csv").read_text().splitlines()
    assert len(listed) == 3 and "p00/1.png" in listed[1] and "p05/2.png" in listed[2]
    with pytest.raises(DataError, match=r"p0\d/\d.png cannot be used .*data.check = true"):
        train(pretraining(real, "loop.epochs=1", "data.check=false"), tmp_path / "b")


def cases(make: MakeCrops, tmp_path: Path) -> dict[str, tuple[type[FaceEmbedError], str, Callable[[], TrainConfig]]]:
    """Bad input: what is raised, what it says, and the config that asks for it."""

    def split(train: list[str], validate: list[str]) -> str:
        write_split(tmp_path / "split.json", {"train": tuple(train), "validate": tuple(validate), "test": ()})
        return f"data.split='{tmp_path / 'split.json'}'"

    people = [f"p{number:02d}" for number in range(8)]
    wide = ModelSpec("wide", "encoder", (32, 32), dimension=8, template=TEMPLATE)
    turned = ModelSpec("turned", "encoder", (24, 24), dimension=8, template=TEMPLATE)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path_a,path_b,label\nnix/a.jpg,nix/b.jpg,1\nnix/a.jpg,nix/c.jpg,0\n")
    return {
        "no crops": (
            DataError,
            "no crops to train on: give data.crops",
            lambda: pretraining(make("a"), "data.crops=[]"),
        ),
        "no crop set": (DataError, "is not a crop set", lambda: pretraining(str(tmp_path / "nix"))),
        "empty": (DataError, "they are empty", lambda: pretraining(make("a", people=()))),
        "one person": (DataError, "the crops show 1 person", lambda: pretraining(make("a", people=[3]))),
        "few people": (DataError, "leave fewer than two to train", lambda: pretraining(make("a", people=range(3)))),
        "one photo each": (DataError, "nobody has two real photos", lambda: pretraining(make("a", photos=1))),
        "one photo to train": (
            DataError,
            "each of the 6 people has one photo only",
            lambda: pretraining(_thinned(make("a", photos=2), people[:6]), split(people[:6], people[6:])),
        ),
        "nobody to train": (
            DataError,
            "none of its train people is in",
            lambda: pretraining(make("a"), split(["x"], people)),
        ),
        "leak": (DataError, "is listed twice", lambda: pretraining(make("a"), _raw_split(tmp_path, people))),
        "extra leak": (
            DataError,
            "2 people of data.extra are to validate",
            lambda: pretraining(make("a"), f"data.extra=['{make('b', people=(6, 7))}']", split(people[:6], people[6:])),
        ),
        "excluded": (
            DataError,
            "all of their people are excluded",
            lambda: pretraining(make("a"), f"data.exclude={people}"),
        ),
        "size": (
            DataError,
            "crops of 32x32 .made for wide., but tiny takes 24x24; align again with --encoder tiny",
            lambda: pretraining(make("a", spec=wide)),
        ),
        "template": (DataError, "was cut with another template", lambda: pretraining(make("a", spec=turned))),
        "fakes as real": (
            DataError,
            "40 deepfakes, but was given as data.crops",
            lambda: pretraining(make("a", methods=("x",))),
        ),
        "no fakes": (DataError, "no pairs of kind fake", lambda: tuning(make("a"), "", "data.fakes=[]")),
        "unknown method": (
            DataError,
            "data.leave_out names 'nix', but the fakes are of swap method",
            lambda: tuning(make("a"), make("f", methods=("swap",)), "data.leave_out=['nix']"),
        ),
        "strange pairs": (
            DataError,
            "3 of 3 photos are in none of the crop sets",
            lambda: pretraining(make("a"), f"validation.pairs='{pairs}'"),
        ),
        "trained validation": (
            DataError,
            "people are in the validation pairs and trained on",
            lambda: pretraining(make("a"), f"validation.pairs='{_listed(tmp_path)}'"),
        ),
        "other architecture": (
            ModelError,
            "holds 'tiny', not 'resnet29'; change model.arch or leave it out",
            lambda: tuning(
                make("a"), make("f", methods=("x",)), f"model.start='{_saved(tmp_path)}'", "model.arch=resnet29"
            ),
        ),
        "other dimension": (
            UsageError,
            "model.dimension is 99, but .* has 16",
            lambda: tuning(
                make("a"), make("f", methods=("x",)), f"model.start='{_saved(tmp_path)}'", "model.dimension=99"
            ),
        ),
        "no start": (ModelError, "nix.pt", lambda: tuning(make("a"), "", "model.start=nix.pt")),
        "fp16": (DeviceError, "trains on CUDA devices only", lambda: pretraining(make("a"), "loop.precision=fp16")),
        "device": (DeviceError, "loop.device is 'tpu'", lambda: pretraining(make("a"), "loop.device=tpu")),
    }


TEMPLATE = ((8.0, 10.0), (16.0, 9.0), (11.5, 13.0), (8.0, 17.0), (15.0, 17.0))
NAMES = [
    *("no crops", "no crop set", "empty", "one person", "few people", "one photo each", "one photo to train"),
    *("nobody to train", "leak", "extra leak", "excluded", "size", "template", "fakes as real", "no fakes"),
    *("unknown method", "strange pairs", "trained validation", "other architecture", "other dimension", "no start"),
    *("fp16", "device"),
]


@pytest.mark.parametrize("name", NAMES)
def test_bad_input(tiny: ModelSpec, make_crops: MakeCrops, tmp_path: Path, name: str) -> None:
    every = cases(make_crops, tmp_path)
    assert list(every) == NAMES
    kind, message, config = every[name]
    with pytest.raises(kind, match=message) as caught:
        train(config(), tmp_path / "run")
    assert "\n" not in str(caught.value)


def _thinned(folder: str, people: list[str]) -> str:
    """Leave these people one photo."""
    from faceembed.trainer.data.crops import read_crops, write_crops

    found = read_crops(folder)
    rows = [row for row in found.rows if row.person not in people or row.crop.endswith("0.png")]
    write_crops(folder, rows, found.info)
    return folder


def _raw_split(tmp_path: Path, people: list[str]) -> str:
    names = str(people).replace("'", '"')
    (tmp_path / "raw.json").write_text(f'{{"train": {names}, "validate": {names}, "test": []}}')
    return f"data.split='{tmp_path / 'raw.json'}'"


def _listed(tmp_path: Path) -> str:
    """A list over everybody, who would then all be trained on too."""
    rows = [f"a/p{p:02d}/0.png,a/p{p:02d}/1.png,1\na/p{p:02d}/0.png,a/p{(p + 1) % 8:02d}/0.png,0" for p in range(8)]
    (tmp_path / "all.csv").write_text("path_a,path_b,label\n" + "\n".join(rows) + "\n")
    return str(tmp_path / "all.csv")


def _saved(tmp_path: Path) -> str:
    from faceembed.trainer.backbones.registry import ARCHITECTURES, build

    path = tmp_path / "start.pt"
    spec, model = ARCHITECTURES["tiny"].spec, build("tiny")
    checkpoints.save_checkpoint(path, arch="tiny", dimension=16, spec=spec, model=model.state_dict())
    return str(path)


def test_a_list_of_pairs_validates(tiny: ModelSpec, make_crops: MakeCrops, tmp_path: Path) -> None:
    """Paths may be those of crops or of the photos they were cut from; their people are in no training pair."""
    crops = make_crops("a")
    names = [f"p{number:02d}" for number in range(8)]
    write_split(tmp_path / "split.json", {"train": tuple(names[:6]), "validate": tuple(names[6:]), "test": ()})
    rows = ["a/p06/0.png,/photos/a/6/1.jpg,1", "a/p07/0.png,a/p07/3.png,1", "a/p06/0.png,a/p07/0.png,0"]
    (tmp_path / "pairs.csv").write_text("path_a,path_b,label\n" + "\n".join(rows) + "\n")
    split, pairs = f"data.split='{tmp_path / 'split.json'}'", f"validation.pairs='{tmp_path / 'pairs.csv'}'"
    train(pretraining(crops, "loop.epochs=1", split, pairs), tmp_path / "run")
    assert len(read_pairs(tmp_path / "run" / "validation.csv")) == 3


def test_early_stop_and_extra_people(tiny: ModelSpec, make_crops: MakeCrops, tmp_path: Path) -> None:
    crops, extra = make_crops("a"), make_crops("b", people=range(20, 24), photos=2)
    lines: list[str] = []
    config = pretraining(
        crops,
        f"data.extra=['{extra}']",
        "loop.stop_after=2",
        "loop.epochs=50",
        "schedule.name=constant",
        "optimizer.lr=1e-9",
    )
    report = train(config, tmp_path / "run", tell=Callbacks(notice=lines.append))
    assert report.people == 6 + 4 and report.crops == 6 * 5 + 4 * 2
    few = [f"data.extra=['{extra}']", "data.min_photos=3", "loop.epochs=1"]
    thinned = train(pretraining(crops, *few), tmp_path / "thinned")
    assert thinned.people == 6 and thinned.crops == 6 * 5
    assert report.epochs < 50 and f"stopped after epoch {report.epochs}: no better EER for 2 epochs" in lines[-1]


def test_compare(tiny: ModelSpec, real: str, fakes: str, tmp_path: Path) -> None:
    runs: list[TrainReport] = []
    start = train(pretraining(real, "loop.epochs=1"), tmp_path / "start").best
    for name in ("frozen-body", "triplet-only", "heavy-augmentation"):
        given = [f"data.crops=['{real}']", f"data.fakes=['{fakes}']", f"model.start='{start}'", "loop.epochs=1"]
        runs.append(train(read_config("finetune", name, overrides=[*FAST, *given]), tmp_path / name))
    text = table(compare_runs([run.folder for run in runs]))
    lines = text.splitlines()
    assert lines[0].split() == ["run", "epoch", "eer", "eer_other", "eer_fake", "val_accuracy", "error_real_deepfake"]
    assert sum("(start)" in line for line in lines) == 1  # all of them started from the same network
    assert sum("(best)" in line for line in lines) == 3
    with pytest.raises(DataError, match="validated on other pairs"):
        compare_runs([runs[0].folder, tmp_path / "start"])
    with pytest.raises(DataError, match="not the folder of a training"):
        compare_runs([tmp_path])
