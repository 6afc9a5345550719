"""How hard an index has to be searched, as a function of k: measured on its own vectors when it is built, and kept with it.

    effort = calibrate(searcher, vectors)
    searcher = Searcher(index, effort)
    positions, similarity = searcher.nearest(queries, 100)

Lists and graphs look at a part of the vectors only, and how large a part must be depends on the data and on k: on LFW's 13,232
faces, FAISS's own settings found 0.991, 0.830 and 0.297 of the 10, 100 and 1,000 nearest in a graph, and never 1,000 hits.
Coarse codes rank wrongly, so more candidates are taken than are wanted, and ranked by the exact vectors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.kinds import effort_name, layers, most_effort, parameters, refined

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TARGETS = {10: 0.998, 100: 0.99, 1000: 0.99}
"""Share of the k nearest to be found, by k, on the vectors that are measured on: a little above what is promised, 0.995, 0.98, 0.98."""
SAMPLE = 300
_FACTORS = (1, 2, 4, 8, 16, 32, 64)
_RESCORED = 1 << 22  # candidates whose exact vectors are in memory at a time, times dimension
_QUERIES = 4096  # of vectors that look for themselves at a time
_NEAR = 9  # others as near, or nearly, among which a vector may stand
_SAME = 1e-6  # of similarities: what is this near to the last true neighbour is as good


@dataclasses.dataclass(frozen=True)
class Step:
    """What one k needs."""

    k: int
    effort: int
    """``nprobe`` or ``efSearch``; 0 for an index that looks at everything."""
    candidates: int
    """Candidates taken for each one that is wanted."""
    recall: float
    """Share of the k nearest others found, over the vectors measured on."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """What every k needs: steps that were measured, in the order of k, and what lies between them."""

    steps: tuple[Step, ...] = ()
    unlinked: tuple[int, ...] = ()
    """Positions that a graph does not lead to, not even from the vector itself: they are looked at in every search (`unlinked_in`)."""

    def at(self, k: int, most: int) -> tuple[int, int]:
        """Effort and candidates for one k.

        Between two steps along the logarithm of k, which lies above what is needed both where that grows with k (graphs) and
        where it grows with a root of it (lists); above the last one in proportion to k.

        Args:
            k: wanted.
            most: the effort that looks at everything; also what an index without steps gets.
        """
        if not self.steps:
            return most, 1
        after = next((number for number, step in enumerate(self.steps) if step.k >= k), len(self.steps))
        if after == 0:
            return min(self.steps[0].effort, most), self.steps[0].candidates
        low = self.steps[after - 1]
        if after == len(self.steps):
            return min(math.ceil(low.effort * k / low.k), most), low.candidates
        high = self.steps[after]
        share = math.log(k / low.k) / math.log(high.k / low.k)
        value = math.ceil(low.effort + share * (high.effort - low.effort))
        return min(value, most), max(low.candidates, high.candidates)

    def to_json(self) -> list[dict[str, Any]]:
        """As plain types."""
        return [dataclasses.asdict(step) for step in self.steps]

    @classmethod
    def from_json(cls, found: Any, unlinked: Any = ()) -> Effort:
        """What `to_json` gave, and positions.

        Raises:
            TypeError, ValueError: it is something else.
        """
        steps = tuple(Step(int(s["k"]), int(s["effort"]), int(s["candidates"]), float(s["recall"])) for s in found)
        if any(s.k < 1 or s.effort < 0 or s.candidates < 1 for s in steps) or list(steps) != sorted(
            steps, key=lambda s: s.k
        ):
            raise ValueError("steps are out of order or out of range")
        return cls(steps, tuple(map(int, unlinked)))

    @classmethod
    def assumed(cls, index: Any) -> Effort:
        """For an index that was built before efforts were measured: what LFW's faces needed, with room to spare."""
        if (name := effort_name(index)) == "nprobe":
            lists = most_effort(index)
            return cls((Step(10, -(-lists // 3), 1, math.nan), Step(100, -(-lists * 2 // 3), 1, math.nan)))
        return cls((Step(10, 64, 1, math.nan), Step(1000, 2000, 1, math.nan)) if name else (Step(1, 0, 1, math.nan),))


class Searcher:
    """A FAISS index that always gives the k nearest that there are. Several threads may search at once.

    Args:
        index: trained and filled, without an id map: a position is when a vector was added.
        effort: how hard to look.
        exact: gives the vectors of positions, float32 (P,) -> (P, D), to rank by; None where the index itself is exact.
    """

    def __init__(self, index: Any, effort: Effort, *, exact: Callable[[Ints], Floats] | None = None) -> None:
        self.index, self.effort, self._exact = index, effort, exact
        self._most = most_effort(index)
        self._name = effort_name(index)
        self._all: Floats | None = None
        self._alone = np.array(effort.unlinked, np.int64)
        self._alone_vectors = (
            self._vectors_of(self._alone) if len(self._alone) else np.zeros((0, int(index.d)), np.float32)
        )

    def _vectors_of(self, positions: Ints) -> Floats:
        if self._exact is not None:
            return self._exact(positions)
        return np.stack([np.asarray(self.index.reconstruct(int(place)), np.float32) for place in positions])

    def nearest(self, queries: Floats, k: int) -> tuple[Ints, Floats]:
        """The most similar vectors.

        Args:
            queries: float32 (Q, D), unit length.
            k: how many.

        Returns:
            positions: int64 (Q, min(k, N)), most similar first, of equals the one that was added first.
            similarity: float32 of the same shape: cosines.
        """
        # Fewer than were measured are the first of as many as were: coarse codes may put the nearest anywhere among these.
        looked = max(k, self.effort.steps[0].k if self.effort.steps else 1)
        positions, similarity = self.nearest_with(queries, looked, *self.effort.at(looked, self._most))
        return positions[:, :k], similarity[:, :k]

    def nearest_with(self, queries: Floats, k: int, effort: int, candidates: int) -> tuple[Ints, Floats]:
        """The same with an effort, and candidates for each one wanted."""
        count = int(self.index.ntotal)
        k = min(k, count)
        queries = np.ascontiguousarray(queries, np.float32)
        positions, similarity = self._found(queries, min(count, k * candidates), effort)
        short = np.flatnonzero((positions >= 0).sum(1) < k)
        while len(short) and effort < self._most:  # lists that held too few, or parts of a graph that nothing leads to
            effort = min(self._most, max(1, effort) * 4)
            positions[short], similarity[short] = self._found(queries[short], positions.shape[1], effort)
            short = short[(positions[short] >= 0).sum(1) < k]
        if len(short):
            positions[short], similarity[short] = self._scan(queries[short], positions.shape[1])
        if len(self._alone):
            positions[np.isin(positions, self._alone)] = -1  # each once
            alone = np.broadcast_to(self._alone, (len(queries), len(self._alone)))
            positions = np.concatenate([positions, alone], axis=1)
            similarity = np.concatenate([similarity, queries @ self._alone_vectors.T], axis=1)
        similarity[positions < 0] = -np.inf
        order = np.lexsort((positions, -similarity), axis=1)[:, :k]
        return np.take_along_axis(positions, order, 1), np.take_along_axis(similarity, order, 1)

    def _found(self, queries: Floats, count: int, effort: int) -> tuple[Ints, Floats]:
        """What FAISS finds, -1 where it finds less, with cosines."""
        if self._name == "efSearch" and effort >= self._most:
            return self._scan(queries, count)
        if self._name == "efSearch":
            effort = max(effort, count)
        value: Floats
        positions: Ints
        value, positions = self.index.search(queries, count, params=parameters(self.index, effort))
        if self._exact is not None:
            return positions, self._ranked(queries, positions)
        return positions, _cosines(value, self.index)

    def _ranked(self, queries: Floats, positions: Ints) -> Floats:
        """Cosines with the exact vectors."""
        assert self._exact is not None
        similarity = np.empty(positions.shape, np.float32)
        rows = max(1, _RESCORED // max(1, positions.shape[1] * queries.shape[1]))
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            vectors = self._exact(np.maximum(positions[part], 0).ravel()).reshape(*positions[part].shape, -1)
            similarity[part] = np.einsum("qkd,qd->qk", vectors, queries[part])
        return similarity

    def _scan(self, queries: Floats, count: int) -> tuple[Ints, Floats]:
        """Every vector is looked at."""
        import faiss

        (core, *wrapped) = layers(self.index)
        if isinstance(core, faiss.IndexHNSW) and not wrapped and self._exact is None:
            value, positions = faiss.downcast_index(core.storage).search(queries, count)
            return positions, _cosines(value, core)
        if self._all is None:
            every = np.arange(self.index.ntotal)
            self._all = self.index.reconstruct_n(0, len(every)) if self._exact is None else self._exact(every)
        value, positions = faiss.knn(queries, self._all, count, metric=faiss.METRIC_INNER_PRODUCT)
        return positions, value


def _cosines(value: Floats, index: Any) -> Floats:
    """Of unit vectors, from what an index measures: inner products, or squared Euclidean distances."""
    import faiss

    return value if index.metric_type == faiss.METRIC_INNER_PRODUCT else np.asarray(1 - value / 2, np.float32)


def calibrate(searcher: Searcher, vectors: Floats, *, targets: dict[int, float] | None = None) -> Effort:
    """Measure what each k of `TARGETS` needs, on some of the index's own vectors and their nearest others.

    Args:
        searcher: of the filled index; its own effort is not looked at.
        vectors: float32 (N, D), by position.
        targets: share of the k nearest to be found, by k.
    """
    import faiss

    count = len(vectors)
    if count < 2:
        return Effort()
    own = np.sort(np.random.default_rng(0).permutation(count)[:SAMPLE])
    queries = np.ascontiguousarray(vectors[own], np.float32)
    targets = targets or TARGETS
    sizes = sorted({min(k, count - 1) for k in targets})
    nearest = faiss.knn(queries, vectors, min(count, sizes[-1] + 1), metric=faiss.METRIC_INNER_PRODUCT)[0]
    coarse = searcher._exact is not None or refined(searcher.index)
    most = most_effort(searcher.index) if effort_name(searcher.index) else 0
    steps: list[Step] = []
    for k in sizes:
        target = next(share for size, share in sorted(targets.items()) if size >= k)
        least = nearest[:, k] - _SAME  # the k-th other one: the first is the vector itself

        def recall(effort: int, candidates: int, k: int = k, least: Floats = least) -> float:
            positions, similarity = searcher.nearest_with(queries, k + 1, effort, candidates)
            others = (positions != own[:, None]) & (similarity >= least[:, None])
            return float(np.minimum(others.sum(1), k).mean() / k)

        factors = [f for f in _FACTORS if f * k <= 2 * count] if coarse else [1]
        candidates = next((f for f in factors if recall(most, f) >= target), factors[-1])
        rungs = _rungs(searcher.index, (k + 1) * candidates, most, start=steps[-1].effort if steps else 1)
        low, high = 0, 0
        while (
            high < len(rungs) - 1 and recall(rungs[high], candidates) < target
        ):  # the cheap ones first, in growing strides
            low, high = high + 1, min(2 * high + 1, len(rungs) - 1)
        while low < high:  # more effort never finds less
            middle = (low + high) // 2
            low, high = (low, middle) if recall(rungs[middle], candidates) >= target else (middle + 1, high)
        steps.append(Step(k, rungs[low], candidates, round(recall(rungs[low], candidates), 4)))
    return Effort(tuple(steps))


def unlinked_in(searcher: Searcher, vectors: Floats) -> tuple[int, ...]:
    """The positions of a graph's vectors that do not find themselves: no link leads to them (1 of 1,500 of LFW's faces).

    Args:
        searcher: with a measured effort.
        vectors: float32 (N, D), by position.
    """
    lost: list[int] = []
    if effort_name(searcher.index) == "efSearch":
        for start in range(0, len(vectors), _QUERIES):
            own = np.arange(start, min(start + _QUERIES, len(vectors)))
            found = searcher.nearest(vectors[own], 1 + _NEAR)[0]
            lost += own[~(found == own[:, None]).any(axis=1)].tolist()
    return tuple(lost)


def _rungs(index: Any, fetched: int, most: int, *, start: int) -> list[int]:
    """Efforts to try, rising, the last of which looks at everything."""
    name = effort_name(index)
    if not name:
        return [0]
    value = float(start if name == "nprobe" else max(64, fetched))
    rungs = []
    while value < most:
        rungs.append(math.ceil(value))
        value = max(value + 1, value * 1.2)
    return [*dict.fromkeys(rungs), most]
