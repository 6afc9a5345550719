"""QMagFace's comparison score: a similarity that counts for less where the poorer of two photos is poor.

    score = quality_aware(similarity, norm_a, norm_b, spec.quality_aware)
    alpha_beta = fit_quality_aware(embeddings, norms, people)

Terhörst, Ihlefeld, Huber, Damer, Kirchbuchner, Raja, Kuijper 2023, "QMagFace: Simple and Accurate Quality-Aware Face Recognition" (WACV,
https://arxiv.org/abs/2111.13475), section 3: with the similarity s and the qualities q_1, q_2 (lengths of the embeddings before they are
normalised)

    s' = s + w(s) min(q_1, q_2)        w(s) = min(0, beta s - alpha)

and alpha and beta are a line through the best weights: for each of `RATES` false match rates the w of `WEIGHTS` between -1/2 and 1/2 of 1 / max q
at which s + w q has the lowest FNMR, against the threshold there. A line that falls (beta below 0), or weights that never lie below 0, say
that the encoder's norm tells nothing that the similarity does not: the score is the similarity then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceembed.engine.models.strangers import stranger_pairs
from faceembed.errors import DataError

RATES = 50  # from 1e-5 to 1e-2, as published
WEIGHTS = 21  # an odd number, so that none at all is one of them
LEAST_STRANGERS = 1000
"""Pairs of strangers without which no rate of `RATES` can be told."""
_MOST = 0.5  # of s that a weight may take, as published
_PAIRS = 2_000_000  # of strangers, at most


def quality_aware(
    similarity: ArrayLike, quality_a: ArrayLike, quality_b: ArrayLike, alpha_beta: tuple[float, float]
) -> NDArray[np.float64]:
    """The score, of the shape of its arguments; at most the similarity.

    Args:
        similarity: cosines.
        quality_a, quality_b: lengths of the embeddings before normalisation.
        alpha_beta: from `fit_quality_aware`.
    """
    alpha, beta = alpha_beta
    s = np.asarray(similarity, np.float64)
    weight = np.minimum(0.0, beta * s - alpha)
    return np.asarray(s + weight * np.minimum(quality_a, quality_b))


def fit_quality_aware(
    embeddings: NDArray[np.float32], norms: NDArray[np.float32], people: Sequence[str], *, seed: int = 0
) -> tuple[float, float]:
    """alpha and beta, on training people.

    Args:
        embeddings: float32 (N, D), unit length.
        norms: (N,) their lengths before that.
        people: whose each is.
        seed: of the strangers that are drawn where there are more than two million pairs.

    Raises:
        DataError: no pair of one person, or fewer than a thousand of two.
    """
    s, q, same = _pairs(embeddings, norms, people, seed)
    genuine = int(same.sum())
    if not genuine or len(s) - genuine < LEAST_STRANGERS:
        raise DataError(
            "a quality-aware score is fitted on pairs of one person and a thousand pairs of strangers or more"
        )
    most = _MOST / float(q.max())
    rates = np.logspace(-5, -2, RATES)
    rates = rates[rates * (len(s) - genuine) >= 1]
    weights = np.linspace(-most, most, WEIGHTS)
    missed = np.empty((WEIGHTS, len(rates)))
    limits = np.empty((WEIGHTS, len(rates)))
    for number, weight in enumerate(weights):
        scores = s + weight * q
        strangers = np.sort(scores[~same])[::-1]
        limits[number] = strangers[np.maximum((rates * len(strangers)).astype(int) - 1, 0)]
        missed[number] = np.searchsorted(np.sort(scores[same]), limits[number], side="right") / genuine
    # Of equal ones the least weight, so that noise puts none in.
    order = np.argsort(np.abs(weights), kind="stable")
    best = order[missed[order].argmin(axis=0)]
    beta, intercept = np.polyfit(limits[best, np.arange(len(rates))], weights[best], 1)
    return float(-intercept), float(beta)


def _pairs(
    embeddings: NDArray[np.float32], norms: NDArray[np.float32], people: Sequence[str], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """(n,) cosine, lesser quality and whether it is one person: all pairs of one person, and strangers."""
    who = np.unique(np.asarray(people), return_inverse=True)[1]
    total = sum(int(pairs.sum()) for _, _, pairs in stranger_pairs(embeddings, who))
    keep = np.random.default_rng(seed)
    found = []
    columns = np.arange(len(who))
    for start, cosines, strangers in stranger_pairs(embeddings, who):
        rows = columns[start : start + len(cosines)]
        same = (who[rows, None] == who[None]) & (rows[:, None] < columns[None])
        if total > _PAIRS:
            strangers = strangers & (keep.random(strangers.shape) < _PAIRS / total)
        for chosen, one in ((same, True), (strangers, False)):
            a, b = np.nonzero(chosen)
            lesser = np.minimum(norms[rows[a]], norms[b])
            found.append((cosines[a, b].astype(np.float64), lesser.astype(np.float64), np.full(len(a), one)))
    s, q, truth = (np.concatenate([part[place] for part in found]) for place in range(3))
    return s, q, truth
