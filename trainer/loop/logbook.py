"""What a training tells while it runs: tables, plot and curves in its folder, and a line an epoch.

    book = Logbook(config, run, columns=columns, main=accelerator.is_main_process)
    with book.open(step=0):
        book.curve("step", {"loss": 1.2}, 1)
        book.write(state)

`runlog` knows the files; the loop knows when.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence

from faceembed.trainer.loop import runlog
from faceembed.trainer.loop.keeper import Run
from faceembed.trainer.loop.plot import write_plot
from faceembed.trainer.loop.state import Progress, Row
from faceembed.trainer.recipes.settings import TrainConfig

_DRAW_SECONDS = 20.0  # between drawings of the plot, each of which takes half a second


class Logbook:
    """The records of one training.

    Args:
        config: its settings.
        run: its folder.
        columns: of metrics.csv.
        main: whether this is the process that writes.
    """

    def __init__(self, config: TrainConfig, run: Run, *, columns: Sequence[str], main: bool) -> None:
        self._config, self._run, self._columns, self._main = config, run, columns, main
        self._speeds: list[Row] = []
        self._drawn = -math.inf
        self._curves: runlog.Curves

    def resume(self, epoch: int) -> None:
        """Go on after an epoch: the speeds of earlier ones stay."""
        rows = runlog.read_rows(self._run.folder / runlog.SPEED)
        self._speeds = [row for row in rows if (row["epoch"] or 0) <= epoch]

    @contextlib.contextmanager
    def open(self, *, step: int) -> Iterator[None]:
        """Curves can be added from a step on; what is in memory is written at the end."""
        wanted = self._config.loop.tensorboard and self._main
        self._curves = runlog.Curves(self._run.folder, wanted=wanted, step=step)
        try:
            yield
        finally:
            self._curves.close()

    def curve(self, prefix: str, values: Mapping[str, float | int | None], step: int) -> None:
        """One point on each curve."""
        self._curves.add(prefix, values, step)

    def speed(self, epoch: int, *, unit: str, items: int, seconds: float, waited: float) -> None:
        """How fast an epoch was.

        Args:
            epoch: from 1.
            unit: of the items.
            items: of all processes.
            seconds: in all.
            waited: of them, for crops.
        """
        self._speeds.append(
            {
                "epoch": epoch,
                "seconds": round(seconds, 3),
                f"{unit}_per_second": round(items / seconds, 2),
                "waited": round(waited / seconds, 4),
            }
        )

    def write(self, state: Progress, *, whole: bool = False) -> None:
        """The tables, and the plot now and then, or as ``whole`` at last."""
        if not self._main:
            return
        folder = self._run.folder
        runlog.write_rows(folder / runlog.METRICS, self._columns, state.rows)
        if self._speeds:
            runlog.write_rows(folder / runlog.SPEED, list(self._speeds[0]), self._speeds)
        if whole or time.monotonic() - self._drawn > _DRAW_SECONDS:
            title = f"{self._config.task}, {self._run.arch}"
            write_plot(folder / runlog.PLOT, state.rows, best_epoch=state.best_epoch, title=title)
            self._drawn = time.monotonic()

    def say(self, row: Row, *, better: bool) -> None:
        """``epoch 3/20 · loss 1.234 · EER 3.21 % (other 1.00, fake 5.00) · best so far``."""
        loss = f"loss {row['loss']:.4g} · " if row.get("loss") is not None else "start · "
        kinds = [f"{name} {100 * value:.2f}" for name in ("other", "fake") if (value := row[f"eer_{name}"]) is not None]
        tail = " · best so far" if better and row["epoch"] else ""
        eer = f"EER {100 * (row['eer'] or 0):.2f} % ({', '.join(kinds)})"
        self._run.notice(f"epoch {row['epoch']}/{self._config.loop.epochs} · {loss}{eer}{tail}")
