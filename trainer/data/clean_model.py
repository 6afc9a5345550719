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

from faceembed.engine.index.graph import neighbours
from faceembed.trainer.data.clean_figures import (
    CANDIDATES,
    Doubles,
    Flags,
    Floats,
    Ints,
    Seen,
    alikeness,
    features_of,
    imagined_labels,
    look,
    person_sums,
    to_unit,
)

# What imagined wrong labels are made of: with more of these two kinds more of the errors that the web makes are found, and more
# photos go that merely look unlike their person. Tried on people_wild's training people; 0.1 of LOOKALIKES became 0.05 after
# all people had been seen at 0.1, where strict precision (benchmarks/cleaning.py) was 94.4 %.
STRANGERS = 0.1  # share whose own folder is left out
LOOKALIKES = 0.05  # share that is given to one of the
# Wrong labels reckoned with at least, as is usual among people collected from the web: a good photo less costs less than a
# wrong one kept. Chosen by what was removed from all of people_wild, no label swapped.
LEAST_SHARE, _LARGEST_SHARE = 0.1, 0.5
_ROUNDS = 12
_SETTLED = 1e-3
_LEAST_CORE = 0.5  # photos; with less belief than this around it, a photo cannot be judged
_SURE = 0.1  # a photo is said to be another person's if it would be doubted less than this there
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
    drawn = imagined_labels(persons, people)
    share, weights, nearest = math.nan, np.zeros(3), np.zeros((0, 0), np.int64)
    for number in range(_ROUNDS):
        sums, counts = person_sums(vectors, persons, belief)
        cores = to_unit(sums.astype(np.float32))
        if number == 0:
            nearest = neighbours(vectors, cores, min(CANDIDATES, people))[0]
        seen = look(vectors, persons, belief, groups, sums, counts, cores, nearest, drawn)
        alike = alikeness(vectors, belief, sums, counts)
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


def _learn(seen: Seen, belief: Doubles, weights: Doubles, alike: float) -> Doubles:
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
    seen: Seen,
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
    elsewhere = features_of(seen.real.rival, np.maximum(seen.second, seen.real.own), counts[there], alike)
    # Asked with the odds reversed: of all the folders it might be in, nearly every one is wrong.
    doubt_there = _sigmoid(elsewhere @ weights + _log_odds(1 - odds))
    clear = (seen.rival_person >= 0) & (counts[there] >= 1.5) & (doubt_there < _SURE)
    suggested = np.where(clear, seen.rival_person, -1)
    # One photo is no core to judge by: where no more would be left, only what clearly belongs elsewhere goes.
    left = np.bincount(persons[~removed], minlength=len(counts))
    return removed & ((left[persons] > 1) | clear), suggested


def _sigmoid(value: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))


def _log_odds(share: float) -> float:
    return float(np.log(share / (1 - share)))
