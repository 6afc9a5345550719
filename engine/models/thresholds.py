"""Thresholds of an encoder at stated rates of false matches, measured on strangers: pairs of two training people's photos.

    spec = dataclasses.replace(spec, thresholds=levels(embeddings, people))
    limit = threshold_of(spec, given=None, fmr=0.001)                # what a command compares similarities with

An interval says between which thresholds the rate would be met by other people of the same kind: people are drawn anew with all their
photos (bootstrap over people, as pairs that share somebody are not independent: Bolle et al. 2004,
https://doi.org/10.1016/j.cviu.2003.08.002). A rate is given only where it stands for ten false matches or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Level, ModelSpec
from faceembed.engine.models.strangers import stranger_pairs
from faceembed.errors import DataError, UsageError

RATES = (1e-2, 1e-3, 1e-4, 1e-5)
"""False match rates at which thresholds are measured."""
USUAL = 1e-3
"""The rate at which an encoder's own threshold is set: among a thousand strangers a search shows one."""
_LEAST_FALSE = 10  # false matches that a rate must stand for
_RESAMPLES = 400
_BINS = 1 << 14  # of the cosine, to find out which pairs are worth keeping


def levels(embeddings: NDArray[np.float32], people: Sequence[str], *, seed: int = 0) -> tuple[Level, ...]:
    """Thresholds at `RATES`.

    Args:
        embeddings: float32 (N, D), unit length.
        people: whose each row is, two or more.
        seed: of the resampling.

    Returns:
        One entry for each rate that the pairs of two people can tell, the highest first. A pair is a match from the threshold on, which
        is the smallest similarity that keeps the rate.

    Raises:
        DataError: fewer than two people.
    """
    names, who = np.unique(np.asarray(people), return_inverse=True)
    if len(names) < 2:
        raise DataError("thresholds are measured on pairs of two people's photos; give two people or more")
    photos = np.bincount(who)
    pairs = (int(photos.sum()) ** 2 - int((photos**2).sum())) // 2
    told = [rate for rate in RATES if rate * pairs >= _LEAST_FALSE]
    if not told:
        return ()
    cosines, one, other = _highest(embeddings, who, min(pairs, int(4 * max(told) * pairs) + 1))
    rng = np.random.default_rng(seed)
    found = np.empty((_RESAMPLES, len(told)))
    for row in found:
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)).astype(np.float64)
        weights = times * photos
        row[:] = _at(cosines, times[one] * times[other], (weights.sum() ** 2 - (weights**2).sum()) / 2, told)
    whole = _at(cosines, np.ones(len(cosines)), pairs, told)
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return tuple(
        Level(rate, math.ceil(1e4 * at) / 1e4, round(one, 4), round(end, 4))  # rounded up: the rate is kept
        for rate, at, one, end in zip(told, whole.tolist(), low.tolist(), high.tolist(), strict=True)
    )


def threshold_of(spec: ModelSpec, *, given: float | None = None, fmr: float | None = None) -> tuple[float | None, str]:
    """The threshold that a command goes by, and where it comes from.

    Args:
        spec: the encoder's.
        given: the user's own.
        fmr: the user's false match rate instead.

    Returns:
        The threshold and words for it; None where the encoder has none and nothing was said.

    Raises:
        UsageError: both were given, a threshold that is no cosine, or a rate that was not measured for this encoder.
    """
    if given is not None and fmr is not None:
        raise UsageError("--threshold and --fmr both say what counts as one person; give one of them")
    if given is not None:
        if not -1 <= given <= 1:
            raise UsageError(f"a threshold of {given:g} is no cosine between -1 and 1")
        return given, "given"
    if fmr is None:
        return spec.threshold, spec.threshold_source
    for level in spec.thresholds:
        if np.isclose(level.fmr, fmr, rtol=1e-6):
            return level.threshold, f"FMR {rate_text(fmr)} over strangers, {level.low:g} to {level.high:g} (95 %)"
    measured = ", ".join(f"{level.fmr:g}" for level in spec.thresholds)
    raise UsageError(
        f"--fmr {fmr:g}: measured for encoder {spec.name} are {measured}"
        if measured
        else f"--fmr {fmr:g}: encoder {spec.name} has no thresholds by rate; give --threshold (see faceembed eval)"
    )


def rate_text(rate: float) -> str:
    """A rate in per cent, as short as it is exact: 1 %, 0.1 %, 0.001 %."""
    return f"{100 * rate:.6g} %"


def _highest(
    embeddings: NDArray[np.float32], who: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The ``count`` most similar pairs of strangers (some more where similarities are close), falling, and whose faces they are."""
    counts = np.zeros(_BINS, np.int64)
    for _, values, strangers in stranger_pairs(embeddings, who):
        counts += np.histogram(values[strangers], bins=_BINS, range=(-1, 1))[0]
    above = np.cumsum(counts[::-1])[::-1]
    least = float(np.flatnonzero(above >= min(count, above[0]))[-1]) / _BINS * 2 - 1 - 1e-6
    kept, one, other = [], [], []
    for start, values, strangers in stranger_pairs(embeddings, who):
        rows, columns = np.nonzero(strangers & (values >= least))
        kept.append(values[rows, columns])
        one.append(who[start + rows])
        other.append(who[columns])
    cosines = np.concatenate(kept)
    order = np.argsort(-cosines, kind="stable")
    return cosines[order], np.concatenate(one)[order], np.concatenate(other)[order]


def _at(
    cosines: NDArray[np.float32], weights: NDArray[np.float64], total: float, rates: Sequence[float]
) -> NDArray[np.float64]:
    """For each rate the smallest of the cosines (falling) from which on no larger share of ``total`` lies."""
    ends = np.flatnonzero(np.r_[cosines[1:] < cosines[:-1], True])  # equal ones match together
    shares = np.cumsum(weights)[ends] / max(total, 1.0)
    places = np.searchsorted(shares, np.asarray(rates) * (1 + 1e-12), side="right") - 1
    values = cosines[ends].astype(np.float64)
    return np.where(places >= 0, values[np.maximum(places, 0)], np.nextafter(values[0], 2))
