"""Which faces of an index are one picture: copies that were scaled, cropped or compressed anew.

An encoder gives such copies nearly the same vector, and now and then two photos of a burst as well. So what is nearly the same to the
encoder is looked at: two faces are one picture if their aligned pixels agree (`pictures.SAME_PICTURE`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from faceembed.engine.index.clusters.rank_order import Lists
from faceembed.engine.index.graph import Edges, Floats, Ints

NEAR = 0.97
"""Similarity from which on two faces are looked at. Of the couples among 40 photos of people_wild's training people and their copies
(JPEG quality 40, 0.6 of the size, a tenth cropped away) nine in ten lie above it."""

Same = Callable[[int, int], "bool | None"]
"""Whether two faces, by their rows, are one picture; None where one of them cannot be read."""


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """What was found."""

    of: Ints
    """(N,) row of the face that is kept of each picture, -1 for itself and for pictures that are there once."""
    not_compared: int
    """Couples that are nearly the same to the encoder and whose photos could not be read."""


def find_duplicates(lists: Lists, quality: Floats, same: Same, *, near: float = NEAR) -> Duplicates:
    """Find pictures that are there more than once.

    Args:
        lists: each face's nearest others.
        quality: (N,) the face with the highest is kept of each picture; the first among equals.
        same: looks at two faces.
        near: similarity from which on it is asked.
    """
    count = len(lists.ids)
    edges = _pairs(lists.ids, lists.similarity, near)
    root = list(range(count))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    unread = 0
    for a, b in zip(edges.a.tolist(), edges.b.tolist(), strict=True):
        if find(a) == find(b):
            continue
        verdict = same(a, b)
        unread += verdict is None
        if verdict:
            low, high = sorted((find(a), find(b)))
            root[high] = low
    groups = np.array([find(row) for row in range(count)], np.int64)
    order = np.lexsort((np.arange(count), -quality, groups))
    first = np.r_[True, groups[order][1:] != groups[order][:-1]]
    keeper = np.full(count, -1, np.int64)
    keeper[groups[order[first]]] = order[first]
    of = keeper[groups]
    of[of == np.arange(count)] = -1
    return Duplicates(of, unread)


def _pairs(ids: Ints, similarity: Floats, near: float) -> Edges:
    """Each couple once, the most alike first."""
    a, column = np.nonzero((similarity >= near) & (ids >= 0))
    b, weight = ids[a, column], similarity[a, column]
    low, high = np.minimum(a, b), np.maximum(a, b)
    _, first = np.unique(low * len(ids) + high, return_index=True)
    low, high, weight = low[first], high[first], weight[first]
    order = np.lexsort((high, low, -weight))
    order = order[low[order] != high[order]]
    return Edges(low[order], high[order], weight[order])
