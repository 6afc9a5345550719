"""The picture of a training: losses on the left, error rates on the right, over the epochs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from faceembed.files import atomic_write
from faceembed.marks import GENERATOR
from faceembed.trainer.loop.state import Row

INK, FAINT, LINE = "#1b2230", "#6b7280", "#e2e5ea"
LOSSES = {
    "loss": ("whole loss", INK),
    "val_loss": ("validation", "#2563eb"),
    "distillation": ("distillation", "#0d9488"),
}
RATES = {
    "eer": ("all", INK, "-"),
    "eer_other": ("other people", "#2563eb", "--"),
    "eer_fake": ("deepfakes", "#dc2626", "-."),
}
METHODS = ("#f59e0b", "#a855f7", "#ec4899", "#84cc16", "#06b6d4", "#92400e", "#64748b")  # in turn


def write_plot(path: str | os.PathLike[str], rows: Sequence[Row], *, best_epoch: int, title: str) -> None:
    """Draw a run as PNG.

    Args:
        path: where to.
        rows: of metrics.csv.
        best_epoch: the epoch whose weights were kept as the best.
        title: written above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=10)
    left, right = figure.subplots(1, 2)
    for name, (label, colour) in LOSSES.items():
        _line(left, rows, name, label=label, color=colour)
    for name, (label, colour, style) in RATES.items():
        _line(right, rows, name, label=label, color=colour, linestyle=style, scale=100)
    for number, name in enumerate(sorted({key for row in rows for key in row if key.startswith("eer_fake:")})):
        _line(
            right,
            rows,
            name,
            label=name.partition(":")[2],
            color=METHODS[number % len(METHODS)],
            scale=100,
            linewidth=1.0,
            linestyle=":",
        )
    best = next((row["eer"] for row in rows if row["epoch"] == best_epoch), None)
    if best is not None:
        right.plot([best_epoch], [100 * best], "o", color=INK, markersize=5, label=f"best, {100 * best:.2f} %")
    for axes, name in ((left, "loss"), (right, "equal error rate, %")):
        axes.set_xlabel("epoch", color=FAINT, fontsize=9)
        axes.set_ylabel(name, color=FAINT, fontsize=9)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -0.02 * high), high)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(colors=FAINT, labelsize=8)
        axes.grid(color=LINE, linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_color(LINE)
        if axes.lines:
            # Beside the curves: with a dozen of them no corner stays free.
            axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", metadata={"Software": GENERATOR})


def _line(axes: Any, rows: Sequence[Row], name: str, *, scale: float = 1, **style: Any) -> None:
    points = [(row["epoch"], row.get(name)) for row in rows]
    known = [(epoch, scale * value) for epoch, value in points if epoch is not None and value is not None]
    if known:
        few = "o" if len(known) == 1 else None
        axes.plot(*zip(*known, strict=True), **{"linewidth": 1.6, "marker": few, **style})
