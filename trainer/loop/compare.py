"""Several trainings beside each other: what each began with and came to, on its own validation pairs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceembed.errors import DataError
from faceembed.trainer.loop import runlog
from faceembed.trainer.loop.state import Row

_SHOWN = ("eer", "eer_other", "eer_fake", "val_accuracy", "error_real_deepfake")


@dataclasses.dataclass(frozen=True)
class Compared:
    """One training."""

    run: str
    epochs: int
    best_epoch: int
    start: Row
    """Metrics before training."""
    best: Row
    """Metrics of the epoch with the lowest EER."""
    last: Row

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return dataclasses.asdict(self)


def compare_runs(folders: Sequence[str | os.PathLike[str]]) -> list[Compared]:
    """Read the metrics of several runs.

    Raises:
        DataError: one is no training, or they were validated on different pairs, so that they cannot be compared.
    """
    found: list[Compared] = []
    pairs: dict[str, str] = {}
    for folder in folders:
        rows = runlog.read_metrics(folder)
        best = min(rows, key=lambda row: (row["eer"], row["epoch"]))
        found.append(
            Compared(os.fspath(folder), int(rows[-1]["epoch"] or 0), int(best["epoch"] or 0), rows[0], best, rows[-1])
        )
        listed = Path(folder) / "validation.csv"
        pairs[os.fspath(folder)] = listed.read_text("utf-8", "surrogateescape") if listed.exists() else ""
    first = os.fspath(folders[0])
    for folder, text in pairs.items():
        if text != pairs[first]:
            raise DataError(
                f"{folder} was validated on other pairs than {first}; only runs with one split and seed compare"
            )
    return found


def table(runs: Sequence[Compared]) -> str:
    """Columns for people; rates in percent."""
    rows = [["run", "epoch", *_SHOWN]]
    rows.append([f"{runs[0].run} (start)", "0", *_cells(runs[0].start)])
    for run in runs:
        if _cells(run.start) != rows[1][2:]:
            rows.append([f"{run.run} (start)", "0", *_cells(run.start)])
        rows.append([f"{run.run} (best)", str(run.best_epoch), *_cells(run.best)])
        if run.best_epoch != run.epochs:
            rows.append([f"{run.run} (last)", str(run.epochs), *_cells(run.last)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _cells(row: Row) -> list[str]:
    return ["-" if (value := row.get(name)) is None else f"{100 * value:.2f} %" for name in _SHOWN]
