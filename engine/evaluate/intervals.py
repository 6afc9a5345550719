"""95 % intervals of error rates that tell the truth where few or no errors were seen, and where pairs share people.

    interval = eer_interval(scores, labels, people=people_of(pairs))
    interval.low, interval.high, interval.how

A bootstrap of a list without an error gives an interval of no width: of 100 pairs a class drawn from scores with an EER of 1.13 %, it
covered 74 %. So what rests on few errors gets exact binomial bounds, which hold for any number of pairs. Pairs that share people
know less than their number says: where people are known, people are drawn anew, not pairs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate import metrics

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
FEW = 10
"""Errors of either kind below which bounds are exact."""
INDEPENDENT = "pairs taken as independent"
BY_PEOPLE = "people resampled"
_EXACT = "exact binomial bounds"
_WORK = 2e8  # pairs times resamples that are drawn by people, at most; and at least 200 resamples
_Z = 1.959964


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float
    how: str
    """In words: which bounds, and what was taken as independent."""

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


def share_bounds(count: int, total: int, *, alpha: float = 1 - LEVEL) -> tuple[float, float]:
    """Exact bounds of a share, Clopper and Pearson 1934 (Biometrika 26, 404-413): 0 errors of n give about 3.7 / n above.

    Args:
        count, total: how many of how many; ``total`` at least 1.
        alpha: how often both bounds together may fail, at most.
    """
    low = 0.0 if count == 0 else _solve(lambda p: _at_least(count, total, p), alpha / 2)
    high = 1.0 if count == total else _solve(lambda p: 1 - _at_least(count + 1, total, p), alpha / 2, falling=True)
    return low, high


def eer_interval(
    scores: Floats, labels: Bools, *, people: Ints | None = None, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Interval of the EER.

    Args:
        scores: (n,) similarities.
        labels: (n,) True for one person.
        people: (n, 2) the number of the person on either photo; None where that is not known.
        resamples: of the bootstrap.
        seed: of its random numbers.
    """
    curve = metrics.roc(scores, labels)
    rate = metrics.eer_of(curve)[0]
    few = rate * min(curve.positives, curve.negatives) < FEW
    ends = [exact_eer(curve)] if few else []
    if people is not None:
        ends.append(_eer_by_people(scores, labels, people, resamples=resamples, seed=seed))
    elif not few:
        ends.append(metrics.bootstrap_eer(curve, resamples=resamples, seed=seed))
    how = " and ".join([_EXACT] * few + (["bootstrap"] if people is None and not few else []))
    how = ", ".join(filter(None, (how, INDEPENDENT if people is None else BY_PEOPLE)))
    return Interval(min(rate, *(low for low, _ in ends)), max(rate, *(high for _, high in ends)), how)


def exact_eer(curve: metrics.Roc, *, alpha: float = 1 - LEVEL) -> tuple[float, float]:
    """Bounds of the EER that hold for any number of pairs.

    At the threshold where both rates of the population are the EER, each count of errors is binomial; so, but for ``alpha``, the EER
    lies within the exact bounds of both rates at that threshold. The interval is all that lies within both at any threshold.
    """
    false_matches = np.rint(curve.fmr * curve.negatives).astype(np.int64)  # rising along the curve
    false_rejects = np.rint(curve.fnmr * curve.positives).astype(np.int64)  # falling

    @functools.lru_cache(None)
    def bounds(count: int, total: int) -> tuple[float, float]:
        return share_bounds(count, total, alpha=alpha / 2)

    def at(place: int) -> tuple[tuple[float, float], tuple[float, float]]:
        matches = bounds(int(false_matches[place]), curve.negatives)
        return matches, bounds(int(false_rejects[place]), curve.positives)

    def crossing(end: int) -> tuple[int, int]:
        """The neighbours between which the bounds of both rates cross: one rises, the other falls."""
        low, high = 0, len(false_matches) - 1
        while high - low > 1:
            middle = (low + high) // 2
            matches, rejects = at(middle)
            low, high = (low, middle) if matches[end] >= rejects[end] else (middle, high)
        return low, high

    lowest = min(max(matches[0], rejects[0]) for matches, rejects in map(at, crossing(0)))
    highest = max(min(matches[1], rejects[1]) for matches, rejects in map(at, crossing(1)))
    return lowest, highest


def auc_bounds(scores: Floats, labels: Bools) -> tuple[float, float]:
    """Interval of the AUC: what DeLong's method gives, and Newcombe's.

    DeLong et al. 1988 (`metrics.auc_interval`) sees a few pairs that lie far off, and nothing where no couple is in the wrong order;
    Newcombe 2006 (Statistics in Medicine 25, 559-573, method 5) the reverse.
    """
    area = metrics.auc(metrics.roc(scores, labels))
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    half = (positives + negatives) / 2 - 1

    def off(value: float) -> float:
        """How many standard errors the observed area is from ``value``."""
        spread = 1 + half * ((1 - value) / (2 - value) + value / (1 + value))
        variance = value * (1 - value) * spread / (positives * negatives)
        return abs(area - value) / math.sqrt(variance) if variance > 0 else math.inf

    low, high = metrics.auc_interval(scores, labels)
    return min(low, _edge(off, area, 0.0)), max(high, _edge(off, area, 1.0))


def _edge(off: Callable[[float], float], inside: float, outside: float) -> float:
    """The farthest value towards ``outside`` that is not more than `_Z` standard errors off."""
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if off(middle) <= _Z else (inside, middle)
    return inside


def _eer_by_people(scores: Floats, labels: Bools, people: Ints, *, resamples: int, seed: int) -> tuple[float, float]:
    """Percentiles of the EER over people drawn anew (the subject-specific bootstrap of ISO/IEC 19795-1; Bolle et al. 2004).

    A pair of one person counts as often as that person was drawn, a pair of two as often as both were together.
    """
    _, place = np.unique(scores, return_inverse=True)
    place = place.ravel().max() - place.ravel()  # 0 for the highest score
    bins = int(place.max()) + 1
    first, second = people[:, 0], people[:, 1]
    own = first == second
    count = int(people.max()) + 1
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(max(200, min(resamples, int(_WORK / len(scores))))):
        drawn = np.bincount(rng.integers(count, size=count), minlength=count)
        weight = np.where(own, drawn[first], drawn[first] * drawn[second]).astype(np.float64)
        negative = np.bincount(place, weight * ~labels, bins).cumsum()
        positive = np.bincount(place, weight * labels, bins).cumsum()
        if negative[-1] and positive[-1]:
            fmr, fnmr = np.r_[0.0, negative / negative[-1]], np.r_[1.0, 1 - positive / positive[-1]]
            k = int(np.argmax(fmr - fnmr >= -1e-12))
            rise = (fmr[k] - fnmr[k]) - (fmr[k - 1] - fnmr[k - 1])
            rates.append(fmr[k - 1] - (fmr[k - 1] - fnmr[k - 1]) / rise * (fmr[k] - fmr[k - 1]))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(rates, [tail, 1 - tail]) if rates else (0.0, 1.0)
    return float(low), float(high)


def _at_least(count: int, total: int, share: float) -> float:
    """P(X >= count) of a binomial X."""
    if not 0 < share < 1:
        return float(share >= 1)
    fewer = count <= total - count  # sum the side with fewer terms
    terms = np.arange(count) if fewer else np.arange(count, total + 1)
    logs = terms * math.log(share) + (total - terms) * math.log1p(-share) + _log_choose(total)[terms]
    total_share = float(np.exp(logs).sum())
    return 1 - total_share if fewer else total_share


@functools.lru_cache(8)
def _log_choose(total: int) -> Floats:
    """(total + 1,) logarithms of the binomial coefficients."""
    logs = np.r_[0.0, np.cumsum(np.log(np.arange(1, total + 1)))]
    return np.asarray(logs[-1] - logs - logs[::-1])


def _solve(tail: Callable[[float], float], wanted: float, *, falling: bool = False) -> float:
    """The share at which a tail, which rises with it unless ``falling``, is ``wanted``."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (tail(middle) < wanted) != falling else (low, middle)
    return (low + high) / 2
