"""The picture of a measurement: the rate of every stage alone, the whole, and what the roofline says. It knows the report's fields."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from faceembed.files import atomic_write
from faceembed.marks import GENERATOR
from faceembed.outputs import check_output

STAGE, WHOLE, INK, FAINT = "#c3c8d1", "#2563eb", "#1b2230", "#6b7280"
_BAR = 0.3  # inches


def write_rates(path: str | os.PathLike[str], runs: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Draw measurements below each other.

    Args:
        path: a PNG.
        runs: title and `BenchReport.to_json_dict` of each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [len(document["stages"]) + 1 for _, document in runs]
    figure = Figure(figsize=(8, _BAR * sum(heights) + 1.1 * len(runs)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(runs), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (title, document) in zip(panels, runs, strict=True):
        _panel(axes, title, document)
    panels[-1].set_xlabel("photos a second", color=FAINT)
    check_output(path, "picture")
    with atomic_write(os.fspath(path)) as file:
        figure.savefig(file, format="png", dpi=150, facecolor="white", metadata={"Software": GENERATOR})


def _panel(axes: Any, title: str, document: dict[str, Any]) -> None:
    names = [*document["stages"], "end to end"]
    rates = [*document["stages"].values(), document["end_to_end"]]
    places = list(range(len(names)))[::-1]
    axes.barh(places, rates, height=0.66, color=[STAGE] * (len(names) - 1) + [WHOLE])
    axes.set_yticks(places, names, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 3, max(rates) * 4)
    for place, rate in zip(places, rates, strict=True):
        axes.text(rate * 1.05, place, f"{rate:,.0f}", va="center", color=INK, fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{title}\n{_caption(document)}", loc="left", fontsize=9, color=INK, parse_math=False)


def _caption(document: dict[str, Any]) -> str:
    parts = [f"{document['ratio_to_slowest']:.2f} of the slowest stage ({document['slowest']})"]
    line = document.get("roofline") or {}
    if line.get("share_of_peak") is not None:
        parts.append(f"encoder at {100 * line['share_of_peak']:.0f} % of the FP16 peak")
    if line:
        parts.append(f"pixels at {100 * line['share_of_copy']:.1f} % of the copy bandwidth")
    return ", ".join(parts)
