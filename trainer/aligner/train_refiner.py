"""Training the refiner: disturbed crops of labelled faces in, exact landmarks out.

    train_refiner(config, "runs/aligner", notice=print)

The folder of the run gets ``refiner.pt`` at every thousand steps and at the end; an interrupted training goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from faceembed.engine.detect.refine import EYES
from faceembed.engine.models.registry import resolve
from faceembed.errors import DataError, ModelError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.aligner.config import AlignerConfig, from_dict
from faceembed.trainer.aligner.false_alarms import find_false_alarms
from faceembed.trainer.aligner.initial import load_weights, open_norms
from faceembed.trainer.aligner.labels import read_labels
from faceembed.trainer.aligner.loop import learning_rate, mix, read_checkpoint, to_network
from faceembed.trainer.aligner.network import AlignerNet
from faceembed.trainer.aligner.refiner import Faces, RefinerNet, cut_faces, refiner_loss
from faceembed.trainer.aligner.train import LAST, load_network

FILE = "refiner.pt"
FORMAT = "faceembed-refiner"
SAVE_EVERY = 1000
SAY_EVERY = 100
_HELD_OUT_SEED = 1 << 20
_HELD_OUT = 1024
_MEASURED = 256  # crops that the normalisations of weights to start from are measured on


def train_refiner(config: AlignerConfig, folder: str | os.PathLike[str], *, notice: Callable[[str], None]) -> Path:
    """Train, or go on with a training.

    Args:
        config: every setting.
        folder: of the run.
        notice: called with lines for the user.

    Returns:
        The checkpoint.

    Raises:
        DataError: no faces to learn from.
        UsageError: the folder holds a training with other settings.
    """
    s, path = config.refiner, Path(folder) / FILE
    torch.manual_seed(config.seed)
    model = RefinerNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = RefinerNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.lr, weight_decay=0.01)
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    step = 0
    if path.exists():
        content = read_checkpoint(path, FORMAT)
        before = json.loads(json.dumps(dataclasses.asdict(from_dict(content["config"], where=os.fspath(path)))))
        if any(before[table] != settings[table] for table in ("refiner", "augment", "seed")):
            raise UsageError(f"{path} holds a training with other settings; give another folder, or the same settings")
        model.load_state_dict(content["model"])
        average.load_state_dict(content["average"])
        optimizer.load_state_dict(content["optimizer"])
        step = content["step"]
    if step >= s.steps:
        return path
    network, _ = load_network(Path(folder) / LAST)
    learnt = _samples(network, config, config.data.labels, config.seed, s.steps * s.batch_size, notice)
    if step == 0 and config.loop.start:
        load_weights(resolve(config.loop.start, task="aligner"), AlignerNet(config.network), model)
        open_norms(model, torch.stack([learnt[len(learnt) + number][0] for number in range(_MEASURED)]))
        notice(f"refiner: starting from the weights of {config.loop.start}")
    if step == 0:
        average.load_state_dict(model.state_dict())
    held_out = None
    if config.data.validate:
        held_out = _samples(network, config, config.data.validate, _HELD_OUT_SEED, _HELD_OUT, notice)
    loader = DataLoader(
        learnt,
        batch_size=s.batch_size,
        sampler=range(step * s.batch_size, len(learnt)),
        num_workers=config.data.workers,
        prefetch_factor=8 if config.data.workers else None,
    )
    total, began, first = 0.0, time.monotonic(), step
    model.train()
    for crops, wanted in loader:
        for group in optimizer.param_groups:
            group["lr"] = s.lr * learning_rate(step, s.steps, min(200, s.steps // 10 + 1))
        loss, distance = refiner_loss(model(to_network(crops)), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        mix(average, model, min(config.loop.ema, (1 + step) / (10 + step)))
        total += distance.item()
        if step % SAY_EVERY == 0:
            rate = (step - first) * s.batch_size / (time.monotonic() - began)
            notice(
                f"refiner: step {step:,}/{s.steps:,} · {rate:.0f} faces/s · {100 * total / SAY_EVERY / EYES:.2f} % of the eyes' distance"
            )
            total = 0.0
        if step % SAVE_EVERY == 0 or step == s.steps:
            if held_out is not None:
                notice(_validate(average, held_out))
            content = {
                "format": FORMAT,
                "config": settings,
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
            }
            with atomic_write(path) as file:
                torch.save(content, file)
    return path


def load_refiner(path: str | os.PathLike[str]) -> tuple[RefinerNet, AlignerConfig]:
    """The averaged network of a checkpoint.

    Raises:
        ModelError: not such a file.
    """
    content = read_checkpoint(Path(path), FORMAT)
    network = RefinerNet()
    try:
        network.load_state_dict(content["average"])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path} holds another network ({type(error).__name__})") from error
    return network.eval(), from_dict(content["config"], where=os.fspath(path))


def _samples(
    network: AlignerNet,
    config: AlignerConfig,
    files: tuple[str, ...],
    seed: int,
    length: int,
    notice: Callable[[str], None],
) -> Faces:
    faces = cut_faces([photo for file in files for photo in read_labels(file)], config.refiner.smallest)
    if not len(faces.marks):
        raise DataError(f"no face of {config.refiner.smallest:.0f} pixels or more in {', '.join(files)}")
    false = find_false_alarms(network, config, files)
    notice(f"refiner: {len(faces.marks):,} faces, {len(false.marks):,} false alarms of the one-shot network")
    return Faces(faces, false, config.refiner, config.augment, seed=seed, length=length)


@torch.no_grad()
def _validate(average: nn.Module, held_out: Faces) -> str:
    """One line: how far landmarks are off, and how often a face is taken for none and the other way round."""
    average.eval()
    columns = zip(*(held_out[index] for index in range(len(held_out))), strict=True)
    crops, wanted = (torch.stack(column) for column in columns)
    answers: Tensor = average(to_network(crops))
    real = wanted[:, 0] > 0
    apart = (answers - wanted)[real, 1:].reshape(-1, 5, 2).norm(dim=2).mean().item()
    refused = (answers[real, 0] < 0).float().mean().item()
    taken = (answers[~real, 0] >= 0).float().mean().item()
    return (
        f"refiner, held out: {100 * apart / EYES:.2f} % of the eyes' distance; {100 * refused:.1f} % of the faces refused, "
        f"{100 * taken:.1f} % of the false alarms taken"
    )
