"""Error rates by group (age, origin, sex, camera …) at one threshold for all: how unevenly an encoder errs.

The threshold is held fixed, as it is in use: rates at a threshold of each group's own would hide the difference. The measure of it is
the largest rate over the smallest, FMR and FNMR each (ISO/IEC 19795-10 and NIST IR 8429 report such ratios, https://doi.org/10.6028/NIST.IR.8429).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate.intervals import share_bounds

Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class GroupRates:
    """The rates of one group's pairs."""

    positives: int
    negatives: int
    fnmr: float | None
    """None without pairs of one person."""
    fnmr_ci: Bounds | None
    """Exact binomial bounds of 95 %, pairs taken as independent; a pair that the list repeats counts once."""
    fmr: float | None
    """None without pairs that are not one person."""
    fmr_ci: Bounds | None


@dataclasses.dataclass(frozen=True)
class WorstRatio:
    """The largest rate of a group over the smallest."""

    ratio: float | None
    """None where the smallest is 0: no error was seen there, and its interval says how many there may be."""
    worst: str
    best: str


@dataclasses.dataclass(frozen=True)
class Groups:
    """All groups of a list."""

    threshold: float
    by_name: dict[str, GroupRates]
    fmr_ratio: WorstRatio | None
    """None with fewer than two groups that have such pairs."""
    fnmr_ratio: WorstRatio | None


def rates_by_group(
    scores: npt.NDArray[np.float64],
    labels: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.str_],
    once: npt.NDArray[np.bool_],
    threshold: float,
) -> Groups | None:
    """The rates of each group; None where no pair has one.

    Args:
        scores: (n,), higher is more alike.
        labels: (n,), whether a pair is one person.
        groups: (n,) names; an empty one for a pair of no group.
        once: (n,) whether a pair is counted for intervals: its first time.
        threshold: for all groups; a pair is accepted from it on.
    """
    names = sorted({name for name in groups.tolist() if name})
    if not names:
        return None
    found = {}
    for name in names:
        mine = groups == name
        same, other = mine & labels, mine & ~labels
        fnmr, fnmr_ci = _rate(scores < threshold, same, once)
        fmr, fmr_ci = _rate(scores >= threshold, other, once)
        found[name] = GroupRates(int(same.sum()), int(other.sum()), fnmr, fnmr_ci, fmr, fmr_ci)
    return Groups(
        threshold,
        found,
        _worst({name: rates.fmr for name, rates in found.items()}),
        _worst({name: rates.fnmr for name, rates in found.items()}),
    )


def _rate(
    wrong: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_], once: npt.NDArray[np.bool_]
) -> tuple[float | None, Bounds | None]:
    if not chosen.any():
        return None, None
    counted = chosen & once
    return float(wrong[chosen].mean()), share_bounds(int(wrong[counted].sum()), int(counted.sum()))


def _worst(rates: dict[str, float | None]) -> WorstRatio | None:
    known = {name: rate for name, rate in rates.items() if rate is not None}
    if len(known) < 2:
        return None
    worst, best = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
    return WorstRatio(known[worst] / known[best] if known[best] else None, worst, best)
