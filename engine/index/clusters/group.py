"""Faces into groups, one a person: rank-order edges, label propagation, and a last look at whole groups.

    groups = group(vectors, least=0.935)                     # everything at once
    groups = group(vectors, least=0.935, known=before)   # -1 for new faces: the others stay where they are
    groups = same_numbers(groups, before)                # or everything anew, and people keep their numbers

1. Each face's `NEIGHBOURS` nearest by FAISS, and their rank-order distances (`rank_order`): pairs up to `FARTHEST` that are at
   least ``least`` alike become edges, the heavier the nearer.
2. Chinese whispers on these edges (`graph.whisper`): groups that a few chance edges do not join.
3. A person with many photos falls into several groups, because lists of a fixed length do not reach across: groups that are
   joined by neighbours and whose faces are on average as alike as an edge must be become one (average linkage), and so
   does a face that was left alone and a group of `CROWD` or more.

Nothing is random. Placing only new faces is quick, and what was decided with fewer photos stays decided: in ten steps the training
people's pairwise F1 came to 0.79, against 0.88 at once. The numbers below were chosen on 3,339 faces of 1,648 people: the 180 training people of people_wild (split with
seed 7) and LFW's people outside its pair list, with `dlib-resnet`; `benchmarks/clustering.py --choose` shows the choice again. They hold no person of many photos: that faces left alone are taken in
by a crowd was decided on made-up vectors, 250 a person, after a first look at LFW had shown its largest people lose faces; on
the people above it changes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.clusters.rank_order import Lists, neighbour_lists, rank_order_edges
from faceembed.engine.index.graph import Edges, Floats, Ints, first_come, whisper

NEIGHBOURS = 16
FARTHEST = 0.8
CROWD = 5
"""Faces a group needs to take in faces that were left alone."""
LIFT = 0.38
"""How far ``least`` lies above the threshold for two photos, as a share of what this lies above strangers: among n faces
there are n^2 / 2 chances to be wrong, and one wrong edge can join two people."""
_WEIGHT = FARTHEST + 0.1  # less the distance: the weight of an edge
_CHUNK = 65_536  # pairs of groups that are compared at a time
_DRAWN = 100_000  # pairs that are drawn to see how alike strangers are


def suggested_least(vectors: Floats, threshold: float) -> float:
    """The least similarity of an edge, from the threshold for two photos.

    Strangers' usual similarity is the median of random pairs, nearly all of which are of strangers where there are several
    people. In an index of one person it lies above the threshold, which is then taken as it is.

    Args:
        vectors: float32 (N, D), unit length.
        threshold: cosine from which on two photos count as one person.
    """
    if len(vectors) < 2:
        return threshold
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(vectors), size=(2, _DRAWN))
    a, b = a[a != b], b[a != b]
    strangers = float(np.median(np.einsum("nd,nd->n", vectors[a], vectors[b])))
    # No farther up than from the threshold to 1: another threshold than the encoder's may lie far above strangers.
    return threshold + LIFT * max(0.0, min(threshold - strangers, 1 - threshold))


def group(
    vectors: Floats, *, least: float, known: Ints | None = None, unused: int = 0, lists: Lists | None = None
) -> Ints:
    """Group faces by person.

    Args:
        vectors: float32 (N, D), unit length.
        least: similarity below which two faces are never neighbours.
        known: int64 (N,) groups that stay as they are, -1 for faces that have none yet. Only what is near the new faces is
            looked at.
        unused: numbers from here on were never given; new groups get those.
        lists: from `all_lists`, where they were needed before; only without ``known`` faces.

    Returns:
        int64 (N,) groups; new ones are numbered in the order of their first faces.
    """
    count = len(vectors)
    if count == 0:
        return np.zeros(0, np.int64)
    if known is None:
        known = np.full(count, -1, np.int64)
    new = np.flatnonzero(known < 0)
    if not len(new):
        return known.copy()
    lists, rows = (lists, new) if lists is not None and len(new) == count else _lists(vectors, new)
    edges, distance = rank_order_edges(lists, rows, count, least=least)
    near = distance <= FARTHEST
    pulls = Edges(edges.a[near], edges.b[near], (_WEIGHT - distance[near]).astype(np.float32))
    start = _first_members(known)
    labels = whisper(count, pulls, start=start, fixed=known >= 0)
    labels = _join(vectors, labels, edges, known, least=least)
    return _numbered(labels, known, unused)


def all_lists(vectors: Floats) -> Lists:
    """Every face's nearest others, as `group` needs them."""
    return neighbour_lists(vectors, np.arange(len(vectors), dtype=np.int64), vectors, NEIGHBOURS)


def _lists(vectors: Floats, new: Ints) -> tuple[Lists, Ints]:
    """The lists of the new faces and of those that are on them, and whose they are (sorted)."""
    lists = neighbour_lists(vectors[new], new, vectors, NEIGHBOURS)
    if len(new) == len(vectors):
        return lists, new
    touched = np.setdiff1d(lists.ids[lists.ids >= 0], new)
    theirs = neighbour_lists(vectors[touched], touched, vectors, NEIGHBOURS)
    rows = np.concatenate([new, touched])
    order = np.argsort(rows)
    ids = np.concatenate([lists.ids, theirs.ids])
    similarity = np.concatenate([lists.similarity, theirs.similarity])
    return Lists(ids[order], similarity[order]), rows[order]


def _first_members(known: Ints) -> Ints:
    """Labels below N: each known group's first face, each new face's own number."""
    labels = np.arange(len(known), dtype=np.int64)
    old = np.flatnonzero(known >= 0)
    if len(old):
        _, first, inverse = np.unique(known[old], return_index=True, return_inverse=True)
        labels[old] = old[first][inverse.ravel()]
    return labels


def _join(vectors: Floats, labels: Ints, edges: Edges, known: Ints, *, least: float) -> Ints:
    """Make one of groups that neighbours join and that are alike on average; never of two known ones."""
    labels = labels.copy()
    total = len(labels)  # labels are numbers of faces
    settled = np.zeros(total, bool)
    settled[labels[known >= 0]] = True
    while True:
        size = np.bincount(labels, minlength=total)
        a, b = labels[edges.a], labels[edges.b]
        code = np.unique((np.minimum(a, b) * total + np.maximum(a, b))[a != b])
        pairs = np.stack([code // total, code % total], 1)
        crowd, single = size[pairs].max(1) >= CROWD, size[pairs].min(1) == 1
        pairs = pairs[~settled[pairs].all(1) & (~single | crowd)]
        alike = _linkage(vectors, labels, pairs, size)
        pairs, alike = pairs[alike >= least], alike[alike >= least]
        if not len(pairs):
            return labels
        labels = _taken_in(pairs, alike, size, settled, _best_friends(pairs, alike, total))[labels]
        settled[labels[known >= 0]] = True


def _linkage(vectors: Floats, labels: Ints, pairs: Ints, size: Ints) -> NDArray[np.float64]:
    """(P,) mean cosine between the faces of two groups."""
    named, place = np.unique(labels, return_inverse=True)
    sums = _sums(vectors, place.ravel(), len(named))
    alike = np.empty(len(pairs), np.float64)
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        a, b = (sums[np.searchsorted(named, part[:, side])] for side in (0, 1))
        alike[start : start + _CHUNK] = np.einsum("pd,pd->p", a, b) / size[part].prod(1)
    return alike


def _taken_in(pairs: Ints, alike: NDArray[np.floating], size: Ints, settled: NDArray[np.bool_], into: Ints) -> Ints:
    """Like ``into``, and each face alone goes into the crowd that it is most like, all at once."""
    small = np.where(size[pairs[:, 0]] == 1, pairs[:, 0], pairs[:, 1])
    large = pairs.sum(1) - small
    lone = (size[small] == 1) & (size[large] >= CROWD) & ~settled[small]
    small, large, alike = small[lone], large[lone], alike[lone]
    order = np.lexsort((large, -alike, small))
    first = order[np.r_[True, small[order][1:] != small[order][:-1]][: len(order)]]
    into = into.copy()
    into[small[first]] = into[large[first]]
    return into


def _best_friends(pairs: Ints, alike: NDArray[np.floating], total: int) -> Ints:
    """For each group the one that it goes into: of every two that are each other's most alike, the smaller number."""
    own, other, value = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]], np.r_[alike, alike]
    order = np.lexsort((other, -value, own))
    first = order[np.r_[True, own[order][1:] != own[order][:-1]]]
    best = np.full(total, -1, np.int64)
    best[own[first]] = other[first]
    friends = own[first][best[best[own[first]]] == own[first]]
    into = np.arange(total)
    into[friends] = np.minimum(friends, best[friends])
    return into


def _sums(vectors: Floats, labels: Ints, total: int) -> NDArray[np.float64]:
    """(G, D) sums of the groups' vectors."""
    order = np.argsort(labels, kind="stable")
    first = np.flatnonzero(np.r_[True, labels[order][1:] != labels[order][:-1]])
    sums = np.zeros((total, vectors.shape[1]))
    sums[labels[order][first]] = np.add.reduceat(vectors[order], first, axis=0)
    return sums


def _numbered(labels: Ints, known: Ints, unused: int) -> Ints:
    """Known groups under their numbers, new ones from the first unused number on."""
    old = known >= 0
    groups = np.full(int(labels.max()) + 1, -1, np.int64)
    groups[labels[old]] = known[old]
    found = groups[labels]
    fresh = found < 0
    found[fresh] = first_come(labels[fresh]) + max(unused, int(known.max(initial=-1)) + 1)
    return np.asarray(found, np.int64)


def same_numbers(groups: Ints, known: Ints, *, unused: int = 0) -> Ints:
    """Groups under the numbers that they had: each known number goes to the group that most of its faces are in now.

    Args:
        groups: (N,) as they are now.
        known: (N,) numbers that were given before, -1 for new faces.
        unused: numbers from here on were never given; groups of which none is known get those, in the order of their first
            faces.
    """
    groups = first_come(groups)
    old = known >= 0
    names = np.full(int(groups.max(initial=-1)) + 1, -1, np.int64)
    pairs, shared = np.unique(np.stack([groups[old], known[old]], 1), axis=0, return_counts=True)
    taken: set[int] = set()
    for place in np.lexsort((pairs[:, 0], pairs[:, 1], -shared)).tolist():
        mine, number = int(pairs[place, 0]), int(pairs[place, 1])
        if names[mine] < 0 and number not in taken:
            names[mine] = number
            taken.add(number)
    fresh = np.flatnonzero(names < 0)
    names[fresh] = np.arange(len(fresh)) + max(unused, int(known.max(initial=-1)) + 1)
    return np.asarray(names[groups], np.int64)
