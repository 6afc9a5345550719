"""The page of `faceembed attack --html`: the figures, their course over epsilon, and the worst cases with their pictures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from faceembed.engine.explain.attack_result import Attacked, Case, Row
from faceembed.engine.report import plots
from faceembed.engine.report.attack_picture import difference, kind_name, largest_change, turned
from faceembed.engine.report.page import percent, short_names, shown, write_page
from faceembed.engine.report.pixels import png_source

_GOALS = {
    "both": "people apart made alike, one person made unlike",
    "impersonate": "people apart made alike",
    "dodge": "one person made unlike",
}
_MOST_FAILURES = 60


def write_attack_report(path: str | os.PathLike[str], attacked: Attacked) -> None:
    """Write one self-contained HTML file.

    Raises:
        OSError: the file cannot be written.
    """
    kinds = list(attacked.rows[0].similarity)
    paths = [path for case in attacked.cases for path in _paths(attacked, case)]
    names = short_names(paths)
    missing = list(attacked.failures)[:_MOST_FAILURES]
    failures = short_names(missing)
    facts = {
        "Encoder": attacked.encoder,
        "Pair list": os.path.basename(os.path.normpath(attacked.pairs.source)),
        "Pairs": f"{len(attacked.numbers):,}",
        "Goal": _GOALS[attacked.goal],
        **{name.replace("_", " ").capitalize(): str(value) for name, value in attacked.details.items()},
    }
    write_page(
        path,
        "attack",
        title=shown(attacked.title),
        facts={name: shown(value) for name, value in facts.items() if value != "None"},
        kinds=[kind_name(kind) for kind in kinds],
        both={"other", "fake"} <= set(kinds),
        rows=[_cells(row, kinds) for row in attacked.rows],
        threshold=attacked.threshold,
        failed_pairs=int(attacked.failed.sum()),
        similarity=_similarity_svg(attacked.rows, kinds, attacked.threshold),
        rates=None if attacked.threshold is None else _rates_svg(attacked.rows),
        groups=[
            (epsilon, [_card(attacked, case, names) for case in attacked.cases if case.epsilon == epsilon])
            for epsilon in dict.fromkeys(case.epsilon for case in attacked.cases)
        ],
        failures=[(failures[photo], shown(attacked.failures[photo])) for photo in missing],
        all_failures=len(attacked.failures),
    )


def _paths(attacked: Attacked, case: Case) -> tuple[str, str]:
    pair = attacked.pairs[case.pair]
    return pair.path_a, pair.path_b


def _cells(row: Row, kinds: list[str]) -> dict[str, Any]:
    def rate(value: float | None) -> str:
        return "–" if value is None else percent(value)

    return {
        "epsilon": f"{row.epsilon:g}" if row.epsilon else "unchanged",
        "levels": "" if row.levels is None or not row.epsilon else f"{row.levels} of 255",
        "similarity": [
            (f"{row.similarity[kind]:.3f}", _signed(row.change[kind]) if row.epsilon and kind in row.change else "")
            for kind in kinds
        ],
        "rates": [
            rate(value)
            for value in (
                row.eer,
                *((row.eer_other, row.eer_fake) if {"other", "fake"} <= set(kinds) else ()),
                row.fnmr,
                row.fmr,
            )
        ],
    }


def _card(attacked: Attacked, case: Case, names: dict[str, str]) -> dict[str, Any]:
    a, b = _paths(attacked, case)
    return {
        "names": (names[a], names[b]),
        "number": case.pair + 1,
        "kind": kind_name(case.kind),
        "before": f"{case.before:.3f}",
        "after": f"{case.after:.3f}",
        "change": _signed(case.after - case.before),
        "turned": turned(case, attacked.threshold),
        "levels": largest_change(case),
        "pictures": [
            (label, png_source(picture))
            for label, picture in (
                ("first photo", case.reference),
                ("second photo", case.original),
                ("second, changed", case.changed),
                ("change, amplified", difference(case)),
            )
        ],
    }


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _similarity_svg(rows: list[Row], kinds: list[str], threshold: float | None) -> str:
    figure, axes = plots.open_figure("epsilon", "Mean cosine similarity")
    order = np.argsort([row.epsilon for row in rows], kind="stable")
    epsilons = [rows[i].epsilon for i in order]
    for kind in kinds:
        values = [rows[i].similarity[kind] for i in order]
        axes.plot(epsilons, values, "o-", color=plots.colour_of(kind, kinds), markersize=4, label=kind_name(kind))
    if threshold is not None:
        axes.axhline(threshold, color=plots.INK, linewidth=1, linestyle=":", label=f"threshold {threshold:.3f}")
    axes.margins(y=0.15)
    axes.legend(loc="best", frameon=False, labelcolor=plots.INK, fontsize=9)
    return plots.to_svg(figure, "similarity")


def _rates_svg(rows: list[Row]) -> str:
    figure, axes = plots.open_figure("epsilon", "Error rate")
    order = np.argsort([row.epsilon for row in rows], kind="stable")
    epsilons = [rows[i].epsilon for i in order]
    for label, colour, values in (
        ("FNMR, threshold held", plots.COLOURS["same"], [rows[i].fnmr for i in order]),
        ("FMR, threshold held", plots.COLOURS["other"], [rows[i].fmr for i in order]),
        ("EER, threshold follows", plots.INK, [rows[i].eer for i in order]),
    ):
        dashed = {"linestyle": "--"} if colour == plots.INK else {}  # the others are seen where all three lie together
        axes.plot(epsilons, values, marker="o", color=colour, markersize=4, label=label, **dashed)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(plots.percent_tick)
    axes.legend(loc="best", frameon=False, labelcolor=plots.INK, fontsize=9)
    return plots.to_svg(figure, "attack-rates")
