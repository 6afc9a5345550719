"""What a user knows of who is who, and groups that obey it: must-link and cannot-link.

    known = Constraints(must=pairs, cannot=pairs)             # rows of faces, (M, 2)
    groups = constrained(vectors, groups, known.with_photos(photo))

The names are those of Wagstaff et al. 2001, "Constrained k-means clustering with background knowledge" (ICML): two faces that must be linked are
in one group, two that cannot be are not. Two faces of one photo are two people unless they must be linked. Groups that a must-link joins
become one whole; a group that holds two who cannot be is split: who cannot stay together go apart, everybody else goes to the part that they are
most like on average. Nothing is random.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from faceembed.engine.index.graph import Floats, Ints, first_come
from faceembed.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Pairs of rows of faces."""

    must: Ints
    """int64 (M, 2)."""
    cannot: Ints
    """int64 (C, 2)."""

    def __len__(self) -> int:
        return len(self.must) + len(self.cannot)

    @classmethod
    def none(cls) -> Constraints:
        """Nothing is known."""
        return cls(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64))

    def with_photos(self, photo: Ints) -> Constraints:
        """The same, and faces of one photo cannot be one person, unless they must.

        Args:
            photo: (N,) number of each face's photo.
        """
        unit = units(self.must, len(photo))
        order = np.argsort(photo, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(photo[order]) != 0][: len(order)])
        ends = np.r_[starts[1:], len(order)]
        found = []
        for start, end in zip(starts[ends - starts > 1].tolist(), ends[ends - starts > 1].tolist(), strict=True):
            rows = order[start:end]
            a, b = np.triu_indices(len(rows), 1)
            found.append(np.stack([rows[a], rows[b]], 1))
        pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
        pairs = pairs[unit[pairs[:, 0]] != unit[pairs[:, 1]]]
        return Constraints(self.must, np.concatenate([self.cannot, pairs]))


def units(must: Ints, count: int) -> Ints:
    """(N,) the smallest row of the faces that each must be linked with, itself among them."""
    root = list(range(count))

    def of(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for a, b in must.tolist():
        low, high = sorted((of(a), of(b)))
        root[high] = low
    return np.array([of(row) for row in range(count)], np.int64)


def constrained(vectors: Floats, groups: Ints, known: Constraints) -> Ints:
    """Groups that obey what is known.

    Args:
        vectors: float32 (N, D), unit length.
        groups: (N,) numbers.
        known: constraints.

    Returns:
        (N,) groups, numbered in the order of their first faces.

    Raises:
        UsageError: two faces must be linked and cannot be.
    """
    unit = units(known.must, len(groups))
    both = unit[known.cannot[:, 0]] == unit[known.cannot[:, 1]]
    if both.any():
        a, b = known.cannot[int(np.argmax(both))].tolist()
        raise UsageError(f"faces {a} and {b} must be linked and cannot be: the constraints contradict each other")
    joined = _joined(groups, unit)
    apart: dict[int, set[int]] = {}
    for a, b in unit[known.cannot].tolist():
        apart.setdefault(a, set()).add(b)
        apart.setdefault(b, set()).add(a)
    labels = joined.copy()
    following = int(labels.max(initial=-1)) + 1
    torn = {int(joined[a]) for a, others in apart.items() if any(joined[b] == joined[a] for b in others)}
    for group in sorted(torn):
        rows = np.flatnonzero(joined == group)
        parts = _split(vectors, rows, unit, apart)
        labels[rows] = np.where(parts == 0, group, following + parts - 1)
        following += int(parts.max())
    return first_come(labels)


def _joined(groups: Ints, unit: Ints) -> Ints:
    """Groups that hold faces of one unit become one."""
    numbers, place = np.unique(groups, return_inverse=True)
    place = place.ravel()
    pairs = np.unique(np.stack([place, place[unit]], 1), axis=0)
    return np.asarray(units(pairs[pairs[:, 0] != pairs[:, 1]], len(numbers))[place], np.int64)


def _split(vectors: Floats, rows: Ints, unit: Ints, apart: dict[int, set[int]]) -> Ints:
    """(R,) the part of each row, the largest part is 0."""
    found, of = np.unique(unit[rows], return_inverse=True)
    of = of.ravel()
    sums = np.zeros((len(found), vectors.shape[1]))
    np.add.at(sums, of, vectors[rows])
    sizes = np.bincount(of)
    inside = set(found.tolist())
    trouble = np.array([len(apart.get(one, set()) & inside) for one in found.tolist()])
    # Who has most to be kept apart from goes first, the larger before the smaller: they found the parts.
    order = np.lexsort((found, -sizes, -trouble))
    members: list[set[int]] = []
    means: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    counts: list[int] = []
    part = np.zeros(len(found), np.int64)
    for place in order.tolist():
        mine, vector = int(found[place]), sums[place]
        banned = apart.get(mine, set())
        free = [number for number, of_part in enumerate(members) if not banned & of_part]
        if free:
            alike = [float(means[number] @ vector) / counts[number] for number in free]
            chosen = free[int(np.argmax(alike))]
            members[chosen].add(mine)
            means[chosen] = means[chosen] + vector
            counts[chosen] += int(sizes[place])
        else:
            chosen = len(members)
            members.append({mine})
            means.append(vector)
            counts.append(int(sizes[place]))
        part[place] = chosen
    largest = np.argsort(-np.array(counts), kind="stable")
    rank = np.empty(len(counts), np.int64)
    rank[largest] = np.arange(len(counts))
    return np.asarray(rank[part[of]], np.int64)
