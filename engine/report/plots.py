"""The plots of the evaluation report, as SVG that takes its colours from the page around it.

matplotlib draws with stand-in colours; they are exchanged for CSS variables, so that one drawing is right on a light and on a
dark page. No text of the user enters a plot.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate.metrics import Roc, eer_of

INK, FAINT, LINE = "#010203", "#010204", "#010205"
COLOURS = {"same": "#010211", "other": "#010212", "fake": "#010213", "all": INK}
_CSS = {INK: "var(--ink)", FAINT: "var(--faint)", LINE: "var(--line)"} | {
    colour: f"var(--{name})" for name, colour in COLOURS.items() if name != "all"
}
OTHERS = ("#010221", "#010222", "#010223", "#010224")
"""Stand-ins for the colours of other kinds of negatives: ``--k0`` to ``--k3`` of the page."""
_CSS |= {colour: f"var(--k{number})" for number, colour in enumerate(OTHERS)}
SERIES = tuple(f"#0103{number:02d}" for number in range(8))
"""Stand-ins for the colours of any number of curves: ``--s0`` to ``--s7`` of the page, used in turn."""
_CSS |= {colour: f"var(--s{number})" for number, colour in enumerate(SERIES)}
_NAMES = {"same": "same person", "other": "other people", "fake": "deepfakes"}
_STYLES = {"all": "-", "other": "--", "fake": "-."}


def _look(kind: str, kinds: Iterable[str]) -> dict[str, Any]:
    """Colour and line of a kind of pairs; words that have none of their own take turns, in the order of ``kinds``."""
    if kind in COLOURS:
        return {"color": COLOURS[kind], "linestyle": _STYLES.get(kind, "-")}
    place = [name for name in kinds if name not in COLOURS].index(kind)
    return {"color": OTHERS[place % len(OTHERS)], "linestyle": (0, (1 + place % 4, 1))}


def colour_of(kind: str, kinds: Iterable[str]) -> str:
    """The stand-in for the colour of a kind of pairs, one of ``kinds``."""
    return str(_look(kind, kinds)["color"])


def _label(kind: str) -> str:
    return "same – all negatives" if kind == "all" else f"same – {_name(kind)}"


def _name(kind: str) -> str:
    """A kind in words, as text of a plot: a pair list's own word, of letters, digits, - and _ alone."""
    return _NAMES.get(kind, kind)


_CURVE_POINTS = 400
_BINS = 60
_DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)


def roc_svg(curves: Mapping[str, Roc]) -> str:
    """TMR = 1 - FNMR over FMR, the latter on a logarithmic axis down to one false match.

    Args:
        curves: by what the negatives are: ``all``, ``other``, ``fake`` or another word.
    """
    figure, axes = open_figure("False match rate (FMR)", "True match rate (1 − FNMR)")
    left, bottom = 1.0, 1.0
    for name, curve in curves.items():
        start = 1 / curve.negatives
        kept = thinned(curve)
        fmr, tmr = np.maximum(curve.fmr[kept], start / 2), 1 - curve.fnmr[kept]
        axes.plot(fmr, tmr, **_look(name, curves), linewidth=1.6, label=_label(name))
        rate, _ = eer_of(curve)
        axes.plot([max(rate, start / 2)], [1 - rate], "o", color=_look(name, curves)["color"], markersize=4)
        left = min(left, start)
        bottom = min(bottom, float(np.min(tmr[fmr >= start], initial=1.0)))
    exponents = range(int(np.floor(np.log10(left) + 1e-9)), 1)
    axes.set_xscale("log")
    axes.set_xlim(min(left, 0.5), 1)
    axes.set_ylim(max(bottom - 0.05 * (1 - bottom) - 0.002, 0), 1 + 0.03 * (1 - bottom) + 0.001)
    axes.set_xticks([10.0**k for k in exponents], [power_of_ten(k) for k in exponents])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(percent_tick)
    _legend(axes, len(curves), "lower right")
    return to_svg(figure, "roc")


def det_svg(curves: Mapping[str, Roc]) -> str:
    """FNMR over FMR on normal deviate axes (Martin et al. 1997, The DET curve in assessment of detection task performance).

    Args:
        curves: as for `roc_svg`.
    """
    figure, axes = open_figure("False match rate (FMR)", "False non-match rate (FNMR)")
    probit = NormalDist().inv_cdf
    least = min(0.5 / max(curve.negatives, curve.positives) for curve in curves.values())
    for name, curve in curves.items():
        kept = thinned(curve)
        # A rate of 0 or 1 lies at infinity: it is drawn at half an error.
        x = [probit(min(max(v, 0.5 / curve.negatives), 1 - 0.5 / curve.negatives)) for v in curve.fmr[kept].tolist()]
        y = [probit(min(max(v, 0.5 / curve.positives), 1 - 0.5 / curve.positives)) for v in curve.fnmr[kept].tolist()]
        axes.plot(x, y, **_look(name, curves), linewidth=1.6, label=_label(name))
        rate, _ = eer_of(curve)
        if 0 < rate < 1:
            axes.plot([probit(rate)], [probit(rate)], "o", color=_look(name, curves)["color"], markersize=4)
    low, high = probit(min(least, 0.04)), probit(0.6)
    axes.plot([low, high], [low, high], color=FAINT, linewidth=0.8, linestyle=":")
    ticks = [tick for tick in _DET_TICKS if probit(tick) >= low and tick <= 0.6]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([probit(tick) for tick in ticks], [f"{100 * tick:g} %" for tick in ticks])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.tick_params(axis="x", labelrotation=30)
    _legend(axes, len(curves), "upper right")
    return to_svg(figure, "det")


def histogram_svg(scores: npt.NDArray[np.float64], kinds: npt.NDArray[np.str_], *, threshold: float) -> str:
    """Scores by kind, each kind as shares of its own pairs.

    Args:
        scores: ``(n,)`` cosine similarities, failures left out; may be empty.
        kinds: ``(n,)`` of ``same``, ``other``, ``fake`` or another word.
        threshold: where a line is drawn.
    """
    figure, axes = open_figure("Cosine similarity", "Share of the kind's pairs")
    others = sorted({kind for kind in kinds.tolist() if kind not in COLOURS})
    present = [kind for kind in ("other", "fake", *others, "same") if (kinds == kind).any()]
    low, high = float(np.min(scores, initial=threshold)), float(np.max(scores, initial=threshold))
    margin = max(0.02, 0.02 * (high - low))
    edges = np.linspace(max(low - margin, -1.0), min(high + margin, 1.0), _BINS + 1)
    for kind in present:
        counts, _ = np.histogram(scores[kinds == kind], edges)
        shares = counts / counts.sum()
        colour = _look(kind, present)["color"]
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(shares, edges, color=colour, linewidth=1.3, label=_name(kind))
    axes.axvline(threshold, color=INK, linewidth=1, linestyle=":", label=f"EER threshold {threshold:.3f}")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.3 * axes.dataLim.ymax)  # room for the legend
    axes.yaxis.set_major_formatter(percent_tick)
    axes.legend(loc="upper center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    return to_svg(figure, "histogram")


def rates_svg(curves: Mapping[str, Roc], *, threshold: float) -> str:
    """FMR of each kind of negatives, and FNMR, over the threshold: what a choice of threshold costs.

    Args:
        curves: as for `roc_svg`.
        threshold: where a line is drawn.
    """
    figure, axes = open_figure("Threshold (cosine similarity)", "Error rate")
    spread: list[float] = []
    for name, curve in curves.items():
        kept = thinned(curve)[1:]  # without the point at infinity
        if len(curves) == 1 or name != "all":
            colour = _look("other" if name == "all" else name, curves)["color"]
            label = "FMR" if name == "all" else f"FMR, {_name(name)}"
            axes.step(curve.thresholds[kept], curve.fmr[kept], color=colour, where="post", linewidth=1.6, label=label)
        if name == "all":
            axes.step(
                curve.thresholds[kept],
                curve.fnmr[kept],
                color=COLOURS["same"],
                where="post",
                linewidth=1.6,
                label="FNMR",
            )
        shows = kept[np.minimum(curve.fmr[kept], curve.fnmr[kept]) < 0.3]
        spread += curve.thresholds[shows][curve.fmr[shows] + curve.fnmr[shows] < 0.9].tolist()
    low, high = min(spread, default=threshold) - 0.02, max(spread, default=threshold) + 0.02
    axes.axvline(threshold, color=INK, linewidth=1, linestyle=":", label=f"EER threshold {threshold:.3f}")
    axes.set_xlim(max(low, -1.0), min(high, 1.0))
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.yaxis.set_major_formatter(percent_tick)
    axes.legend(loc="upper center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    return to_svg(figure, "rates")


_LINES = ("-", "--", "-.", ":")  # after the last colour the next line begins


def series_look(number: int) -> dict[str, Any]:
    """Colour and line of one of any number of curves, by its number."""
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": _LINES[number // len(SERIES) % len(_LINES)],
        "linewidth": 1.7,
    }


def open_figure(x_label: str, y_label: str) -> tuple[Any, Any]:
    """A figure and its axes in the manner of the report."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for item in (figure.patch, axes.patch):
        item.set_alpha(0)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    return figure, axes


def _legend(axes: Any, entries: int, place: str) -> None:
    if entries > 1:
        axes.legend(loc=place, frameon=False, labelcolor=INK, fontsize=9)


def to_svg(figure: Any, name: str) -> str:
    """The ``<svg>`` element, the same for the same figure, its colours exchanged for the page's."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    target = io.StringIO()
    # Text stays text: it is searchable, small, and set in the page's own font. The salt makes identifiers repeatable,
    # and different from those of the other plots on the page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(
            target, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = target.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # a style inside one drawing would hold for the page
    text = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", text)
    for colour, variable in _CSS.items():
        text = text.replace(colour, variable)
    return text


def thinned(curve: Roc) -> npt.NDArray[np.int64]:
    """Indices of points that show the curve on linear, logarithmic and normal deviate axes alike."""
    size = len(curve.fmr)
    if size <= 6 * _CURVE_POINTS:
        return np.arange(size)
    even = np.linspace(0, 1, _CURVE_POINTS)
    low_fmr, low_fnmr = (np.geomspace(0.5 / n, 1, _CURVE_POINTS) for n in (curve.negatives, curve.positives))
    by_fmr = np.searchsorted(curve.fmr, np.r_[low_fmr, 1 - low_fmr, even])
    by_fnmr = size - 1 - np.searchsorted(curve.fnmr[::-1], np.r_[low_fnmr, 1 - low_fnmr, even])
    kept = np.r_[0, by_fmr, by_fnmr, size - 1]
    return np.asarray(np.unique(np.clip(kept, 0, size - 1)), dtype=np.int64)


def power_of_ten(exponent: int) -> str:
    """``10⁻³``."""
    return "1" if exponent == 0 else "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def percent_tick(value: float, _: Sequence[int] | int | None = None) -> str:
    """A share as a label of an axis."""
    return f"{100 * value:.4g} %"
