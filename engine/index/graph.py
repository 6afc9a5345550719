"""Who is near whom: nearest neighbours by FAISS, edges within groups, and clusters by label propagation.

    near = neighbours(vectors, vectors, 16)
    edges = within_groups(vectors, groups, 16, least=0.6)
    clusters = whisper(len(vectors), edges)

Memory grows with the number of edges, never with the square of the number of points, so a million photos are served by the
same code. It knows nothing about photos or people: points are unit vectors, groups are numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.effort import Effort, Searcher, Step, calibrate

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# Comparing everything with everything costs queries x points x dimension multiplications: up to this many it takes
# seconds on two cores and finds every neighbour; above, inverted lists find nearly all in a fraction of the time.
_EXACT_WORK = 2e11
_FOUND = 0.98  # of the neighbours, by as many lists as that takes: measured on some of the points (`effort.calibrate`)
_QUERY_CHUNK = 65_536
_MATRIX_CHUNK = 2_048  # rows of one group's similarity matrix at a time


@dataclasses.dataclass(frozen=True)
class Edges:
    """Undirected edges, each once, with ``a < b``."""

    a: Ints
    b: Ints
    weight: Floats
    """Cosine similarity."""

    def __len__(self) -> int:
        return len(self.a)

    def above(self, least: float) -> Edges:
        """Those with a similarity of ``least`` or more."""
        return self.only(self.weight >= least)

    def only(self, chosen: NDArray[np.bool_]) -> Edges:
        """Those where ``chosen`` (bool, one an edge) is True."""
        return Edges(self.a[chosen], self.b[chosen], self.weight[chosen])

    def join(self, other: Edges) -> Edges:
        """Both sets; an edge that is in both is there once."""
        return _unique(
            np.concatenate([self.a, other.a]),
            np.concatenate([self.b, other.b]),
            np.concatenate([self.weight, other.weight]),
        )


def neighbours(queries: Floats, points: Floats, k: int, *, as_many: int = 0) -> tuple[Ints, Floats]:
    """The most similar points of each query, found exactly while that takes seconds, else nearly (inverted lists).

    Args:
        queries: float32 (Q, D), unit length.
        points: float32 (N, D), unit length; may be the queries themselves, whose nearest point is then the query.
        k: neighbours a query.
        as_many: search as for so many queries, where these are some of them.

    Returns:
        indices: int64 (Q, min(k, N)), most similar first.
        similarity: float32 of the same shape.
    """
    k = min(k, len(points))
    nearest = _finder(max(len(queries), as_many), points, k)
    ids, similarity = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _QUERY_CHUNK):
        rows = slice(start, start + _QUERY_CHUNK)
        ids[rows], similarity[rows] = nearest(np.ascontiguousarray(queries[rows], np.float32))
    return ids, similarity


def _finder(queries: int, points: Floats, k: int) -> Callable[[Floats], tuple[Ints, Floats]]:
    """Gives the k nearest points."""
    import faiss

    points = np.ascontiguousarray(points, np.float32)
    count, dimension = points.shape
    if queries * count * dimension <= _EXACT_WORK:
        exact: Any = faiss.IndexFlatIP(dimension)
        exact.add(points)

        def look(chunk: Floats) -> tuple[Ints, Floats]:
            similarity, ids = exact.search(chunk, k)
            return ids, similarity

        return look
    lists = max(1, min(round(4 * math.sqrt(count)), count // 39))
    # By distance, which does not care where the origin is: faces share a large mean, and lists made by inner product
    # found 76 % of the neighbours of 100,000 such vectors.
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimension), dimension, lists, faiss.METRIC_L2)
    index.cp.niter, index.cp.seed = 6, 1234
    index.cp.max_points_per_centroid = 64
    index.train(points)
    index.add(points)
    searcher = Searcher(index, Effort())
    effort = calibrate(searcher, points, targets={max(1, k - 1): _FOUND})
    (step,) = effort.steps or (Step(1, lists, 1, 1.0),)
    return lambda chunk: searcher.nearest_with(chunk, k, step.effort, 1)


def mutual(ids: Ints, similarity: Floats) -> Edges:
    """The edges between points that are among each other's neighbours.

    Args:
        ids: int64 (N, k) from `neighbours` of the points among themselves.
        similarity: float32 (N, k).
    """
    count, k = ids.shape
    source = np.repeat(np.arange(count, dtype=np.int64), k)
    target, weight = ids.ravel(), similarity.ravel()
    valid = (target >= 0) & (target != source)
    source, target, weight = source[valid], target[valid], weight[valid]
    low, high = np.minimum(source, target), np.maximum(source, target)
    order = np.argsort(low * count + high, kind="stable")
    low, high, weight = low[order], high[order], weight[order]
    twice = (low[1:] == low[:-1]) & (high[1:] == high[:-1])  # seen from both ends
    return Edges(low[1:][twice], high[1:][twice], weight[1:][twice])


def within_groups(vectors: Floats, groups: Ints, k: int, *, least: float) -> Edges:
    """The edges between members of one group: each one's ``k`` most similar, from the group's similarity matrix.

    Args:
        vectors: float32 (N, D), unit length.
        groups: int64 (N,) sorted.
        k: edges a member, at most, that it asks for.
        least: edges below this similarity are left out.
    """
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    sources, targets, weights = [], [], []
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(groups)], strict=True):
        members = vectors[start:end]
        for row in range(0, len(members), _MATRIX_CHUNK):
            similarity = members[row : row + _MATRIX_CHUNK] @ members.T
            own = np.arange(len(similarity))
            similarity[own, own + row] = -np.inf
            if len(members) > k + 1:
                cut = np.partition(similarity, -k, axis=1)[:, -k]
                similarity[similarity < cut[:, None]] = -np.inf
            a, b = np.nonzero(similarity >= least)
            sources.append(a + (row + start))
            targets.append(b + start)
            weights.append(similarity[a, b])
    if not sources:
        return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    a, b = np.concatenate(sources), np.concatenate(targets)
    return _unique(np.minimum(a, b), np.maximum(a, b), np.concatenate(weights))


def _unique(a: Ints, b: Ints, weight: Floats) -> Edges:
    order = np.lexsort((b, a))
    a, b, weight = a[order], b[order], weight[order]
    first = np.r_[True, (a[1:] != a[:-1]) | (b[1:] != b[:-1])][: len(a)]
    return Edges(a[first].astype(np.int64), b[first].astype(np.int64), weight[first].astype(np.float32))


def whisper(
    count: int, edges: Edges, *, rounds: int = 30, start: Ints | None = None, fixed: NDArray[np.bool_] | None = None
) -> Ints:
    """Clusters by label propagation (Chinese whispers, Biemann 2006): everybody takes the label its neighbours weigh most.

    All points of one half look at once, then the other half, so that two of them cannot swap labels for ever; the halves
    change from round to round by a hash of the point's number, and nothing is random. A chain of a few weak edges does not
    join two dense groups, which connected components would.

    Args:
        count: number of points.
        edges: similarities above 0; edges of 0 or less pull nobody.
        rounds: at most; it ends when nothing changes any more.
        start: int64 (count,) labels to begin with, from 0 to ``count - 1``; by default each point's own number.
        fixed: bool (count,): points that keep their label.

    Returns:
        int64 (count,): the number of each point's cluster, from 0 in the order of their first points.
    """
    labels = np.arange(count, dtype=np.int64) if start is None else start.astype(np.int64)
    source = np.concatenate([edges.a, edges.b])
    target = np.concatenate([edges.b, edges.a])
    weight = np.concatenate([edges.weight, edges.weight]).astype(np.float64)
    order = np.argsort(source, kind="stable")
    source, target, weight = source[order], target[order], weight[order]
    free = np.ones(count, bool) if fixed is None else ~fixed
    awake = free.copy()  # those near whom something changed: the others would choose what they chose before
    for number in range(2 * rounds):
        listening = awake & _half(np.arange(count, dtype=np.int64), number)
        rows = listening[source]
        heard = _listen(labels, source[rows], target[rows], weight[rows])
        awake &= ~listening
        near = target[(heard != labels)[source]]
        awake[near] = free[near]
        labels = heard
        if not awake.any():
            break
    return first_come(labels)


def first_come(labels: Ints) -> Ints:
    """Labels numbered anew, from 0 in the order of their first points."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.asarray(rank[inverse.ravel()], np.int64)


def _half(points: Ints, number: int) -> NDArray[np.bool_]:
    """Whether each point listens in this half round; the other half listens in the next."""
    mixed = (points + number // 2 * 0x9E3779B1) * 0x85EBCA6B & 0xFFFFFFFF
    return np.asarray((mixed >> 16 & 1) == number % 2)


def _listen(labels: Ints, source: Ints, target: Ints, weight: NDArray[np.float64]) -> Ints:
    """New labels of the points in ``source`` (sorted): the heaviest among their neighbours, the smallest of equals."""
    if len(source) == 0:
        return labels
    heard = labels[target]
    order = np.argsort(source * len(labels) + heard, kind="stable")
    source, heard, weight = source[order], heard[order], weight[order]
    first = np.flatnonzero(np.r_[True, (source[1:] != source[:-1]) | (heard[1:] != heard[:-1])])
    total = np.add.reduceat(weight, first)
    point, label = source[first], heard[first]
    best = np.lexsort((label, -total, point))
    point, label, total = point[best], label[best], total[best]
    top = np.r_[True, point[1:] != point[:-1]] & (total > 0)
    changed = labels.copy()
    changed[point[top]] = label[top]
    return changed
