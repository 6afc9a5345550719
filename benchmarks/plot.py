"""The picture of `vs_face_recognition.py`: one panel a question, the peer in grey, ours in colour.

Rates are drawn as multiples of the peer's rate, because they belong to a machine; shares and error rates are drawn as they are.
It knows the JSON and nothing of how it was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MIB = 2**20
PEER, OURS, INK, FAINT = "#c3c8d1", "#2563eb", "#1b2230", "#6b7280"
SET_NAMES = {"lfw": "LFW", "people_wild": "in the wild"}
BAR = 0.36


@dataclass(frozen=True)
class Group:
    """One pair of bars."""

    name: str
    peer: float
    ours: float
    spread: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)
    """(low, high) of the peer and of ours, drawn as whiskers."""


@dataclass(frozen=True)
class Panel:
    """One question with its groups of bars."""

    title: str
    hint: str
    groups: list[Group]
    form: str


def panels(document: dict[str, Any]) -> list[Panel]:
    """What can be drawn of a result: speed, detection, error and memory, in this order."""
    sets = [(SET_NAMES.get(name, name), entry) for name, entry in document["sets"].items()]
    found: list[Panel] = []
    if sets:
        speed = [_ratio_group(name, entry["ratio"]["rate"]) for name, entry in sets]
        found.append(Panel("Photos per second", "peer = 1, more is better", speed, "{:.1f}×"))
        share = [Group(name, _percent(entry["peer"]), _percent(entry["ours"])) for name, entry in sets]
        found.append(Panel("Photos with a face found", "%, more is better", share, "{:.1f}"))
    if document.get("eer"):
        found.append(
            Panel("Equal error rate", "%, less is better; 95 % interval", [_eer_group(document["eer"])], "{:.2f}")
        )
    if sets:
        memory = [
            Group(name, entry["peer"]["peak_memory"] / MIB, entry["ours"]["peak_memory"] / MIB) for name, entry in sets
        ]
        found.append(Panel("Peak memory", "MiB, less is better", memory, "{:.0f}"))
    return found


def _ratio_group(name: str, ratio: dict[str, float]) -> Group:
    return Group(name, 1.0, ratio["median"], (None, (ratio["low"], ratio["high"])))


def _percent(figures: dict[str, float]) -> float:
    """Cut, not rounded, to a tenth: one missed photo in ten thousand is not 100.0 %."""
    return math.floor(figures["detection_rate"] * 1000 + 1e-9) / 10


def _eer_group(eer: dict[str, Any]) -> Group:
    def percent(key: str) -> tuple[float, tuple[float, float]]:
        low, high = eer[key]["ci95"]
        return 100 * eer[key]["eer"], (100 * low, 100 * high)

    (peer, peer_spread), (ours, ours_spread) = percent("peer_euclidean"), percent("ours_cosine")
    return Group("LFW pairs" if eer["complete"] else "LFW, a subset", peer, ours, (peer_spread, ours_spread))


def figure(document: dict[str, Any]) -> Figure:
    """Draw the panels side by side."""
    shown = panels(document)
    if not shown:
        raise ValueError("the result has neither sets nor an EER: there is nothing to draw")
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "svg.fonttype": "none"})
    canvas, axes = plt.subplots(1, len(shown), figsize=(2.75 * len(shown), 3.3), squeeze=False)
    canvas.subplots_adjust(left=0.03, right=0.985, top=0.67, bottom=0.21, wspace=0.2)
    for axis, panel in zip(axes[0], shown, strict=True):
        _draw_panel(axis, panel)
    _frame(canvas, document)
    return canvas


def _draw_panel(axis: Axes, panel: Panel) -> None:
    top = max(max(group.peer, group.ours, *(s[1] for s in group.spread if s)) for group in panel.groups)
    for x, group in enumerate(panel.groups):
        for offset, value, spread, colour in (
            (-BAR / 2 - 0.015, group.peer, group.spread[0], PEER),
            (BAR / 2 + 0.015, group.ours, group.spread[1], OURS),
        ):
            axis.bar(x + offset, value, BAR, color=colour, linewidth=0)
            reach = value
            if spread and spread[1] > spread[0]:
                axis.vlines(x + offset, *spread, color=INK, linewidth=1.0)
                reach = max(value, spread[1])
            bold = "bold" if colour == OURS else "normal"
            axis.text(
                x + offset, reach + 0.025 * top, panel.form.format(value), ha="center", va="bottom", fontweight=bold
            )
    axis.set_ylim(0, top * 1.14)
    margin = 0.6 if len(panel.groups) > 1 else 1.0
    axis.set_xlim(-margin, len(panel.groups) - 1 + margin)
    axis.set_xticks(range(len(panel.groups)), [group.name for group in panel.groups])
    axis.tick_params(axis="x", length=0, colors=INK, pad=5)
    axis.yaxis.set_visible(False)
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#9ca3af")
    axis.text(0, 1.15, panel.title, transform=axis.transAxes, fontsize=10, fontweight="bold", va="bottom")
    axis.text(0, 1.135, panel.hint, transform=axis.transAxes, fontsize=7.8, color=FAINT, va="top")


def _frame(canvas: Figure, document: dict[str, Any]) -> None:
    machine, settings = document["machine"], document["settings"]
    canvas.text(0.03, 0.955, "faceembed and the face_recognition recipe", fontsize=12, fontweight="bold", va="top")
    inch = 1 / canvas.get_figwidth()  # however many panels there are
    for from_right, colour, name in ((3.5, PEER, "face_recognition (dlib), 2 processes"), (0.9, OURS, "faceembed")):
        name = name.replace("2 processes", f"{settings['workers']} processes")
        x = 1 - from_right * inch
        canvas.patches.append(plt.Rectangle((x, 0.92), 0.12 * inch, 0.03, color=colour, transform=canvas.transFigure))
        canvas.text(x + 0.17 * inch, 0.935, name, fontsize=8.5, va="center")
    photos = ", ".join(f"{SET_NAMES.get(n, n)} {entry['photos']:,}" for n, entry in document["sets"].items())
    rounds = (
        f"medians of {settings['rounds']} rounds, whiskers: lowest and highest"
        if settings["rounds"] > 1
        else "one round"
    )
    foot = f"Same files, same {machine['cores']} cores, in turns; whole processes; {rounds}. "
    foot += f"Photos: {photos}." if photos else ""
    canvas.text(0.03, 0.07, foot, fontsize=7.5, color=FAINT, va="center")
    canvas.text(0.03, 0.025, f"{machine['cpu']}, {machine['date'][:10]}", fontsize=7.5, color=FAINT, va="center")


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the picture; the suffix chooses PNG or SVG."""
    canvas = figure(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=200, facecolor="white")
    plt.close(canvas)
