"""The figures of a search, 1:N: rank-k, and FNIR at FPIR, from scores of probes against a gallery; plain numpy.

    figures = identification(scores, owner, subjects)     # (P, G) cosines; owner -1: a stranger
    figures.fnir_at_fpir["1e-2"].rate

In the names of ISO/IEC 19795-1 and NIST IR 8271 (https://doi.org/10.6028/NIST.IR.8271, section 3): a mated probe shows somebody of the
gallery, a non-mated one a stranger, and at a threshold T

    FPIR(T) = share of non-mated probes with a candidate at or above T
    FNIR(T) = share of mated probes whose own person is not the first candidate, or is below T      (R = 1)
    rank-k  = share of mated probes whose own person is among the k first candidates                (whatever the score)

T is the smallest at which FPIR is not passed. A rate below 1 / (non-mated probes) cannot be told. Intervals of 95 % draw people anew with
all their probes (bootstrap), non-mated ones too, so that the threshold moves with them; what rests on fewer than ten misses has exact
bounds. What is not known here: photos, templates, lists.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.intervals import FEW, share_bounds
from faceembed.errors import DataError

RANKS = (1, 5, 10, 20)
FPIRS = ("1e-1", "1e-2", "1e-3")
_RESAMPLES = 400
_POINTS = 200  # of the DET curve
_NO_TEMPLATE = -1.0


@dataclasses.dataclass(frozen=True)
class FnirAt:
    """Misses at a stated FPIR."""

    rate: float
    """FNIR."""
    ci: tuple[float, float]
    threshold: float


@dataclasses.dataclass(frozen=True)
class Identification:
    """The figures of one search. Rates are shares in [0, 1]."""

    gallery: int
    """People in it."""
    mated: int
    """Probes of people in the gallery."""
    non_mated: int
    rank: dict[str, float]
    """By k: of `RANKS`, those not above the gallery's size."""
    rank_ci: dict[str, tuple[float, float]]
    """Exact binomial bounds, probes taken as independent."""
    fnir_at_fpir: dict[str, FnirAt | None]
    """None where the strangers' probes are too few."""
    det: list[tuple[float, float, float]]
    """(FPIR, FNIR, threshold), at most `_POINTS` of them, from low to high FPIR; empty without strangers."""
    failures: int
    """Probes without a face: they score -1 everywhere, so that a model cannot gain by refusing hard photos."""
    ci_how: str

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; what the data cannot tell is null, and ``cannot_tell`` says why."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        why = {
            f"fnir_at_fpir.{rate}": f"needs {round(1 / float(rate)):,} probes of strangers, there are {self.non_mated:,}"
            for rate, found in self.fnir_at_fpir.items()
            if found is None
        }
        return {**fields, "cannot_tell": why}


def identification(
    scores: NDArray[np.float32],
    owner: Sequence[int],
    subjects: Sequence[str],
    *,
    failed: Sequence[bool] = (),
    seed: int = 0,
) -> Identification:
    """All figures.

    Args:
        scores: (P, G), how alike each probe is to each person of the gallery; the higher the more.
        owner: (P,) the column of the person that a probe shows; -1 for a stranger.
        subjects: (P,) whom a probe shows, strangers too: people are drawn anew by it.
        failed: (P,) whether a probe had no face; its scores are not looked at.
        seed: of the bootstrap.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, an empty gallery, or no mated probe.
    """
    columns = np.asarray(owner, np.int64)
    lost = np.asarray(failed, np.bool_) if len(failed) else np.zeros(len(columns), np.bool_)
    if scores.ndim != 2 or not scores.shape[1] or not len(scores) == len(columns) == len(subjects) == len(lost):
        raise DataError(f"expected scores (P, G) and an owner and a subject for each probe, got {scores.shape}")
    values = np.where(lost[:, None], _NO_TEMPLATE, scores).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("a score is not finite; every probe without a face must be marked as failed")
    mated = columns >= 0
    if not mated.any():
        raise DataError("no probe shows anybody of the gallery: rank and FNIR need such probes")
    own = values[mated, columns[mated]]
    rank = 1 + (values[mated] > own[:, None]).sum(axis=1)
    rank = np.where(lost[mated], values.shape[1] + 1, rank)  # all its scores are equal, and it has found nobody
    top = values[~mated].max(axis=1)
    people = np.unique(np.asarray(subjects), return_inverse=True)[1]
    draw = _Draws(own, rank == 1, people[mated], top, people[~mated], seed)
    ranks = [k for k in RANKS if k <= values.shape[1]]
    hits = {str(k): int((rank <= k).sum()) for k in ranks}
    return Identification(
        gallery=values.shape[1],
        mated=int(mated.sum()),
        non_mated=len(top),
        rank={k: count / len(rank) for k, count in hits.items()},
        rank_ci={k: share_bounds(count, len(rank)) for k, count in hits.items()},
        fnir_at_fpir={rate: draw.at(float(rate)) for rate in FPIRS},
        det=_det(own, rank == 1, top),
        failures=int(lost.sum()),
        ci_how="people resampled with all their probes; exact binomial bounds below ten misses",
    )


def threshold_at(top: NDArray[np.float64], fpir: float, weights: NDArray[np.float64] | None = None) -> float:
    """The smallest threshold at which no larger share of strangers than ``fpir`` has a candidate.

    Args:
        top: (N,) the highest score of each.
        fpir: the rate.
        weights: (N,) how often each counts; once by default.
    """
    order = np.argsort(-top, kind="stable")
    weight = np.ones(len(top)) if weights is None else weights[order]
    falling = top[order]
    ends = np.flatnonzero(np.r_[falling[1:] < falling[:-1], True])  # equal ones pass together
    share = np.cumsum(weight)[ends] / max(float(weight.sum()), 1e-12)
    passed = int(np.searchsorted(share, fpir * (1 + 1e-12), side="right"))
    if passed == len(ends):
        return float(falling[-1])
    return float(np.nextafter(falling[ends[passed]], np.inf))  # just above the first that would be too much


@dataclasses.dataclass(frozen=True)
class _Draws:
    """Probes, and people to draw anew."""

    own: NDArray[np.float64]
    first: NDArray[np.bool_]
    people: NDArray[np.int64]
    top: NDArray[np.float64]
    strangers: NDArray[np.int64]
    seed: int

    def at(self, fpir: float) -> FnirAt | None:
        """FNIR at a rate; None where strangers are too few for it."""
        if len(self.top) * fpir < 1 - 1e-9:
            return None
        limit = threshold_at(self.top, fpir)
        missed = ~(self.first & (self.own >= limit))
        count, total = int(missed.sum()), len(missed)
        if min(count, total - count) < FEW:
            return FnirAt(count / total, share_bounds(count, total), limit)
        rng, size = np.random.default_rng(self.seed), 1 + max(self.people.max(), self.strangers.max())
        rates = []
        for _ in range(_RESAMPLES):
            times = np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
            mine, others = times[self.people], times[self.strangers]
            if mine.sum() and others.sum():
                hit = self.first & (self.own >= threshold_at(self.top, fpir, others))
                rates.append(1 - float((mine * hit).sum() / mine.sum()))
        low, high = np.quantile(rates, [0.025, 0.975])
        return FnirAt(count / total, (float(min(low, count / total)), float(max(high, count / total))), limit)


def _det(
    own: NDArray[np.float64], first: NDArray[np.bool_], top: NDArray[np.float64]
) -> list[tuple[float, float, float]]:
    if not len(top):
        return []
    limits = np.unique(top)[::-1]
    if len(limits) > _POINTS:
        limits = limits[np.unique(np.geomspace(1, len(limits), _POINTS).astype(int)) - 1]
    found = np.sort(own[first])
    misses = 1 - (len(found) - np.searchsorted(found, limits, side="left")) / len(own)
    passed = np.searchsorted(np.sort(-top), -limits, side="right") / len(top)
    return [(float(a), float(b), float(t)) for a, b, t in zip(passed, misses, limits, strict=True)]
