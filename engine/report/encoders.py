"""The page of `faceembed compare --html`: one table of encoders, and their curves over each other; of several lists a table of all before them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.comparison import Comparison, Comparisons, Row, size_text
from faceembed.engine.evaluate.discard import UP_TO
from faceembed.engine.report import plots
from faceembed.engine.report.page import percent, shown, write_page

_NAMES = {"other": "other people", "fake": "deepfakes"}
_MEASURES = ("score", "norm")  # the aligner's, which is one for all encoders, and each encoder's own


def write_comparison(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write one self-contained HTML file.

    Raises:
        OSError: the file cannot be written.
    """
    write_comparisons(path, Comparisons([comparison]))


def write_comparisons(path: str | os.PathLike[str], comparisons: Comparisons) -> None:
    """Write one self-contained HTML file of all lists: what matters of each in one table, then each list by itself.

    Raises:
        OSError: the file cannot be written.
    """
    lists, names = comparisons.lists, [shown(name) for name in comparisons.names]
    several = len(lists) > 1
    nowhere = {rows[0].source for rows in comparisons.encoders() if all(row.reason for row in rows)}
    # One look for an encoder, whichever list it failed on.
    good = [rows for rows in comparisons.encoders() if any(row.evaluation for row in rows)]
    numbers = {id(row): number for number, rows in enumerate(good) for row in rows if row.evaluation}
    facts: dict[str, str] = {} if several else _list_facts(lists[0])
    facts |= {"Pair lists": f"{len(lists)}"} if several else {}
    facts |= {"Aligner": lists[0].aligner, **{k.capitalize(): v for k, v in lists[0].runtime.items()}}
    write_page(
        path,
        "encoders",
        title=f"{len(comparisons.encoders())} encoders compared",
        facts={name: shown(value) for name, value in facts.items() if value},
        key=[
            (shown(rows[0].name), number % len(plots.SERIES), number // len(plots.SERIES))
            for number, rows in enumerate(good)
        ],
        summary=_summary(comparisons, numbers) if several else None,
        lists=[
            _section(of, numbers, place, name if several else "", nowhere if several else ())
            for place, (of, name) in enumerate(zip(lists, names, strict=True))
        ],
        trade=_trade_svg(lists[0], numbers) if any(row.rate and row.evaluation for row in lists[0].rows) else None,
        rate_faces=max(of.rate_faces for of in lists),
    )


def _list_facts(comparison: Comparison) -> dict[str, str]:
    pairs = comparison.pairs
    positives = int(pairs.labels.sum())
    return {
        "Pair list": os.path.basename(os.path.normpath(pairs.source)),
        "Pairs": f"{len(pairs):,}: {positives:,} same, {len(pairs) - positives:,} not",
    }


def _section(
    comparison: Comparison, numbers: dict[int, int], place: int, name: str, left_out: Collection[str]
) -> dict[str, Any]:
    """What the page shows of one list, without encoders whose reason is in the table of all."""
    pairs = comparison.pairs
    good = [row for row in comparison.rows if row.evaluation]
    curves = [(numbers[id(row)], comparison.curve(row)) for row in good]
    return {
        "name": name,
        "facts": {name: shown(value) for name, value in _list_facts(comparison).items()},
        "rows": [_cells(row, numbers.get(id(row))) for row in comparison.rows if row.source not in left_out],
        "kinds": list(pairs.negative_kinds),
        "names": {kind: shown(_NAMES.get(kind, kind)) for kind in pairs.negative_kinds},
        "how": "; ".join(dict.fromkeys(row.evaluation.eer_ci_how for row in good if row.evaluation)),
        "flaws": next((row.evaluation.flaws for row in good if row.evaluation), []),
        "fars": [f"1e-{k}" for k in metrics.FMR_EXPONENTS if any(_tar(row, f"1e-{k}") is not None for row in good)],
        "roc": _roc_svg(curves, place) if curves else None,
        "det": _det_svg(curves, place) if curves else None,
        "bars": _eer_svg(good, numbers, place) if curves else None,
        "discard": _discard_svg(good, numbers, place) if any(_discarded(row) for row in good) else None,
        "skipped": max((row.evaluation.skipped_pairs for row in good if row.evaluation), default=0),
        "failed_pairs": max((int(row.scores.failed.sum()) for row in good if row.scores), default=0),
    }


def _summary(comparisons: Comparisons, numbers: dict[int, int]) -> dict[str, Any]:
    """One row an encoder, and for each list its EER and misses, by kind of negatives where there are several."""
    columns: list[tuple[int, str, str]] = []  # list, what, heading
    for place, of in enumerate(comparisons.lists):
        columns.append((place, "eer", "EER"))
        if len(of.pairs.negative_kinds) > 1:
            columns += [(place, kind, f"EER, {shown(_NAMES.get(kind, kind))}") for kind in of.pairs.negative_kinds]
        columns += [(place, rate, f"FNMR at FMR {rate}") for rate in MISSES if _tells(of, rate)]
        columns.append((place, "area", "EDC area"))
    spans = [sum(column[0] == place for column in columns) for place in range(len(comparisons.lists))]
    rows = []
    for entry in sorted(comparisons.encoders(), key=lambda rows: all(row.reason for row in rows)):  # those to pull last
        first = next((row for row in entry if not row.reason), entry[0])
        cells = _cells(first, next((numbers[id(row)] for row in entry if id(row) in numbers), None))
        rates = next((row for row in entry if row.rate), first)
        cells["rate"] = f"{rates.rate.median:,.0f}" if rates.rate else "–"
        cells["reason"] = "" if any(row.evaluation for row in entry) else cells["reason"]
        cells["values"] = [_value(entry[place], what) for place, what, _ in columns]
        rows.append(cells)
    return {
        "lists": list(zip([shown(name) for name in comparisons.names], spans, strict=True)),
        "columns": [heading for _, _, heading in columns],
        "rows": rows,
    }


MISSES = ("1e-2", "1e-3")
"""False match rates at which a table of several lists has misses."""


def _tells(comparison: Comparison, rate: str) -> bool:
    return any(_tar(row, rate) is not None for row in comparison.rows)


def _value(row: Row, what: str) -> tuple[str, str]:
    """A cell of the table of all lists, and its interval."""
    found = row.evaluation
    if found is None:
        return "–", ""
    if what == "eer":
        return percent(found.eer), " – ".join(map(percent, found.eer_ci))
    if what == "area":
        return _area(row, _MEASURES[0]), ""
    if what in MISSES:
        value, bounds = found.fnmr_at_fmr[what], found.fnmr_ci[what]
        return _rate(value), "" if value is None or bounds is None else " – ".join(map(percent, bounds))
    return (percent(found.kinds[what].eer), "") if what in found.kinds else ("–", "")


def _tar(row: Row, rate: str) -> float | None:
    value = row.evaluation.fnmr_at_fmr[rate] if row.evaluation else None
    return None if value is None else 1 - value


def _cells(row: Row, number: int | None) -> dict[str, Any]:
    cells: dict[str, Any] = {"name": shown(row.name), "number": number, "reason": shown(row.reason)}
    spec, found = row.model.spec if row.model else None, row.evaluation
    cells["dimension"] = f"{spec.dimension:,}" if spec else "–"
    cells["input"] = f"{spec.input_size[1]} × {spec.input_size[0]}" if spec else "–"
    cells["size"] = size_text(row.size_bytes) if row.size_bytes else "–"
    cells["rate"] = f"{row.rate.median:,.0f}" if row.rate else "–"
    cells["spread"] = f"{row.rate.lowest:,.0f} – {row.rate.highest:,.0f}" if row.rate else ""
    cells["precision"] = row.precision or "–"
    cells["licence"] = shown(spec.licence) if spec else "–"
    cells["areas"] = {name: _area(row, name) for name in _MEASURES}
    if found:
        cells["eer"], cells["interval"] = percent(found.eer), " – ".join(map(percent, found.eer_ci))
        cells["kinds"] = {kind: percent(rates.eer) for kind, rates in found.kinds.items()}
        cells["tar"] = {rate: _rate(_tar(row, rate)) for rate in found.fnmr_at_fmr}
    return cells


def _rate(value: float | None) -> str:
    return "insufficient data" if value is None else percent(value)


def _area(row: Row, measure: str) -> str:
    """What a measure of quality is worth to an encoder (`discard`)."""
    found = row.evaluation.discard if row.evaluation else None
    curve = found.by_quality.get(measure) if found else None
    return "–" if curve is None or curve.area is None else f"{curve.area:.2f}"


def _discarded(row: Row) -> bool:
    """Whether there is a curve to draw."""
    return _area(row, _MEASURES[0]) != "–"


Curves = Sequence[tuple[int, metrics.Roc]]
"""Each with the number by which its encoder looks."""


def _roc_svg(curves: Curves, place: int) -> str:
    figure, axes = plots.open_figure("False match rate (FMR)", "True match rate (1 − FNMR)")
    start = 1 / max(curve.negatives for _, curve in curves)
    bottom = 1.0
    for number, curve in curves:
        kept = plots.thinned(curve)
        fmr, tmr = np.maximum(curve.fmr[kept], start / 2), 1 - curve.fnmr[kept]
        axes.plot(fmr, tmr, **plots.series_look(number))
        bottom = min(bottom, float(np.min(tmr[fmr >= start], initial=1.0)))
    axes.set_xscale("log")
    axes.set_xlim(min(start, 0.5), 1)
    axes.set_ylim(max(bottom - 0.05 * (1 - bottom) - 0.002, 0), 1 + 0.03 * (1 - bottom) + 0.001)
    exponents = range(int(np.floor(np.log10(start) + 1e-9)), 1)
    axes.set_xticks([10.0**k for k in exponents], [plots.power_of_ten(k) for k in exponents])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(plots.percent_tick)
    return plots.to_svg(figure, f"encoders-roc-{place}")


def _det_svg(curves: Curves, place: int) -> str:
    figure, axes = plots.open_figure("False match rate (FMR)", "False non-match rate (FNMR)")
    probit = NormalDist().inv_cdf
    least = min(0.5 / max(curve.negatives, curve.positives) for _, curve in curves)
    for number, curve in curves:
        kept = plots.thinned(curve)
        # A rate of 0 or 1 lies at infinity: it is drawn at half an error.
        x = [probit(min(max(v, 0.5 / curve.negatives), 1 - 0.5 / curve.negatives)) for v in curve.fmr[kept].tolist()]
        y = [probit(min(max(v, 0.5 / curve.positives), 1 - 0.5 / curve.positives)) for v in curve.fnmr[kept].tolist()]
        axes.plot(x, y, **plots.series_look(number))
    low, high = probit(min(least, 0.04)), probit(0.6)
    axes.plot([low, high], [low, high], color=plots.FAINT, linewidth=0.8, linestyle=":")
    ticks = [tick for tick in (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5) if probit(tick) >= low]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([probit(tick) for tick in ticks], [f"{100 * tick:g} %" for tick in ticks])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    return plots.to_svg(figure, f"encoders-det-{place}")


def _eer_svg(rows: Sequence[Row], numbers: dict[int, int], place: int) -> str:
    figure, axes = plots.open_figure("Equal error rate, with its 95 % interval", "")
    for number, row in enumerate(rows):
        assert row.evaluation is not None
        (low, high), rate, look = row.evaluation.eer_ci, row.evaluation.eer, plots.series_look(numbers[id(row)])
        axes.plot([low, high], [number, number], **look)
        axes.plot([rate], [number], "o", color=look["color"], markersize=7, clip_on=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(plots.percent_tick)
    return plots.to_svg(figure, f"encoders-eer-{place}")


def _discard_svg(rows: Sequence[Row], numbers: dict[int, int], place: int) -> str:
    figure, axes = plots.open_figure("Pairs of one person discarded, lowest score first", "FNMR at the threshold")
    for row in rows:
        if _discarded(row):
            assert row.evaluation is not None and row.evaluation.discard is not None
            fnmr = row.evaluation.discard.by_quality[_MEASURES[0]].fnmr
            axes.plot(np.linspace(0, UP_TO, len(fnmr)), fnmr, **plots.series_look(numbers[id(row)]))
    axes.set_xlim(0, UP_TO)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(plots.percent_tick)
    axes.yaxis.set_major_formatter(plots.percent_tick)
    return plots.to_svg(figure, f"encoders-discard-{place}")


def _trade_svg(comparison: Comparison, numbers: dict[int, int]) -> str:
    figure, axes = plots.open_figure("Faces a second", "Equal error rate")
    rows = [row for row in comparison.rows if row.rate and row.evaluation and not row.quality_aware]
    for row in rows:
        if row.rate and row.evaluation:
            (low, high), colour = row.evaluation.eer_ci, plots.series_look(numbers[id(row)])["color"]
            axes.plot([row.rate.median] * 2, [low, high], color=colour, linewidth=1)
            axes.plot([row.rate.median], [row.evaluation.eer], "o", color=colour, markersize=8, clip_on=False)
    axes.set_xlim(left=0, right=1.12 * max(row.rate.median for row in rows if row.rate))
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(plots.percent_tick)
    return plots.to_svg(figure, "encoders-rate")
