"""Error versus discard: how many misses are left when the pairs of the poorest photos are put aside, ISO/IEC 29794-1:2024, annex on EDC.

    curves = discard_curves(scores, labels, qualities)     # {"score": (n,), "norm": (n,)} the lesser quality of each pair's photos
    curves["score"].area, curves["score"].fnmr

The threshold stays where it is, at the FMR that is stated; the share of pairs of one person whose lesser quality is lowest is discarded, and FNMR
is taken of the rest. A measure that knows which photos will be missed lets the curve fall fast. The area is the mean FNMR over the first
`UP_TO` of discards, over that without any: 1 for a measure that knows nothing, and `ideal` for one that discards misses alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

UP_TO = 0.3
STEPS = 31
_RATES = (1e-3, 1e-2, 1e-1)  # the lowest that the negatives can tell


@dataclasses.dataclass(frozen=True)
class DiscardCurve:
    """What one measure of quality is worth."""

    fnmr: list[float]
    """FNMR where 0, 1, 2 … 30 % of the pairs of one person are discarded."""
    area: float | None
    """Mean of these over the first; None where nothing is missed."""


@dataclasses.dataclass(frozen=True)
class Discard:
    """All measures at one threshold."""

    fmr: float
    """At which the threshold lies, of all pairs."""
    threshold: float
    ideal: float | None
    """The area of a measure that discards misses alone."""
    by_quality: dict[str, DiscardCurve]


def discard_curves(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], qualities: Mapping[str, NDArray[np.float64]]
) -> Discard | None:
    """The curves of a list.

    Args:
        scores: (n,), higher is more alike.
        labels: (n,), whether a pair is one person.
        qualities: (n,) by measure: the lesser of both photos', the higher the better; NaN where it is not known, and then first to go, as
            are photos without a face.

    Returns:
        None without measures, pairs of one person, or enough pairs of others for the highest of the rates.
    """
    strangers = np.sort(scores[~labels])[::-1]
    rate = next((rate for rate in _RATES if rate * len(strangers) >= 1), None)
    if rate is None or not labels.any() or not qualities:
        return None
    limit = float(np.nextafter(strangers[int(rate * len(strangers))], np.inf)) if rate < 1 else float(strangers[-1])
    missed = scores[labels] < limit
    curves = {}
    for name, quality in qualities.items():
        order = np.argsort(np.where(np.isnan(quality[labels]), -np.inf, quality[labels]), kind="stable")
        curves[name] = _curve(missed[order])
    return Discard(rate, limit, _curve(np.sort(missed)[::-1]).area, curves)


def _curve(missed: NDArray[np.bool_]) -> DiscardCurve:
    """Of misses in the order in which they are discarded."""
    left = np.cumsum(missed[::-1])[::-1]  # misses from each place on
    places = np.floor(np.linspace(0, UP_TO, STEPS) * len(missed) + 1e-9).astype(int)
    rates = [float(left[place] / (len(missed) - place)) for place in places.tolist()]
    return DiscardCurve(rates, float(np.mean(rates)) / rates[0] if rates[0] else None)
