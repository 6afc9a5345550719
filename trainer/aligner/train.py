"""Training an aligner: scenes in, one network out.

    train(config, "runs/aligner", notice=print)

The folder of a run holds ``last.pt`` (everything a continuation needs), ``metrics.csv`` (a row a validation) and ``config.json``.
A training that was interrupted goes on from ``last.pt`` when it is started again, with the scenes it would have seen.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceembed.engine.models.registry import resolve
from faceembed.errors import DataError, UsageError
from faceembed.files import atomic_write
from faceembed.outputs import check_folder
from faceembed.trainer.aligner.batches import VIEWS, Scenes, batches
from faceembed.trainer.aligner.config import AlignerConfig, from_dict
from faceembed.trainer.aligner.initial import load_weights, open_norms
from faceembed.trainer.aligner.labels import LabelledPhoto, read_labels
from faceembed.trainer.aligner.loop import learning_rate, mix, read_checkpoint, to_network
from faceembed.trainer.aligner.loss import aligner_loss, flatten
from faceembed.trainer.aligner.network import AlignerNet
from faceembed.trainer.aligner.refiner import RefinerNet
from faceembed.trainer.aligner.scenes import Composer
from faceembed.trainer.aligner.targets import points
from faceembed.trainer.batches.augment import generator

LAST, METRICS, CONFIG = "last.pt", "metrics.csv", "config.json"
_FILES = {LAST: "checkpoint", METRICS: "aligner steps", CONFIG: "aligner training"}
FORMAT = "faceembed-aligner"
LOSSES = ("loss", "score", "box", "landmarks")
HELD_OUT_SCENES = 192  # composed of the validation photos, always the same
_HELD_OUT_SEED = 1 << 20
_MEASURED_SCENES = 64  # that the normalisations of weights to start from are measured on

Notice = Callable[[str], None]


@dataclasses.dataclass
class Run:
    """What moves while an aligner trains."""

    model: nn.Module
    average: nn.Module
    """The moving average of the weights."""
    optimizer: torch.optim.Optimizer
    step: int = 0
    rows: list[dict[str, float]] = dataclasses.field(default_factory=list)


def train(config: AlignerConfig, folder: str | os.PathLike[str], *, notice: Notice) -> Path:
    """Train, or go on with a training.

    Args:
        config: every setting.
        folder: of the run; made if it is not there.
        notice: called with lines for the user.

    Returns:
        The checkpoint.

    Raises:
        DataError: no faces to learn from, or a folder that holds something else.
        UsageError: settings that contradict each other, or those of another training.
    """
    run_folder = Path(folder)
    check_folder(run_folder, _FILES, home=(LAST,))
    run_folder.mkdir(parents=True, exist_ok=True)
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    torch.manual_seed(config.seed)
    scenes = Scenes(composer(config, config.data.labels), config)
    run = _start(config, run_folder, scenes, notice)
    held_out = _held_out(config) if config.data.validate else None
    places, strides = (torch.from_numpy(array) for array in points(config.scenes.side, config.scenes.side))
    sums, began, first = np.zeros(len(LOSSES)), time.monotonic(), run.step
    for pixels, state, values in batches(scenes, config, first=run.step):
        sums += _step(run, config, pixels, state, values, places, strides)
        if run.step % 50 == 0:
            rate = (run.step - first) * config.loop.batch_size / (time.monotonic() - began)
            said = " ".join(f"{name} {value:.4f}" for name, value in zip(LOSSES, sums / 50, strict=True))
            notice(f"step {run.step:,}/{config.loop.steps:,} · {rate:.0f} scenes/s · {said}")
            sums[:] = 0
        if run.step % config.loop.validate_every == 0 or run.step == config.loop.steps:
            if held_out is not None:
                run.rows.append(_validate(run, config, held_out, places, strides))
                notice("held out: " + " ".join(f"{name} {value:.4f}" for name, value in run.rows[-1].items()))
            _save(run, config, run_folder)
    return run_folder / LAST


def composer(config: AlignerConfig, files: Sequence[str]) -> Composer:
    """Composes scenes of the photos in label files.

    Raises:
        DataError: no face in them, or none of a group that is to be drawn.
    """
    if not files:
        raise UsageError("data.labels is empty: name files of face labels (made with: faceembed data faces)")
    photos = [photo for file in files for photo in read_labels(file) if _useful(photo, config.data.empty)]
    groups = config.data.groups or tuple(sorted({photo.group for photo in photos}))
    shares = config.data.shares or (1.0,) * len(groups)
    if len(shares) != len(groups):
        raise UsageError(f"data.shares has {len(shares)} numbers for {len(groups)} groups; give one each")
    present = {photo.group for photo in photos}
    drawn = {group: share for group, share in zip(groups, shares, strict=True) if group in present}
    if not photos or not drawn:
        advice = (
            f"; they hold {', '.join(sorted(present))}: --set 'data.groups=[]' --set 'data.shares=[]' draws from all"
            if present
            else ""
        )
        raise DataError(f"no faces of {', '.join(groups) or 'any group'} in {', '.join(files)}{advice}")
    return Composer(
        [photo for photo in photos if photo.group in drawn], drawn, config.scenes, memory=config.data.memory
    )


def sample_scenes(config: AlignerConfig, count: int) -> NDArray[np.uint8]:
    """Some scenes of the training, to compare an exported network with this one on: uint8 (N, H, W, 3)."""
    rng = generator(_HELD_OUT_SEED)
    made = composer(dataclasses.replace(config, data=dataclasses.replace(config.data, memory=0.0)), config.data.labels)
    return np.stack([made.compose(rng).pixels for _ in range(count)])


def load_network(path: str | os.PathLike[str]) -> tuple[AlignerNet, AlignerConfig]:
    """The averaged network of a checkpoint.

    Raises:
        ModelError: not such a file.
    """
    content = read_checkpoint(Path(path), FORMAT)
    config = from_dict(content["config"], where=os.fspath(path))
    network = AlignerNet(config.network)
    network.load_state_dict(content["average"])
    return network.eval(), config


def _useful(photo: LabelledPhoto, empty: Sequence[str]) -> bool:
    """A photo without any face that the teacher is sure of may hold one that it missed, unless its group is known to hold none."""
    return len(photo.boxes) > 0 or photo.group in empty


def _start(config: AlignerConfig, folder: Path, scenes: Scenes, notice: Notice) -> Run:
    model = AlignerNet(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    going_on = (folder / LAST).exists()
    if config.loop.start and not going_on:
        load_weights(resolve(config.loop.start, task="aligner"), model, RefinerNet())
        shown = [
            scenes[len(scenes) + number][0] for number in range(_MEASURED_SCENES // VIEWS)
        ]  # none of the training's
        open_norms(model, torch.cat(shown))
        notice(f"starting from the weights of {config.loop.start}")
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.loop.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    run = Run(model, copy.deepcopy(model).eval(), torch.optim.AdamW(groups, lr=config.loop.lr))
    if going_on:
        content = read_checkpoint(folder / LAST, FORMAT)
        _check_same(content["config"], json.loads(json.dumps(dataclasses.asdict(config))), folder)
        run.model.load_state_dict(content["model"])
        run.average.load_state_dict(content["average"])
        run.optimizer.load_state_dict(content["optimizer"])
        run.step, run.rows = content["step"], content["rows"]
        notice(f"going on from step {run.step:,}")
    return run


def _check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with other settings; how long, on how many cores and judged on what may change, and what is the refiner's."""
    before = json.loads(
        json.dumps(dataclasses.asdict(from_dict(before, where=os.fspath(folder))))
    )  # settings since then
    for table, key in (
        ("loop", "steps"),
        ("loop", "threads"),
        ("loop", "validate_every"),
        ("data", "workers"),
        ("data", "validate"),
    ):
        before[table][key] = now[table][key]
    for settings in (before, now):
        settings.pop("refiner", None)  # another network's
    if before != now:
        raise UsageError(f"{folder} holds a training with other settings; give another folder, or the same settings")


def _step(
    run: Run, config: AlignerConfig, pixels: Tensor, state: Tensor, values: Tensor, places: Tensor, strides: Tensor
) -> NDArray[np.float64]:
    loop = config.loop
    rate = learning_rate(run.step, loop.steps, loop.warmup_steps) * loop.lr
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.model.train()
    parts = aligner_loss(flatten(run.model(to_network(pixels))), state, values, places, strides, config.loss)
    run.optimizer.zero_grad(set_to_none=True)
    parts.total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.model.parameters(), loop.clip)
    run.optimizer.step()
    run.step += 1
    mix(run.average, run.model, min(loop.ema, (1 + run.step) / (10 + run.step)))
    numbers = [part.item() for part in (parts.total, parts.score, parts.box, parts.landmarks)]
    if not math.isfinite(numbers[0]):
        raise DataError(f"the loss is {numbers[0]} at step {run.step}; lower loop.lr")
    return np.array(numbers)


def _held_out(config: AlignerConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Scenes of the validation photos, always the same."""
    scenes = Scenes(composer(config, config.data.validate), dataclasses.replace(config, seed=_HELD_OUT_SEED))
    columns = zip(*(scenes[index] for index in range(HELD_OUT_SCENES // VIEWS)), strict=True)
    pixels, state, values = (torch.cat(column) for column in columns)
    return pixels, state, values


@torch.no_grad()
def _validate(
    run: Run, config: AlignerConfig, held_out: tuple[Tensor, Tensor, Tensor], places: Tensor, strides: Tensor
) -> dict[str, float]:
    sums, size = np.zeros(len(LOSSES)), 32
    for start in range(0, HELD_OUT_SCENES, size):
        pixels, state, values = (column[start : start + size] for column in held_out)
        parts = aligner_loss(flatten(run.average(to_network(pixels))), state, values, places, strides, config.loss)
        sums += np.array([part.item() for part in (parts.total, parts.score, parts.box, parts.landmarks)])
    means = sums / math.ceil(HELD_OUT_SCENES / size)
    return {"step": float(run.step), **dict(zip(LOSSES, means.tolist(), strict=True))}


def _save(run: Run, config: AlignerConfig, folder: Path) -> None:
    content = {
        "format": FORMAT,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "rows": run.rows,
    }
    with atomic_write(folder / LAST) as file:
        torch.save(content, file)
    with atomic_write(folder / CONFIG, "w") as file:
        json.dump(content["config"], file, indent=2)
    if run.rows:
        with atomic_write(folder / METRICS, "w") as file:
            writer = csv.DictWriter(file, list(run.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(run.rows)
