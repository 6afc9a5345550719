"""The page of a search's figures, 1:N: `faceembed eval PROBES --gallery GALLERY --report`, and of several encoders `compare --gallery`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from faceembed.engine.evaluate.identification import FnirAt, Identification
from faceembed.engine.report import plots
from faceembed.engine.report.page import percent, short_names, shown, write_page

MOST_FAILURES = 60


def write_search_report(
    path: str | os.PathLike[str],
    figures: Mapping[str, Identification],
    *,
    title: str,
    facts: Mapping[str, str],
    reasons: Mapping[str, str] | None = None,
    failures: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write one self-contained HTML file: rank-k and FNIR at fixed FPIR of each encoder, and their DET curves over each other.

    Args:
        path: the file to write.
        figures: of each encoder, by its name.
        title: heading of the page.
        facts: of the heading: lists, template rule.
        reasons: encoders without figures, and why.
        failures: photo to the reason why it has no face.
        notes: further sentences.

    Raises:
        OSError: the file cannot be written.
    """
    ranks = list(dict.fromkeys(k for of in figures.values() for k in of.rank))
    rates = list(dict.fromkeys(rate for of in figures.values() for rate in of.fnir_at_fpir))
    drawn = [(number, of) for number, of in enumerate(figures.values()) if of.det]
    first = next(iter(figures.values()), None)
    counts = {} if first is None else {"Gallery": f"{first.gallery:,} people", "Probes": _probes(first)}
    lost = list((failures or {}).items())
    names = short_names([name for name, _ in lost])
    write_page(
        path,
        "search",
        title=shown(title),
        facts={name: shown(value) for name, value in {**counts, **facts}.items() if value},
        ranks=ranks,
        rates=rates,
        rows=[
            {
                "name": shown(name),
                "number": number,
                "ranks": [_with_interval(of.rank.get(k), of.rank_ci.get(k)) for k in ranks],
                "rates": [_fnir(of.fnir_at_fpir.get(rate)) for rate in rates],
                "lost": f"{of.failures:,}",
            }
            for number, (name, of) in enumerate(figures.items())
        ],
        reasons=[(shown(name), shown(reason)) for name, reason in (reasons or {}).items()],
        key=[
            (shown(name), number % len(plots.SERIES), number // len(plots.SERIES))
            for number, name in enumerate(figures)
        ],
        det=_det_svg(drawn) if drawn else None,
        how=first.ci_how if first else "",
        notes=[shown(note) for note in notes],
        failures=[(names[name], shown(reason)) for name, reason in lost[:MOST_FAILURES]],
        failed=len(lost),
    )


def _probes(figures: Identification) -> str:
    return f"{figures.mated:,} of them, {figures.non_mated:,} of strangers"


def _with_interval(value: float | None, bounds: tuple[float, float] | None) -> tuple[str, str]:
    return (
        ("–", "") if value is None else (percent(value), " – ".join(map(percent, bounds)) if bounds is not None else "")
    )


def _fnir(at: FnirAt | None) -> tuple[str, str, str]:
    """Misses, their interval, and the threshold."""
    return ("insufficient data", "", "") if at is None else (*_with_interval(at.rate, at.ci), f"at {at.threshold:.4f}")


def _det_svg(drawn: Sequence[tuple[int, Identification]]) -> str:
    """FNIR over FPIR on normal deviate axes, as NIST draws them (IR 8271, section 3.3)."""
    figure, axes = plots.open_figure(
        "False positive identification rate (FPIR)", "False negative identification rate (FNIR)"
    )
    probit = NormalDist().inv_cdf
    low_x, low_y = (probit(min(0.5 / max(counts), 0.04)) for counts in _counts(drawn))
    for number, of in drawn:
        # A rate of 0 or 1 lies at infinity: it is drawn at half an error.
        points = [
            tuple(probit(min(max(v, 0.5 / n), 1 - 0.5 / n)) for v, n in ((fpir, of.non_mated), (fnir, of.mated)))
            for fpir, fnir, _ in of.det
        ]
        look = plots.series_look(number)
        axes.step([x for x, _ in points], [y for _, y in points], where="post", **look)
    high = probit(0.99)
    ticks = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
    for axis, low in ((axes.xaxis, low_x), (axes.yaxis, low_y)):
        told = [tick for tick in ticks if low <= probit(tick) <= high]
        axis.set_ticks([probit(tick) for tick in told], [f"{100 * tick:g} %" for tick in told])
    axes.set_xlim(low_x, high)
    axes.set_ylim(low_y, high)
    return plots.to_svg(figure, "search-det")


def _counts(drawn: Sequence[tuple[int, Identification]]) -> Any:
    return [of.non_mated for _, of in drawn], [of.mated for _, of in drawn]
