"""What a training writes beside its checkpoints, into the folder of the run.

config.toml         every setting, as it was in effect
metrics.csv         a row an epoch, the start as epoch 0; equal for equal runs, bit for bit
speed.csv           how fast each epoch was, and what share of it was spent waiting for crops
training.png        losses and error rates over the epochs
tensorboard/        the same for TensorBoard, and the loss of every step
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceembed.errors import DataError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.loop.state import Row

METRICS, SPEED, PLOT, CONFIG = "metrics.csv", "speed.csv", "training.png", "config.toml"


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file, whole or not at all; None is an empty cell and a float has all of its digits."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(["" if row.get(name) is None else row[name] for name in columns])


def read_metrics(folder: str | os.PathLike[str]) -> list[Row]:
    """The rows of a run's metrics.csv.

    Raises:
        DataError: there is none, or it is damaged.
    """
    rows = read_rows(Path(folder) / METRICS)
    if not rows or not {"epoch", "eer"} <= set(rows[0]):
        raise DataError(f"{folder} is not the folder of a training: it has no {METRICS}, or one without rows")
    return rows


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote; none where there is no such file.

    Raises:
        DataError: it is damaged.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it, the same training writes it anew") from error


def _number(cell: str) -> float | int | None:
    if not cell:
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


class Curves:
    """Curves for TensorBoard; does nothing where they are not wanted.

    Args:
        folder: of the run.
        wanted: `loop.tensorboard`.
        step: first step that this process writes; later ones of an interrupted run are dropped.

    Raises:
        UsageError: wanted, and the package is missing.
    """

    def __init__(self, folder: Path, *, wanted: bool, step: int) -> None:
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "TensorBoard is not installed; run: pip install tensorboard, or --set loop.tensorboard=false"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)

    def add(self, prefix: str, values: Mapping[str, float | int | None], step: int) -> None:
        """One point on each curve."""
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(f"{prefix}/{name}", value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
