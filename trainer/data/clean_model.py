"""How likely each photo shows another person than its folder says: estimated from the folders alone, for any encoder.

Two figures of a photo tell: its similarity to the core of its own folder (the mean of the folder's other photos, each as far
as it is believed), and its similarity to the nearest other folder's core. What these figures look like for a wrong label is
measured, not assumed: every photo is given, in thought, the label of a random other photo, once with its own person's folder
among the others, and once without (a stranger of whom there is no folder). A logistic model learns to tell those from the
labels as they are. Those are wrong here and there themselves, so a photo counts for them as far as it is believed, and
fitting and believing take turns (expectation maximisation); the share of wrong labels comes out of it as well.

Nothing here is a cosine that somebody chose, so an encoder whose strangers are at 0.85 is served as one whose strangers are
at 0. It knows vectors and numbers of people, not photos.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from faceembed.trainer.data.graph import neighbours

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

CANDIDATES = 8  # other folders that a photo is compared with: the nearest at the start
STRANGERS = (
    0.2  # share of the imagined wrong labels whose own folder is left out; chosen on people_wild's training people
)
_ROUNDS = 12
_SETTLED = 1e-3
_SMALLEST_SHARE = 0.05  # of wrong labels that is reckoned with: a photo too few costs less than a wrong one kept
_FIRST_SHARE = 0.1  # before anything is known: what is found in people collected from the web
_LARGEST_SHARE = 0.5
_LEAST_CORE = 0.5  # photos; with less belief than this around it, a photo cannot be judged
_SURE = 0.1  # a photo is said to be another person's if it would be doubted less than this there
_CHUNK = 8_192
_RIDGE = 1e-2


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is known about each of N photos of P people."""

    own: Floats
    """(N,) cosine to the core of the own folder without the photo itself; NaN where there is no such core."""
    rival: Floats
    """(N,) cosine to the nearest other core; 0 where there is none nearer than that."""
    wrong: Doubles
    """(N,) probability that the label is wrong; NaN where it cannot be judged."""
    removed: Flags
    """(N,) whether it is to go."""
    suggested: Ints
    """(N,) the person whom it clearly shows instead, or -1; only where removed."""
    cores: Floats
    """(P, D) unit length; zeros where nothing is left."""
    belief: Doubles
    """(N,) in [0, 1]: how far the photo counts for its folder's core."""
    share: float
    """Estimated share of wrong labels."""
    weights: tuple[float, ...]
    """The logistic model: intercept, own, rival, one over the core's photos."""


def centred(vectors: Floats, persons: Ints) -> Floats:
    """Unit vectors about the mean of the people: what all faces share says nothing about who somebody is.

    Args:
        vectors: float32 (N, D), unit length.
        persons: int64 (N,) sorted, 0 to P - 1.

    Returns:
        float32 (N, D), unit length; a vector that is the mean itself becomes zeros.
    """
    means, _ = _sums(vectors, persons, np.ones(len(vectors)))
    centre = (means / np.bincount(persons)[:, None]).mean(0)
    return _unit(vectors - centre.astype(np.float32))


def fit(vectors: Floats, persons: Ints, belief: Doubles, *, cut: float = 0.5) -> Fit:
    """Estimate which labels are wrong.

    Args:
        vectors: float32 (N, D) from `centred`.
        persons: int64 (N,) sorted, 0 to P - 1, P >= 2.
        belief: (N,) in [0, 1], how far each photo counts for its folder at first, e.g. 1 in the folder's largest cluster.
        cut: remove from this probability on.
    """
    people = int(persons[-1]) + 1
    drawn = _imagined_labels(persons, people)
    share, weights, nearest = _FIRST_SHARE, np.zeros(4), np.zeros((0, 0), np.int64)
    for number in range(_ROUNDS):
        sums, counts = _sums(vectors, persons, belief)
        cores = _unit(sums.astype(np.float32))
        if number == 0:
            nearest = neighbours(vectors, cores, min(CANDIDATES, people))[0]
        seen = _look(vectors, persons, belief, sums, counts, cores, nearest, drawn)
        weights = _learn(seen, belief, weights)
        judged = seen.count >= _LEAST_CORE
        wrong = _sigmoid(_features(seen.own, seen.rival, seen.count) @ weights + _log_odds(share))
        share = float(np.clip(wrong[judged].mean() if judged.any() else 0.0, _SMALLEST_SHARE, _LARGEST_SHARE))
        removed, suggested = _decide(seen, wrong, judged, persons, counts, weights, share, cut)
        before, belief = belief, np.where(removed | judged, 1 - wrong, 1.0)
        # Where nobody agrees with anybody, and nothing says whose the photos are, they keep a say.
        belief = np.where(judged & ~removed & (wrong >= cut), 0.5, belief)
        if number and np.abs(belief - before).max() < _SETTLED:
            break
    own = np.where(judged, seen.own, np.nan).astype(np.float32)
    return Fit(
        own=own,
        rival=seen.rival.astype(np.float32),
        wrong=np.where(judged & (removed | (wrong < cut)), wrong, np.nan),
        removed=removed,
        suggested=np.where(removed, suggested, -1),
        cores=cores,
        belief=belief,
        share=share,
        weights=tuple(float(value) for value in weights),
    )


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The figures under the labels as they are, and under the imagined ones."""

    own: Doubles
    rival: Doubles
    rival_person: Ints
    second: Doubles
    """The nearest core but the own and the rival."""
    count: Doubles
    """Photos in the own core, as far as believed, without the photo."""
    drawn_own: Doubles
    drawn_rival: Doubles
    """With the photo's own folder among the others,"""
    drawn_stranger: Doubles
    """and without it."""
    drawn_count: Doubles


def _look(
    vectors: Floats,
    persons: Ints,
    belief: Doubles,
    sums: Doubles,
    counts: Doubles,
    cores: Floats,
    nearest: Ints,
    drawn: Ints,
) -> _Seen:
    total = len(vectors)
    values = {name: np.zeros(total) for name in _NUMBERS}
    rival_person = np.full(total, -1, np.int64)
    for start in range(0, total, _CHUNK):
        rows = slice(start, min(start + _CHUNK, total))
        x, p, q, near = vectors[rows], persons[rows], drawn[rows], nearest[rows]
        core = sums[p] - x * belief[rows, None]
        own = np.einsum("nd,nd->n", x, core) / np.maximum(np.linalg.norm(core, axis=1), 1e-9)
        similarity = np.einsum("nd,ncd->nc", x, cores[near], optimize=True).astype(np.float64)
        # At least 0: after centring that is what two random people have in common.
        similarity = np.where((near >= 0) & (near != p[:, None]) & (counts[near] > 1e-6), np.maximum(similarity, 0), 0)
        order = np.argsort(-similarity, axis=1, kind="stable")
        line = np.arange(len(x))
        best = order[:, 0]
        values["own"][rows] = own
        values["rival"][rows] = similarity[line, best]
        rival_person[rows] = np.where(similarity[line, best] > 0, near[line, best], -1)
        values["second"][rows] = similarity[line, order[:, 1]] if near.shape[1] > 1 else 0
        values["count"][rows] = counts[p] - belief[rows]
        others = np.where(near == q[:, None], 0, similarity).max(axis=1)
        values["drawn_own"][rows] = np.einsum("nd,nd->n", x, cores[q])
        values["drawn_stranger"][rows] = others
        values["drawn_rival"][rows] = np.maximum(others, own)
        values["drawn_count"][rows] = counts[q]
    return _Seen(rival_person=rival_person, **values)


_NUMBERS = tuple(field.name for field in dataclasses.fields(_Seen) if field.name != "rival_person")


def _learn(seen: _Seen, belief: Doubles, weights: Doubles) -> Doubles:
    """The logistic model of imagined wrong labels against the labels as they are, equal odds."""
    there = (seen.count >= _LEAST_CORE) & (belief > 0)
    able = there & (seen.drawn_count >= _LEAST_CORE)
    if not able.any():
        return weights
    real = np.where(there, belief, 0.0)
    told = np.where(able, belief, 0.0)
    told *= real.sum() / told.sum()
    rows = np.concatenate(
        [
            _features(seen.own, seen.rival, seen.count),
            _features(seen.drawn_own, seen.drawn_rival, seen.drawn_count),
            _features(seen.drawn_own, seen.drawn_stranger, seen.drawn_count),
        ]
    )
    wrong = np.repeat([0.0, 1.0, 1.0], len(belief))
    each = np.concatenate([real, told * (1 - STRANGERS), told * STRANGERS])
    return _logistic(rows, wrong, each)


def _features(own: Doubles, rival: Doubles, count: Doubles) -> Doubles:
    """(N, 4): one, both similarities, and how few photos make the core, which lowers what a right photo reaches."""
    return np.stack([np.ones_like(own), own, rival, 1 / np.maximum(count, 1.0)], axis=1)


def _logistic(rows: Doubles, target: Doubles, each: Doubles) -> Doubles:
    """Weighted ridge logistic regression by Newton's steps."""
    weights = np.zeros(rows.shape[1])
    ridge = _RIDGE * np.eye(len(weights))
    for _ in range(50):
        chance = _sigmoid(rows @ weights)
        slope = rows.T @ (each * (target - chance)) - _RIDGE * weights
        bend = (rows * (each * chance * (1 - chance))[:, None]).T @ rows + ridge
        step = np.linalg.solve(bend, slope)
        weights = weights + step * min(1.0, 20.0 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-6:
            break
    return weights


def _decide(
    seen: _Seen,
    wrong: Doubles,
    judged: Flags,
    persons: Ints,
    counts: Doubles,
    weights: Doubles,
    share: float,
    cut: float,
) -> tuple[Flags, Ints]:
    """Which photos go, and whose they are instead where that is clear."""
    removed = judged & (wrong >= cut)
    there = np.maximum(seen.rival_person, 0)
    elsewhere = _features(seen.rival, np.maximum(seen.second, seen.own), counts[there])
    # Asked with the odds reversed: of all the folders it might be in, nearly every one is wrong.
    doubt_there = _sigmoid(elsewhere @ weights + _log_odds(1 - share))
    clear = (seen.rival_person >= 0) & (counts[there] >= 1.5) & (doubt_there < _SURE)
    suggested = np.where(clear, seen.rival_person, -1)
    # A folder of which nothing would be left has no core to judge by: only what clearly belongs elsewhere goes.
    left = np.bincount(persons[~removed], minlength=len(counts))
    return removed & ((left[persons] > 0) | clear), suggested


def _imagined_labels(persons: Ints, people: int) -> Ints:
    """For each photo the label of a random other photo, or of the next person where that is its own."""
    rng = np.random.default_rng(0)
    drawn = persons[rng.integers(len(persons), size=len(persons))]
    return np.where(drawn == persons, (persons + 1) % people, drawn)


def _sums(vectors: Floats, persons: Ints, weight: Doubles) -> tuple[Doubles, Doubles]:
    """(P, D) weighted sums of each person's vectors, and (P,) sums of the weights; ``persons`` is sorted."""
    first = np.flatnonzero(np.r_[True, persons[1:] != persons[:-1]])
    sums = np.add.reduceat(vectors * weight[:, None].astype(np.float32), first, axis=0).astype(np.float64)
    return sums, np.add.reduceat(weight.astype(np.float64), first)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0), np.float32)


def _sigmoid(value: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))


def _log_odds(share: float) -> float:
    return float(np.log(share / (1 - share)))
