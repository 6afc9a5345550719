"""What tells whether a photo's label is wrong: how alike it is to its own folder's core and to the nearest other folder's.

The figures of every photo under its label as it is, and under three wrong ones that are imagined (`Seen`). What they mean,
`clean_model` learns. It knows vectors and numbers of people, not photos.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
CANDIDATES = 8  # other folders that a photo is compared with: the nearest at the start
_ALIKE = 4  # nearest other people
_CHUNK = 8_192


def centred(vectors: Floats, persons: Ints) -> Floats:
    """Unit vectors about the mean of the people: what all faces share says nothing about who somebody is.

    Args:
        vectors: float32 (N, D), unit length.
        persons: int64 (N,) sorted, 0 to P - 1.

    Returns:
        float32 (N, D), unit length; a vector that is the mean itself becomes zeros.
    """
    means, _ = person_sums(vectors, persons, np.ones(len(vectors)))
    centre = (means / np.bincount(persons)[:, None]).mean(0)
    return to_unit(vectors - centre.astype(np.float32))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What tells, for N photos under some labels."""

    own: Doubles
    rival: Doubles
    count: Doubles
    """Photos in the own core, as far as believed, without the photo."""

    @classmethod
    def empty(cls, total: int) -> Figures:
        """All 0."""
        return cls(np.zeros(total), np.zeros(total), np.zeros(total))

    def fill(self, rows: slice, own: Doubles, rival: Doubles, count: Doubles) -> None:
        """Set some rows."""
        self.own[rows], self.rival[rows], self.count[rows] = own, rival, count

    def features(self, alike: float) -> Doubles:
        """(N, 3): see `features_of`."""
        return features_of(self.own, self.rival, self.count, alike)


@dataclasses.dataclass(frozen=True)
class Seen:
    """The figures under the labels as they are, and under three kinds of wrong ones."""

    real: Figures
    rival_person: Ints
    second: Doubles
    """(N,) the nearest core but the own and the rival."""
    anybody: Figures
    """The label of a random other photo."""
    stranger: Figures
    """The same, of a person of whom there is no folder."""
    lookalike: Figures
    """The label of a person who looks alike."""


def look(
    vectors: Floats,
    persons: Ints,
    belief: Doubles,
    groups: Ints,
    sums: Doubles,
    counts: Doubles,
    cores: Floats,
    nearest: Ints,
    drawn: Ints,
) -> Seen:
    """Compare every photo with its own core and the candidates, a chunk at a time."""
    total = len(vectors)
    real, anybody, stranger, lookalike = (Figures.empty(total) for _ in range(4))
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
    return Seen(real, rival_person, second, anybody, stranger, lookalike)


def features_of(own: Doubles, rival: Doubles, count: Doubles, alike: float) -> Doubles:
    """(N, 3): one, the similarity to the own core, and that to the rival.

    The mean of n photos with pairwise cosine r has length sqrt((1 + (n - 1) r) / n), and a further photo of the person the
    cosine r over that length to it; what a core of few photos lacks for this is made up for.
    """
    photos = np.maximum(count, 1.0)
    full = np.sqrt(photos * alike / (1 + (photos - 1) * alike))
    return np.stack([np.ones_like(own), own / full, rival], axis=1)


def alikeness(vectors: Floats, belief: Doubles, sums: Doubles, counts: Doubles) -> float:
    """Mean cosine of two photos of one folder, as far as they are believed."""
    lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    both = float((sums * sums).sum() - (belief**2 * lengths).sum())
    pairs = float((counts**2).sum() - (belief**2).sum())
    return float(np.clip(both / pairs, 0.05, 1.0)) if pairs > 1e-6 else 1.0


def imagined_labels(persons: Ints, people: int) -> Ints:
    """For each photo the label of a random other photo, or of the next person where that is its own."""
    rng = np.random.default_rng(0)
    drawn = persons[rng.integers(len(persons), size=len(persons))]
    return np.where(drawn == persons, (persons + 1) % people, drawn)


def person_sums(vectors: Floats, persons: Ints, weight: Doubles) -> tuple[Doubles, Doubles]:
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


def to_unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0), np.float32)
