"""Error rates of face verification, from scores and labels alone; plain numpy.

A pair is accepted where its score is **at or above** the threshold. With ``positives`` (two photos of one person) and
``negatives`` (anything else), in the names of ISO/IEC 19795-1:

    FMR(t)  = share of negatives with score >= t      false match rate (also FAR, FPR)
    FNMR(t) = share of positives with score <  t      false non-match rate (also FRR, 1 - TAR, 1 - TPR)
    EER     = the rate at which the two are equal

Nothing here knows photos, models or pair lists. Sorting dominates: on 20 million scores `roc`
takes 6 s and 1.3 GB, the ten-fold accuracy 13 s and 2 GB (one core).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from faceembed.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FMR_EXPONENTS = (1, 2, 3, 4, 5, 6)
_WINDOW_POINTS = 4096
_CHUNK = 250


@dataclasses.dataclass(frozen=True)
class Roc:
    """Every operating point of a set of scores: one for each distinct score, and one that accepts nothing."""

    fmr: Floats
    """``(k,)`` float64, rising from 0 to 1."""
    fnmr: Floats
    """``(k,)`` float64, falling from 1 to 0."""
    thresholds: Floats
    """``(k,)`` float64, falling; the first is infinity."""
    positives: int
    negatives: int


@dataclasses.dataclass(frozen=True)
class FoldAccuracy:
    """Cross-validated accuracy."""

    mean: float
    std: float
    """Population standard deviation over the folds (``numpy.std``), as the field quotes it."""


def roc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Roc:
    """All operating points.

    Args:
        scores: ``(n,)`` real numbers, higher is more alike.
        labels: ``(n,)`` bool or 0/1, True for a positive pair.

    Raises:
        DataError: shapes differ, a score is NaN or infinite, or one class is missing.
    """
    values, truth = _checked(scores, labels)
    positive, negative = np.sort(values[truth]), np.sort(values[~truth])
    # Timsort merges two sorted runs in one pass, where `np.unique` would sort again.
    merged = np.concatenate([positive, negative])
    merged.sort(kind="stable")
    distinct = merged[np.r_[True, merged[1:] != merged[:-1]]][::-1]  # (k - 1,), falling
    accepted_negatives = len(negative) - np.searchsorted(negative, distinct, side="left")
    rejected_positives = np.searchsorted(positive, distinct, side="left")
    return Roc(
        fmr=np.r_[0.0, accepted_negatives / len(negative)],
        fnmr=np.r_[1.0, rejected_positives / len(positive)],
        thresholds=np.r_[np.inf, distinct],
        positives=len(positive),
        negatives=len(negative),
    )


def eer(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[float, float]:
    """Equal error rate and its threshold; `eer_of` says how, `roc` what is raised."""
    return eer_of(roc(scores, labels))


def eer_of(curve: Roc) -> tuple[float, float]:
    """Where FMR equals FNMR on the polygon through the operating points.

    FMR - FNMR rises strictly from -1 to 1 along the curve, so there is one crossing. Where it falls on an operating point,
    that point's rate is the EER, and the threshold is the middle of the gap between scores that all give this point. Where
    it falls between two points, both rate and threshold are interpolated linearly between them: this is what scikit-learn's
    ``roc_curve`` gives with ``brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1)``. Ties need no rule of their own:
    equal scores are one point.

    Returns:
        The rate in [0, 0.5] for scores better than chance (up to 1 for worse), and the threshold in the scores' unit.
    """
    rise = curve.fmr - curve.fnmr
    k = int(np.argmax(rise >= 0))
    upper, lower = float(curve.thresholds[k - 1]), float(curve.thresholds[k])
    if rise[k] == 0:  # never the last point, whose rise is 1
        return float(curve.fmr[k]), (lower + float(curve.thresholds[k + 1])) / 2
    weight = float(-rise[k - 1] / (rise[k] - rise[k - 1]))
    rate = float(curve.fmr[k - 1]) + weight * float(curve.fmr[k] - curve.fmr[k - 1])
    return rate, lower if math.isinf(upper) else upper + weight * (lower - upper)


def auc(curve: Roc) -> float:
    """Area under TMR = 1 - FNMR over FMR: the share of (positive, negative) couples in the right order, ties half."""
    heights = 2.0 - curve.fnmr[1:] - curve.fnmr[:-1]
    return float(np.dot(np.diff(curve.fmr), heights) / 2)


def fnmr_at_fmr(curve: Roc, exponent: int) -> float | None:
    """The smallest FNMR whose FMR is at most ``10 ** -exponent``, without interpolation (FNMR@FMR = 1 - TAR@FAR).

    Returns:
        None where the data cannot tell: fewer than ``10 ** exponent`` negatives, so that one false match exceeds the rate.
    """
    allowed = curve.negatives // 10**exponent  # false matches, counted in whole numbers: 0.001 * 3000 is not 3
    if allowed < 1:
        return None
    last = int(np.searchsorted(curve.fmr, allowed / curve.negatives, side="right")) - 1
    return float(curve.fnmr[last])


def fold_accuracy(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, folds: npt.NDArray[np.int64] | None = None, seed: int = 0
) -> FoldAccuracy | None:
    """LFW's accuracy: each fold is judged with the threshold that is most accurate on all the others.

    http://vis-www.cs.umass.edu/lfw/lfw.pdf, section III (View 2). Thresholds lie in the middle between neighbouring scores; of
    equally accurate ones the middle one is taken.

    Args:
        scores: ``(n,)``, see `roc`.
        labels: ``(n,)``, see `roc`.
        folds: ``(n,)`` int, the fold of each pair. Default: ten folds, drawn by ``seed``, with equal shares of both classes.
        seed: for the default folds.

    Returns:
        None where there is too little to cross-validate: fewer than two folds, a class with no pair outside some fold, or,
        for the default folds, fewer than ten pairs of a class.
    """
    values, truth = _checked(scores, labels)
    if folds is None:
        if min(np.count_nonzero(truth), np.count_nonzero(~truth)) < 10:
            return None
        folds = _stratified_folds(truth, 10, seed)
    order = np.argsort(values, kind="stable")[::-1]
    values, truth, folds = values[order], truth[order], folds[order]
    ends = np.flatnonzero(np.r_[values[1:] != values[:-1], True])  # (k,) last place of each distinct score
    distinct = values[ends]
    cuts = np.r_[distinct[0] + 1.0, (distinct[1:] + distinct[:-1]) / 2, distinct[-1] - 1.0]  # (k + 1,) thresholds
    rates: list[float] = []
    for fold in np.unique(folds):
        outside = folds != fold
        # Pairs right at a cut: positives above it and negatives below it.
        gain = np.cumsum(np.where(truth, 1, -1) * outside)[ends]
        right = np.r_[0, gain] + np.count_nonzero(outside & ~truth)
        if not 0 < np.count_nonzero(outside & truth) < np.count_nonzero(outside):
            return None
        best = np.flatnonzero(right == right.max())
        cut = cuts[best[len(best) // 2]]
        inside = ~outside
        rates.append(float(np.mean((values[inside] >= cut) == truth[inside])))
    return FoldAccuracy(float(np.mean(rates)), float(np.std(rates)))


def bootstrap_eer(curve: Roc, *, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the EER (Efron 1979; ISO/IEC 19795-1 annex on bootstrap estimates).

    Positives and negatives are drawn with replacement, each in its own number, as multinomial counts over the sorted scores.
    Scores so far from the EER's threshold that no resample can reach them are one bin on either side: the cost hardly
    depends on the number of pairs. Pairs are taken as independent; a list that uses the same people in many pairs knows
    less than its number of pairs says, and its true interval is wider.

    Args:
        curve: from `roc`.
        resamples: number of resamples.
        seed: of the random numbers.
        level: share of resamples inside the interval.

    Returns:
        Lower and upper end of the interval.
    """
    false_matches, false_rejects = _bins_near_eer(curve)
    chance_negative, chance_positive = np.diff(false_matches), -np.diff(false_rejects)  # (bins,) each
    rng = np.random.default_rng(seed)
    rates: list[Floats] = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        negative = rng.multinomial(curve.negatives, chance_negative / chance_negative.sum(), size=count)
        positive = rng.multinomial(curve.positives, chance_positive / chance_positive.sum(), size=count)
        rates.append(_crossings(negative / curve.negatives, positive / curve.positives))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(rates), [tail, 1 - tail])
    return float(low), float(high)


def auc_interval(scores: npt.ArrayLike, labels: npt.ArrayLike, *, z: float = 1.959964) -> tuple[float, float]:
    """Interval of the AUC by DeLong et al. 1988 (Biometrics 44, 837-845), cut to [0, 1]."""
    values, truth = _checked(scores, labels)
    positive, negative = np.sort(values[truth]), np.sort(values[~truth])
    above = _placements(positive, negative)  # (positives,) share of negatives below each positive
    below = 1 - _placements(negative, positive)  # (negatives,) share of positives above each negative
    variance = sum(float(np.var(part, ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    centre, half = float(np.mean(above)), z * math.sqrt(variance)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def wilson_interval(count: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share, Wilson 1927 (J. Am. Stat. Assoc. 22, 209-212); holds for shares near 0 and 1 too.

    Raises:
        DataError: ``total`` is 0, or ``count`` is not between 0 and ``total``.
    """
    if total <= 0 or not 0 <= count <= total:
        raise DataError(f"a share needs 0 <= count <= total and total > 0, got {count} of {total}")
    share, spread = count / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != truth.shape:
        raise DataError(f"scores and labels must be of one shape (n,), got {values.shape} and {truth.shape}")
    if truth.dtype != np.bool_:
        if not np.isin(truth, (0, 1)).all():
            raise DataError("labels must be True and False, or 1 and 0")
        truth = truth.astype(np.bool_)
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f"score {first} is {values[first]}; every score must be a finite number (a failed pair scores -1)"
        )
    positives = int(np.count_nonzero(truth))
    if positives in (0, len(truth)):
        found = "empty" if not len(truth) else f"all {'positive' if positives else 'negative'}"
        raise DataError(
            f"the {len(truth)} pairs are {found}; error rates need pairs of one person and pairs that are not one person"
        )
    return values, truth


def _stratified_folds(truth: Bools, count: int, seed: int) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    folds = np.empty(len(truth), np.int64)
    for members in (np.flatnonzero(truth), np.flatnonzero(~truth)):
        folds[rng.permutation(members)] = np.arange(len(members)) % count
    return folds


def _bins_near_eer(curve: Roc) -> tuple[Floats, Floats]:
    """The operating points that a resample's crossing can reach, thinned, between (0, 1) and (1, 0)."""
    rate, _ = eer_of(curve)
    spread = math.sqrt(max(rate * (1 - rate), 0.0) * (1 / curve.positives + 1 / curve.negatives))
    reach = 8 * spread + 8 / min(curve.positives, curve.negatives)
    rise = curve.fmr - curve.fnmr
    first, last = np.searchsorted(rise, [-reach, reach], side="left")
    inner = np.arange(max(int(first) - 1, 1), min(int(last) + 1, len(rise) - 1))
    if len(inner) > _WINDOW_POINTS:
        inner = inner[np.linspace(0, len(inner) - 1, _WINDOW_POINTS).astype(np.int64)]
    kept = np.r_[0, inner, len(rise) - 1]
    return curve.fmr[kept], curve.fnmr[kept]


def _crossings(negative: Floats, positive: Floats) -> Floats:
    """EER of each row of ``(rows, bins)`` shares: `eer_of`, vectorised."""
    zeros = np.zeros((len(negative), 1))
    fmr = np.hstack([zeros, np.cumsum(negative, axis=1)])
    rise = fmr - 1 + np.hstack([zeros, np.cumsum(positive, axis=1)])
    rows, k = np.arange(len(rise)), np.argmax(rise >= -1e-12, axis=1)  # the sums end within rounding of 1
    weight = -rise[rows, k - 1] / (rise[rows, k] - rise[rows, k - 1])
    return np.asarray(fmr[rows, k - 1] + weight * (fmr[rows, k] - fmr[rows, k - 1]))


def _placements(ranked: Floats, others: Floats) -> Floats:
    """Share of ``others`` below each of ``ranked``, ties half; both sorted."""
    left = np.searchsorted(others, ranked, side="left")
    right = np.searchsorted(others, ranked, side="right")
    return np.asarray((left + right) / (2 * len(others)))
