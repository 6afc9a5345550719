"""`faceembed train`: pre-train an encoder, fine-tune it against deepfakes, compare trainings."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from faceembed.cli import said
from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT, Group
from faceembed.cli.options import Output, file_argument, file_option, output_options
from faceembed.cli.reporter import Reporter, clock, per_second
from faceembed.cli.train_aligner import aligner

if TYPE_CHECKING:
    from faceembed.trainer.loop.epochs import TrainProgress
    from faceembed.trainer.loop.train import TrainReport


@click.group(cls=Group)
def train() -> None:
    """Train an encoder on your own people.

    \b
    Example:
        faceembed train pretrain --crops crops -o runs/start
        faceembed train finetune --crops crops --fakes fake-crops --start runs/start/best.pt -o runs/tuned
    """


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        file_option("--config", "-c", "source", metavar="TOML", help="Settings; or the name of a recipe."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="One setting, as optimizer.lr=1e-5; repeatable.",
        ),
        file_option("--crops", multiple=True, metavar="DIR", help="Crop set of real photos (data.crops); repeatable."),
        file_option("--split", metavar="JSON", help="Who trains and who validates (data.split)."),
        file_option(
            "--output", "-o", required=True, metavar="DIR", help="Folder of the run; goes on where one stopped."
        ),
        click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data (loop.epochs)."),
        click.option("--fresh", is_flag=True, help="Start anew where the folder holds a training already."),
        output_options,
    )
    command = click.pass_context(command)
    for option in reversed(options):
        command = option(command)
    return command


@train.command()
@_training_options
def pretrain(ctx: click.Context, **given: Any) -> None:
    """Train an encoder from scratch to tell people apart.

    The settings are those of the recipe 'pretrain' (AdaFace), then of --config, then of the options. The people of the
    split's part 'validate', or a tenth of all, validate every epoch.

    \b
    Example:
        faceembed train pretrain --crops crops --split split.json -o runs/start
        faceembed train pretrain --crops crops --set model.arch=mobilefacenet --set loop.epochs=20 -o runs/mobile
    """
    _run(ctx, "pretrain", **given)


@train.command()
@file_option("--fakes", multiple=True, metavar="DIR", help="Crop set of deepfakes (data.fakes); repeatable.")
@file_option("--start", metavar="CHECKPOINT", help="What to start from (model.start), or 'dlib-resnet'.")
@_training_options
def finetune(ctx: click.Context, **given: Any) -> None:
    """Train an encoder on pairs, so that a person and their deepfake are two people.

    The settings are those of the recipe 'finetune' (Adaptive Margin, small steps, held by the frozen start), then of
    --config, then of the options. Other recipes: strong (larger steps, more deepfakes); dead ends to compare with are
    triplet-only, no-pretraining, frozen-body and heavy-augmentation.

    \b
    Example:
        faceembed train finetune --crops crops --fakes fake-crops --split split.json -o runs/tuned
        faceembed train finetune -c strong --crops crops --fakes fake-crops --split split.json -o runs/strong
        faceembed train finetune -c frozen-body --crops crops --fakes fake-crops -o runs/frozen
    """
    _run(ctx, "finetune", **given)


@train.command()
@file_argument("runs", nargs=-1, required=True)
@output_options
def compare(runs: tuple[str, ...], out: Output) -> None:
    """Put several trainings into one table: before, and at the epoch with the lowest EER.

    \b
    Example:
        faceembed train compare runs/tuned runs/frozen
    """
    from faceembed.trainer.loop.compare import compare_runs, table

    compared = compare_runs(runs)
    out.result([row.to_json_dict() for row in compared], table(compared))


train.add_command(aligner)


def _run(
    ctx: click.Context,
    task: str,
    *,
    source: str | None,
    overrides: tuple[str, ...],
    output: str,
    fresh: bool,
    out: Output,
    **short: Any,
) -> None:
    from faceembed.trainer.loop.train import Callbacks, train
    from faceembed.trainer.recipes.config import read_config

    ctx.meta[OUTPUT] = output
    ctx.meta[AFTER_INTERRUPT] = "Finished epochs are kept; the same command goes on from there."
    config = read_config(task, source or "", overrides=[*_short(short), *overrides])
    with _reporter(out) as reporter:
        tell = Callbacks(reporter.notice, reporter.training, reporter.checking)
        report = train(config, output, fresh=fresh, tell=tell)
    out.result(report.to_json_dict(), _summary(report))


_SHORT = {
    "crops": "data.crops",
    "fakes": "data.fakes",
    "split": "data.split",
    "start": "model.start",
    "epochs": "loop.epochs",
}


def _short(options: dict[str, Any]) -> Iterator[str]:
    """The options that stand for a setting, as if they were given with --set."""
    for name, value in options.items():
        if value is not None and value != ():
            yield f"{_SHORT[name]}={json.dumps(list(value) if isinstance(value, tuple) else value)}"


class _TrainReporter(Reporter):
    """The same bar over the batches of an epoch."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._started = time.monotonic()
        self._epoch, self._first = -1, 0

    def training(self, progress: TrainProgress) -> None:
        """Say how far an epoch is."""
        now = time.monotonic()
        if progress.epoch != self._epoch:  # its first batch pays for what is built at first use
            self._epoch, self._first, self._started = progress.epoch, progress.items, now
        passed, done = now - self._started, progress.items - self._first
        self._show(progress.batch, progress.batches, train_status(progress, done / passed if passed > 0 else 0.0))

    def checking(self, done: int, total: int) -> None:
        """Say how many crops were decoded before training."""
        self._show(done, total, f"reading crops: {done:,}/{total:,}")


def train_status(progress: TrainProgress, rate: float) -> str:
    """One line: ``epoch 3/20 · batch 12/56 · 312 crops/s · 0:12 left · loss 1.234 · EER 3.21 %``."""
    parts = [f"epoch {progress.epoch}/{progress.epochs}", f"batch {progress.batch:,}/{progress.batches:,}"]
    if rate > 0:
        size = progress.items / max(progress.batch, 1)
        left = (progress.batches - progress.batch) * size / rate
        parts += [f"{progress.unit} {per_second(rate)}", f"{clock(left)} left in the epoch"]
    parts.append(f"loss {progress.loss:.4g}")
    if progress.eer is not None:
        parts.append(f"EER {100 * progress.eer:.2f} %")
    return " · ".join(parts)


@contextlib.contextmanager
def _reporter(out: Output) -> Iterator[_TrainReporter]:
    reporter = _TrainReporter(quiet=out.quiet)
    try:
        yield reporter
    finally:
        reporter.close()


def _summary(report: TrainReport) -> str:
    best = os.path.relpath(report.best)
    lines = [
        f"{report.epochs:,} epochs, {report.steps:,} steps on {said.people(report.people)}, {report.crops:,} crops"
    ]
    if report.unreadable:
        lines.append(
            f"{report.unreadable:,} crops could not be read: see {os.path.relpath(report.folder)}/unreadable.csv"
        )
    for name, label in (("eer", "EER"), ("eer_other", "  other people"), ("eer_fake", "  deepfakes")):
        before, after = report.start.get(name), report.result.get(name)
        if before is not None and after is not None:
            lines.append(f"{label:<16}{100 * before:6.2f} % before, {100 * after:.2f} % in epoch {report.best_epoch}")
    if not report.best_epoch:
        lines.append("no epoch was better than the start, which is what the checkpoint holds")
    lines.append(f"make it a model: faceembed export {best} -o encoder.onnx")
    return "\n".join(lines)
