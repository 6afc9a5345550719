"""The worst cases of an attack as a contact sheet: reference, original, changed, and what changed."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.explain.attack_result import Case
from faceembed.errors import DataError
from faceembed.files import atomic_write
from faceembed.marks import GENERATOR
from faceembed.outputs import check_output

MOST_CASES = 24  # on one sheet
_SIDE, _TEXT, _HEAD = 1.35, 2.1, 0.75  # inches: of a picture, of the column of text, of the title
_INK, _SOFT, _BAD = "#1b2430", "#67717e", "#b42318"
KIND_NAMES = {"same": "same person", "other": "other people", "fake": "deepfake"}
_COLUMNS = ("first photo", "second photo", "second, changed", "change, amplified")


def kind_name(kind: str) -> str:
    """A kind of pairs in words; a list's own word as it is."""
    return KIND_NAMES.get(kind, kind)


def write_cases(path: str | os.PathLike[str], cases: Sequence[Case], *, threshold: float | None, title: str) -> None:
    """Draw cases as a PNG, one a row.

    Args:
        path: the file to write.
        cases: at most `MOST_CASES` are drawn, the last ones (those of the largest epsilon come last).
        threshold: a similarity on the wrong side of it is red; None where there is none.
        title: the heading.

    Raises:
        DataError: no case.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not cases:
        raise DataError("no pair was attacked, so there is no case to draw")
    shown = cases[-MOST_CASES:]
    width, height = _TEXT + len(_COLUMNS) * _SIDE, _HEAD + len(shown) * _SIDE
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    heading = title if len(shown) == len(cases) else f"{title} ({len(shown)} of {len(cases)} cases)"
    figure.text(0.1 / width, 1 - 0.3 / height, heading, fontsize=11, weight="bold", color=_INK, parse_math=False)
    for column, name in enumerate(_COLUMNS):
        x = (_TEXT + (column + 0.5) * _SIDE) / width
        figure.text(x, 1 - (_HEAD - 0.08) / height, name, fontsize=8, color=_SOFT, ha="center")
    for row, case in enumerate(shown):
        bottom = height - _HEAD - (row + 1) * _SIDE
        for line, (text, colour) in enumerate(_lines(case, threshold)):
            y = (bottom + _SIDE - 0.3 - 0.2 * line) / height
            figure.text(0.1 / width, y, text, fontsize=8.5, color=colour, parse_math=False)
        for column, picture in enumerate((case.reference, case.original, case.changed, difference(case))):
            left = (_TEXT + column * _SIDE + 0.03) / width
            box = (left, (bottom + 0.03) / height, (_SIDE - 0.06) / width, (_SIDE - 0.06) / height)
            axes = figure.add_axes(box)
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": GENERATOR})
    check_output(path, "picture")
    with atomic_write(path) as file:
        file.write(target.getvalue())


def difference(case: Case) -> NDArray[np.uint8]:
    """What changed, (H, W, 3) uint8: grey where nothing did, and the largest change of the picture at black or white."""
    moved = case.changed.astype(np.float64) - case.original
    largest = max(float(np.abs(moved).max()), 1.0)
    return np.rint(127.5 + 127.5 * moved / largest).astype(np.uint8)


def largest_change(case: Case) -> int:
    """Of 255 levels."""
    return int(np.abs(case.changed.astype(np.int16) - case.original).max())


def turned(case: Case, threshold: float | None) -> bool | None:
    """Whether the changed pair is decided wrongly; None without a threshold."""
    if threshold is None:
        return None
    return case.after < threshold if case.kind == "same" else case.after >= threshold


def _lines(case: Case, threshold: float | None) -> list[tuple[str, str]]:
    lines = [
        (f"{kind_name(case.kind)}, epsilon {case.epsilon:g}", _INK),
        (f"similarity {case.before:.3f} → {case.after:.3f}", _BAD if turned(case, threshold) else _INK),
        (f"largest change {largest_change(case)} of 255 levels", _SOFT),
    ]
    return lines if threshold is None else [*lines, (f"threshold {threshold:.3f}", _SOFT)]
