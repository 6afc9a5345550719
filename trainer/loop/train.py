"""`faceembed train`: from settings to a trained network, in a folder of its own.

    result = train(read_config("finetune", "mine.toml"), "runs/a")
    result.best_eer, result.best                              # 0.031, 'runs/a/best.pt'

Run again on the same folder, it goes on where it was stopped.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from faceembed.engine.photos.photo_file import encode_path
from faceembed.errors import UsageError
from faceembed.files import atomic_write
from faceembed.outputs import check_folder
from faceembed.trainer.backbones.batch_norm import calibrate_batch_norm
from faceembed.trainer.backbones.registry import find, preprocess
from faceembed.trainer.batches.dataset import CropCache, Crops, Indices, Parts, divide, loader_threads, open_crops
from faceembed.trainer.batches.targets import Targets, read_targets
from faceembed.trainer.batches.tasks import ClassTask, PairTask
from faceembed.trainer.loop import runlog
from faceembed.trainer.loop.balance import balance_weights
from faceembed.trainer.loop.centre import centre_embeddings
from faceembed.trainer.loop.devices import open_accelerator, settle
from faceembed.trainer.loop.epochs import Loop, TrainProgress
from faceembed.trainer.loop.fit import fit_start
from faceembed.trainer.loop.keeper import BEST, LAST, Run
from faceembed.trainer.loop.learner import make_learner, wanted_losses
from faceembed.trainer.loop.maps import MAPS, teach_first
from faceembed.trainer.loop.start import Start, gated, make_start, reshaped, trained_spec
from faceembed.trainer.loop.state import Row, seed_everything
from faceembed.trainer.loop.validate import check_leaks, make_validation, write_pairs
from faceembed.trainer.recipes.config import to_toml
from faceembed.trainer.recipes.settings import TrainConfig

UNREADABLE, VALIDATION = "unreadable.csv", "validation.csv"
_FILES = {
    LAST: "checkpoint",
    BEST: "checkpoint",
    runlog.METRICS: "epochs",
    runlog.SPEED: "speeds",
    runlog.PLOT: "picture",
    runlog.CONFIG: "training",
    MAPS: "checkpoint",
    UNREADABLE: "unreadable",
    VALIDATION: "pair list",
}
_SAMPLE_CROPS, _SAMPLE_BATCH = 1024, 64  # for batch statistics and centring
_FIT_CROPS = 4096  # for the embedding layer: 16 for each of its inputs


@dataclasses.dataclass(frozen=True)
class TrainReport:
    """How a training ended."""

    folder: str
    best: str
    """The checkpoint with the lowest EER."""
    epochs: int
    """Epochs done, those of earlier runs included."""
    steps: int
    best_epoch: int
    """0: the start was never bettered."""
    best_eer: float
    start: Row
    """Metrics before training."""
    result: Row
    """Metrics of the best epoch."""
    unreadable: int
    """Crops that could not be read; `unreadable.csv` lists them."""
    people: int
    """Trained on."""
    crops: int

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """What is told while a training runs."""

    notice: Callable[[str], None] = lambda line: None
    progress: Callable[[TrainProgress], None] = lambda progress: None
    checked: Callable[[int, int], None] = lambda done, total: None
    """Crops decoded before training, and how many there are."""


def train(
    config: TrainConfig, folder: str | os.PathLike[str], *, fresh: bool = False, tell: Callbacks | None = None
) -> TrainReport:
    """Train, or go on training.

    Args:
        config: all settings.
        folder: where everything is written; made if need be. Holds one training.
        fresh: remove what an earlier one left there.
        tell: who is told.

    Raises:
        DataError: crops that cannot be trained on.
        UsageError: settings that cannot be met, or that differ from those of the run that the folder holds; or a file there that is
            not ours.
        ModelError: a start that cannot be used, a loss that diverges, a checkpoint that cannot be written.
        DeviceError: a device that is not there.
    """
    tell = tell or Callbacks()
    wanted_losses(config)  # a slip there need not wait for the crops to be read
    run = Path(folder)
    config = dataclasses.replace(config, loop=settle(config.loop, notice=tell.notice))
    with open_accelerator(config.loop) as accelerator:
        if not accelerator.is_main_process:
            tell = Callbacks()
        else:
            _make_folder(run, fresh=fresh)
        accelerator.wait_for_everyone()
        return _train(config, run, tell, accelerator)


def _train(config: TrainConfig, folder: Path, tell: Callbacks, accelerator: Accelerator) -> TrainReport:
    seed_everything(config.seed)
    start = make_start(config.model)
    crops = open_crops(config.data, start.spec)
    parts = divide(crops, config)
    cache = CropCache(crops, limit_mb=config.data.cache_mb)
    unreadable: dict[int, str] = {}
    if config.data.check:
        used = np.unique(np.r_[parts.train, parts.validate, parts.alone])
        unreadable = cache.unreadable(used, threads=loader_threads(config.data), progress=tell.checked)
        parts = Parts(*(_without(part, unreadable) for part in (parts.train, parts.validate, parts.alone)))
    validation = make_validation(crops, parts, config, unreadable=unreadable)
    check_leaks(crops, parts.train, validation)
    targets = _targets(config, crops, start, tell.notice) if config.taught else None
    task: ClassTask | PairTask
    if config.task == "pretrain":
        task = ClassTask(cache, parts.train, config, targets=targets)
    else:
        task = PairTask(cache, parts.train, config)
    real = parts.train[~crops.fake[parts.train]]
    if config.maps.total:
        teach_first(start, cache, config, folder, processes=accelerator.num_processes, notice=tell.notice)
    if config.model.centre:
        _centre(start, cache, real, accelerator.device, share=config.model.centre, notice=tell.notice)
    if config.model.balance:
        start.body.to(accelerator.device)
        example = next(_sample(start, cache, real[:1], accelerator.device))
        layers = balance_weights(start.body, find(start.arch).last, example)
        tell.notice(f"the start is balanced: {layers} layers had weights smaller than usual")
    if targets is not None and config.model.start and not config.maps.total:  # else it has its teacher's own
        start.body.to(accelerator.device)
        chosen = _evenly(task.crops, _FIT_CROPS)
        inputs, wanted = _inputs(start, cache, chosen, accelerator.device), torch.from_numpy(targets.vectors[chosen])
        cosine = fit_start(start.body, find(start.arch).last, inputs, wanted)
        tell.notice(f"the embedding layer is fitted to the teachers: cosine {cosine:.3f} on {len(chosen):,} crops")
    if config.model.reduce or config.model.apart:
        chosen = _evenly(real, _FIT_CROPS)
        start = reshaped(start, config.model, _inputs(start, cache, chosen, accelerator.device))
        tell.notice(
            f"the start's embedding is {start.arch}'s now, of {start.spec.dimension} numbers: from {len(chosen):,} crops"
        )
    if config.model.gate:
        start = gated(start)
    spec = trained_spec(start, config.model)
    learner = make_learner(config, start, classes=task.classes)
    loop = Loop(
        config,
        learner,
        task,
        validation,
        cache,
        run=Run(folder, start.arch, spec, tell.notice),
        accelerator=accelerator,
    )
    resumed = loop.resume()
    if accelerator.is_main_process:
        (folder / runlog.CONFIG).write_text(to_toml(config), encoding="utf-8")
        write_pairs(folder / VALIDATION, crops, validation.pairs)
        _write_unreadable(folder / UNREADABLE, crops, unreadable)
    used = task.crops
    real = used[~crops.fake[used]]
    people = len(np.unique(crops.person[real])) if targets is None else task.classes
    if unreadable:
        tell.notice(f"{len(unreadable):,} crops cannot be read and are left out: see {folder / UNREADABLE}")
    tell.notice(
        f"{'going on after epoch ' + str(loop.state.epoch) + ': ' if resumed else ''}{people:,} people, {len(real):,} crops, "
        f"{len(used) - len(real):,} fakes; validation: {len(validation.pairs):,} pairs of {len(validation.crops):,} crops"
    )
    if config.model.batch_norm == "calibrate" and not resumed:
        calibrate_batch_norm(start.body, _sample(start, cache, real, accelerator.device))
    state = loop.train(tell.progress)
    best = next(row for row in state.rows if row["epoch"] == state.best_epoch)
    return TrainReport(
        folder=encode_path(str(folder)),
        best=encode_path(str(folder / BEST)),
        epochs=state.epoch,
        steps=state.step,
        best_epoch=state.best_epoch,
        best_eer=state.best[0],
        start=state.rows[0],
        result=best,
        unreadable=len(unreadable),
        people=people,
        crops=len(used),
    )


def _targets(config: TrainConfig, crops: Crops, start: Start, notice: Callable[[str], None]) -> Targets:
    targets = read_targets(config.teachers, crops)
    if (dimension := targets.vectors.shape[1]) != start.spec.dimension:
        raise UsageError(
            f"the teachers have {dimension} dimensions together, the network {start.spec.dimension}; set model.dimension = {dimension}, "
            "or take an architecture that has it"
        )
    if targets.missing:
        notice(
            f"{targets.missing:,} of {len(crops):,} crops are not in all teachers' indexes, and are not learned from"
        )
    return targets


def _make_folder(folder: Path, *, fresh: bool) -> None:
    """Make the folder, or see that it is that of a training, or that nobody's files would be lost in it."""
    check_folder(folder, _FILES, home=(LAST, BEST))
    folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for events in (folder / "tensorboard").glob("events.out.tfevents.*"):
            events.unlink()
    elif (folder / BEST).exists() and not (folder / LAST).exists():
        raise UsageError(
            f"{folder} holds {BEST} but no {LAST} to go on from; take another folder, or --fresh, which removes it"
        )


def _without(indices: Indices, unreadable: dict[int, str]) -> Indices:
    return indices[~np.isin(indices, list(unreadable))]


def _write_unreadable(path: Path, crops: Crops, unreadable: dict[int, str]) -> None:
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "person", "reason"))
        for index, reason in sorted(unreadable.items()):
            sample = crops.samples[index]
            writer.writerow((sample.path, sample.person, reason))


def _centre(
    start: Start,
    cache: CropCache,
    real: Indices,
    device: torch.device,
    *,
    share: float,
    notice: Callable[[str], None],
) -> None:
    """Centre the start, and with it the teacher that is copied from it."""
    start.body.to(device)
    done = centre_embeddings(start.body, find(start.arch).last, _sample(start, cache, real, device), share=share)
    notice(f"the start is centred: the mean of its unit embeddings had length {done.before:.2f}, now {done.after:.2f}")


def _sample(start: Start, cache: CropCache, real: Indices, device: torch.device) -> Iterator[torch.Tensor]:
    """Evenly chosen training crops as the network's input."""
    return _inputs(start, cache, _evenly(real, _SAMPLE_CROPS), device)


def _evenly(crops: Indices, count: int) -> Indices:
    return crops[:: max(len(crops) // count, 1)][:count]


def _inputs(start: Start, cache: CropCache, crops: Indices, device: torch.device) -> Iterator[torch.Tensor]:
    for part in (crops[i : i + _SAMPLE_BATCH] for i in range(0, len(crops), _SAMPLE_BATCH)):
        yield preprocess(torch.from_numpy(np.stack([cache[i] for i in part.tolist()])).to(device), start.spec)
