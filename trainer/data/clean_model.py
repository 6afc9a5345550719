"""How likely each photo shows another person than its folder says: estimated from the folders alone, for any encoder.

Two figures of a photo tell: its similarity to the core of its own folder (the mean of the folder's other photos, each as far
as it is believed), and its similarity to the nearest other folder's core. What these figures look like for a wrong label is
measured, not assumed: every photo is given, in thought, the label of a random other photo, once with its own person's folder
among the others and once without (a stranger of whom there is no folder), and the label of somebody who looks alike. A logistic
model learns to tell those from the labels as they are. Those are wrong here and there themselves, so a photo counts for them
as far as it is believed, and fitting and believing take turns (expectation maximisation); the share of wrong labels comes out
of it as well.

Nothing here is a cosine that somebody chose, so an encoder whose strangers are at 0.85 is served as one whose strangers are
at 0. It knows vectors and numbers of people, not photos.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.graph import neighbours

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

CANDIDATES = 8  # other folders that a photo is compared with: the nearest at the start
# What imagined wrong labels are made of: with more of these two kinds more of the errors that the web makes are found, and more
# photos go that merely look unlike their person. Tried on people_wild's training people; 0.1 of LOOKALIKES became 0.05 after
# all people had been seen at 0.1, where strict precision (benchmarks/cleaning.py) was 94.4 %.
STRANGERS = 0.1  # share whose own folder is left out
LOOKALIKES = 0.05  # share that is given to one of the
_ALIKE = 4  # nearest other people
# Wrong labels reckoned with at least, as is usual among people collected from the web: a good photo less costs less than a
# wrong one kept. Chosen by what was removed from all of people_wild, no label swapped.
LEAST_SHARE, _LARGEST_SHARE = 0.1, 0.5
_ROUNDS = 12
_SETTLED = 1e-3
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
    """(N,) another person whom it clearly shows, or -1; says something only where the photo does not fit its own."""
    cores: Floats
    """(P, D) unit length; zeros where nothing is left."""
    belief: Doubles
    """(N,) in [0, 1]: how far the photo counts for its folder's core."""
    share: float
    """Estimated share of wrong labels among those that can be judged; NaN where there are none."""
    weights: tuple[float, ...]
    """The logistic model: intercept, similarity to the own core, to the rival."""


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


def fit(vectors: Floats, persons: Ints, belief: Doubles, groups: Ints, *, cut: float = 0.5) -> Fit:
    """Estimate which labels are wrong.

    Args:
        vectors: float32 (N, D) from `centred`.
        persons: int64 (N,) sorted, 0 to P - 1, P >= 2.
        belief: (N,) in [0, 1], how far each photo counts for its folder at first, e.g. 1 in the folder's largest cluster.
        groups: (N,) number of the group of several photos, beside the folder's largest, that the photo is in, or -1: such a
            group is compared with the rest of its folder as a whole, for its members would vouch for each other.
        cut: remove from this probability on.
    """
    people = int(persons[-1]) + 1
    drawn = _imagined_labels(persons, people)
    share, weights, nearest = math.nan, np.zeros(3), np.zeros((0, 0), np.int64)
    for number in range(_ROUNDS):
        sums, counts = _sums(vectors, persons, belief)
        cores = _unit(sums.astype(np.float32))
        if number == 0:
            nearest = neighbours(vectors, cores, min(CANDIDATES, people))[0]
        seen = _look(vectors, persons, belief, groups, sums, counts, cores, nearest, drawn)
        alike = _alikeness(vectors, belief, sums, counts)
        weights = _learn(seen, belief, weights, alike)
        judged = seen.real.count >= _LEAST_CORE
        odds = float(np.clip(np.nan_to_num(share), LEAST_SHARE, _LARGEST_SHARE))
        wrong = _sigmoid(seen.real.features(alike) @ weights + _log_odds(odds))
        share = float(wrong[judged].mean()) if judged.any() else math.nan
        removed, suggested = _decide(seen, wrong, judged, persons, counts, weights, alike, odds, cut)
        before, belief = belief, np.where(judged, 1 - wrong, 1.0)
        # Where nobody agrees with anybody, and nothing says whose the photos are, they keep a say.
        belief = np.where(judged & ~removed & (wrong >= cut), 0.5, belief)
        if number and np.abs(belief - before).max() < _SETTLED:
            break
    own = np.where(judged, seen.real.own, np.nan).astype(np.float32)
    return Fit(
        own=own,
        rival=seen.real.rival.astype(np.float32),
        wrong=np.where(judged & (removed | (wrong < cut)), wrong, np.nan),
        removed=removed,
        suggested=suggested,
        cores=cores,
        belief=belief,
        share=share,
        weights=tuple(float(value) for value in weights),
    )


@dataclasses.dataclass(frozen=True)
class _Figures:
    """What tells, for N photos under some labels."""

    own: Doubles
    rival: Doubles
    count: Doubles
    """Photos in the own core, as far as believed, without the photo."""

    @classmethod
    def empty(cls, total: int) -> _Figures:
        """All 0."""
        return cls(np.zeros(total), np.zeros(total), np.zeros(total))

    def fill(self, rows: slice, own: Doubles, rival: Doubles, count: Doubles) -> None:
        """Set some rows."""
        self.own[rows], self.rival[rows], self.count[rows] = own, rival, count

    def features(self, alike: float) -> Doubles:
        """(N, 3): see `_features`."""
        return _features(self.own, self.rival, self.count, alike)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The figures under the labels as they are, and under three kinds of wrong ones."""

    real: _Figures
    rival_person: Ints
    second: Doubles
    """(N,) the nearest core but the own and the rival."""
    anybody: _Figures
    """The label of a random other photo."""
    stranger: _Figures
    """The same, of a person of whom there is no folder."""
    lookalike: _Figures
    """The label of a person who looks alike."""


def _look(
    vectors: Floats,
    persons: Ints,
    belief: Doubles,
    groups: Ints,
    sums: Doubles,
    counts: Doubles,
    cores: Floats,
    nearest: Ints,
    drawn: Ints,
) -> _Seen:
    """Compare every photo with its own core and the candidates, a chunk at a time."""
    total = len(vectors)
    real, anybody, stranger, lookalike = (_Figures.empty(total) for _ in range(4))
    rival_person, second = np.full(total, -1, np.int64), np.zeros(total)
    group_sums, group_counts = _group_sums(vectors, belief, groups)
    for start in range(0, total, _CHUNK):
        rows = slice(start, min(start + _CHUNK, total))
        x, p, q, near = vectors[rows], persons[rows], drawn[rows], nearest[rows]  # (n, D), (n,), (n,), (n, c)
        line = np.arange(len(x))
        alone, g = groups[rows] < 0, np.maximum(groups[rows], 0)
        core = sums[p] - np.where(alone[:, None], x * belief[rows, None], group_sums[g])
        count = counts[p] - np.where(alone, belief[rows], group_counts[g])
        own = np.einsum("nd,nd->n", x, core) / np.maximum(np.linalg.norm(core, axis=1), 1e-9)
        similarity = np.einsum("nd,ncd->nc", x, cores[near], optimize=True).astype(np.float64)  # (n, c)
        # At least 0: after centring that is what two random people have in common.
        other = (near >= 0) & (near != p[:, None]) & (counts[near] > 1e-6)
        similarity = np.where(other, np.maximum(similarity, 0), 0)
        order = np.argsort(-similarity, axis=1, kind="stable")
        best = similarity[line, order[:, 0]]
        rival_person[rows] = np.where(best > 0, near[line, order[:, 0]], -1)
        second[rows] = similarity[line, order[:, 1]] if near.shape[1] > 1 else 0
        real.fill(rows, own, best, count)

        others = np.where(near == q[:, None], 0, similarity).max(axis=1)
        drawn_own = np.einsum("nd,nd->n", x, cores[q]).astype(np.float64)
        anybody.fill(rows, drawn_own, np.maximum(others, own), counts[q])
        stranger.fill(rows, drawn_own, others, counts[q])

        # The nearest other person, the next one for the next photo, and so on.
        chosen = order[line, np.minimum(np.arange(rows.start, rows.stop) % _ALIKE, near.shape[1] - 1)]
        alike, alike_own = near[line, chosen], similarity[line, chosen]
        others = np.where(near == alike[:, None], 0, similarity).max(axis=1)
        lookalike.fill(rows, alike_own, np.maximum(others, own), np.where(alike_own > 0, counts[alike], 0))
    return _Seen(real, rival_person, second, anybody, stranger, lookalike)


def _learn(seen: _Seen, belief: Doubles, weights: Doubles, alike: float) -> Doubles:
    """The logistic model of imagined wrong labels against the labels as they are, equal odds."""
    real = np.where(seen.real.count >= _LEAST_CORE, belief, 0.0)
    kinds = ((seen.anybody, 1 - STRANGERS - LOOKALIKES), (seen.stranger, STRANGERS), (seen.lookalike, LOOKALIKES))
    rows, each = [seen.real.features(alike)], [real]
    for figures, part in kinds:
        told = np.where(figures.count >= _LEAST_CORE, real, 0.0)
        rows.append(figures.features(alike))
        each.append(told * (part * real.sum() / max(told.sum(), 1e-12)))
    if not any(weight.any() for weight in each[1:]):
        return weights
    return _logistic(np.concatenate(rows), np.repeat([0.0, 1.0, 1.0, 1.0], len(belief)), np.concatenate(each))


def _features(own: Doubles, rival: Doubles, count: Doubles, alike: float) -> Doubles:
    """(N, 3): one, the similarity to the own core, and that to the rival.

    The mean of n photos with pairwise cosine r has length sqrt((1 + (n - 1) r) / n), and a further photo of the person the
    cosine r over that length to it; what a core of few photos lacks for this is made up for.
    """
    photos = np.maximum(count, 1.0)
    full = np.sqrt(photos * alike / (1 + (photos - 1) * alike))
    return np.stack([np.ones_like(own), own / full, rival], axis=1)


def _alikeness(vectors: Floats, belief: Doubles, sums: Doubles, counts: Doubles) -> float:
    """Mean cosine of two photos of one folder, as far as they are believed."""
    lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    both = float((sums * sums).sum() - (belief**2 * lengths).sum())
    pairs = float((counts**2).sum() - (belief**2).sum())
    return float(np.clip(both / pairs, 0.05, 1.0)) if pairs > 1e-6 else 1.0


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
    alike: float,
    odds: float,
    cut: float,
) -> tuple[Flags, Ints]:
    """Which photos go, and whose they are instead where that is clear."""
    removed = judged & (wrong >= cut)
    there = np.maximum(seen.rival_person, 0)
    elsewhere = _features(seen.real.rival, np.maximum(seen.second, seen.real.own), counts[there], alike)
    # Asked with the odds reversed: of all the folders it might be in, nearly every one is wrong.
    doubt_there = _sigmoid(elsewhere @ weights + _log_odds(1 - odds))
    clear = (seen.rival_person >= 0) & (counts[there] >= 1.5) & (doubt_there < _SURE)
    suggested = np.where(clear, seen.rival_person, -1)
    # One photo is no core to judge by: where no more would be left, only what clearly belongs elsewhere goes.
    left = np.bincount(persons[~removed], minlength=len(counts))
    return removed & ((left[persons] > 1) | clear), suggested


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


def _group_sums(vectors: Floats, belief: Doubles, groups: Ints) -> tuple[Doubles, Doubles]:
    """(G, D) weighted sums of each group's vectors, and (G,) of the weights; at least one row."""
    total = max(int(groups.max(initial=-1)) + 1, 1)
    sums, inside = np.zeros((total, vectors.shape[1])), np.flatnonzero(groups >= 0)
    np.add.at(sums, groups[inside], vectors[inside] * belief[inside, None])
    return sums, np.bincount(groups[inside], weights=belief[inside], minlength=total).astype(np.float64)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0), np.float32)


def _sigmoid(value: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))


def _log_odds(share: float) -> float:
    return float(np.log(share / (1 - share)))
