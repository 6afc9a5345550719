"""How close two faces are by the neighbours that they share.

    lists = neighbour_lists(vectors, 10)
    edges, distance = rank_order_edges(lists)

The approximate rank-order distance of Otto, Wang and Jain, "Clustering Millions of Faces by Identity" (2016),
https://arxiv.org/abs/1604.00989, equations 2 to 4. It compares lists of neighbours, not similarities: two photos of one
person name each other early and name the same others, while a face that is like everybody's (a bad photo) is on many lists
and has few friends. So it means the same in a dense index and in a sparse one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.graph import Edges, Floats, Ints, neighbours

_CHUNK = 65_536  # edges whose lists are compared at a time


@dataclasses.dataclass(frozen=True)
class Lists:
    """For some faces, which others are nearest."""

    ids: Ints
    """(Q, k), most similar first, the face itself in front; -1 where fewer were found."""
    similarity: Floats
    """(Q, k) cosines."""


def neighbour_lists(queries: Floats, own: Ints, points: Floats, k: int) -> Lists:
    """The nearest faces of some faces.

    Args:
        queries: float32 (Q, D), unit length.
        own: (Q,) the number of each query among the points.
        points: float32 (N, D), unit length.
        k: length of a list with the face itself.
    """
    ids, similarity = neighbours(queries, points, min(k + 1, len(points)))
    # The face itself comes first, also where a copy of it is as near; where lists missed it, it takes the last's place.
    key = np.where(ids == own[:, None], np.inf, similarity)
    order = np.argsort(-key, axis=1, kind="stable")[:, :k]
    ids, similarity = np.take_along_axis(ids, order, 1), np.take_along_axis(similarity, order, 1)
    lost = ids[:, 0] != own
    ids[lost] = np.roll(ids[lost], 1, axis=1)
    similarity[lost] = np.roll(similarity[lost], 1, axis=1)
    ids[:, 0], similarity[:, 0] = own, 1.0
    return Lists(ids, similarity)


def rank_order_edges(lists: Lists, rows: Ints, count: int, *, least: float) -> tuple[Edges, NDArray[np.float64]]:
    """The pairs of which one is on the other's list, and their rank-order distances.

    Args:
        lists: of the faces ``rows``, all of length k.
        rows: (Q,) sorted numbers of the faces that have a list; a pair counts only where both have one.
        count: number of all faces.
        least: pairs of a lower similarity are left out.

    Returns:
        The pairs with their cosines, each once, and float64 distances: 0 for two that are each other's nearest and name
        the same faces until then; above 1 for pairs that share little.
    """
    place = np.full(count, -1, np.int64)
    place[rows] = np.arange(len(rows))
    k = lists.ids.shape[1]
    source, target = np.repeat(rows, k), lists.ids.ravel()
    weight = lists.similarity.ravel()
    valid = (target >= 0) & (target != source) & (weight >= least)
    valid[valid] = place[target[valid]] >= 0
    source, target, weight = source[valid], target[valid], weight[valid]
    low, high = np.minimum(source, target), np.maximum(source, target)
    _, first = np.unique(low * count + high, return_index=True)
    edges = Edges(low[first], high[first], weight[first])
    distance = np.empty(len(edges), np.float64)
    for start in range(0, len(edges), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance[part] = _distances(lists.ids[place[edges.a[part]]], lists.ids[place[edges.b[part]]])
    return edges, distance


def _distances(of_a: Ints, of_b: Ints) -> NDArray[np.float64]:
    """Rank-order distances of pairs, from their lists, (E, k) each with the face itself in front."""
    b_in_a, a_in_b = _rank(of_a, of_b[:, 0]), _rank(of_b, of_a[:, 0])
    same = of_a[:, :, None] == of_b[:, None, :]  # (E, k, k)
    ranks = np.arange(of_a.shape[1])
    missed_by_b = ((ranks <= b_in_a[:, None]) & ~same.any(2) & (of_a >= 0)).sum(1)
    missed_by_a = ((ranks <= a_in_b[:, None]) & ~same.any(1) & (of_b >= 0)).sum(1)
    return np.asarray((missed_by_b + missed_by_a) / np.maximum(1, np.minimum(b_in_a, a_in_b)), np.float64)


def _rank(lists: Ints, wanted: Ints) -> Ints:
    """The place of each row's wanted face on its list; k where it is not on it."""
    found = lists == wanted[:, None]
    return np.asarray(np.where(found.any(1), found.argmax(1), lists.shape[1]), np.int64)
