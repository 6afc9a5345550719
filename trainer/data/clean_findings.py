"""What the neighbours of photos say about folders: cores, two people in one folder, two folders of one person, duplicates.

Like `clean_model`, it takes every threshold from the data: from pairs of photos of different folders, and from how alike the
two halves of one folder are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.graph import Edges, mutual, neighbours, whisper, within_groups
from faceembed.trainer.data.clean_figures import Doubles, Flags, Floats, Ints
from faceembed.trainer.data.clean_model import Fit

NEIGHBOURS = 12
_PAIRS = 400_000  # pairs of different folders that are drawn to see how alike strangers are
_ALIKE = 0.999  # share of them that an edge of the graph is above: of 20 strangers in a folder, one in fifty is joined
_HALVES = 0.25  # quantile of the similarity of halves from which on two folders count as one person's. Of folders of
# people_wild's training people that were cut in two it joined 124 of 150, and else only two that are one person's
_STRANGE = (
    0.25  # quantile of how alike folders and their nearest others are, below which a group inside a folder is not of it
)
_LEAST_HALVES = 4  # photos a folder needs to be cut in two

Same = Callable[[int, int], bool]
"""Whether two photos, by their numbers, are one picture."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """The photos as a graph."""

    clusters: Ints
    """(N,) number of each photo's cluster over all folders."""
    local: Ints
    """(N,) the same from edges inside folders only: the parts of a folder."""
    across: Edges
    """Edges between different folders, of photos that are mutual neighbours."""
    least: float
    """Similarity from which on photos of one folder are joined."""


def build(vectors: Floats, persons: Ints) -> Graph:
    """Neighbours within folders and across them, and the clusters they form.

    Args:
        vectors: float32 (N, D) from `centred`.
        persons: int64 (N,) sorted.
    """
    least = _strangers(vectors, persons)
    inside = within_groups(vectors, persons, NEIGHBOURS, least=least)
    ids, similarity = neighbours(vectors, vectors, NEIGHBOURS + 1)
    near = mutual(ids, similarity)
    across = near.only(persons[near.a] != persons[near.b])
    nearest = np.zeros(len(vectors), np.float32)
    np.maximum.at(nearest, inside.a, inside.weight)
    np.maximum.at(nearest, inside.b, inside.weight)
    alike = nearest[nearest > 0]
    # Among many photos a stranger's nearest is always near: across folders the edge must be what is usual within one.
    bar = max(least, float(np.median(alike))) if len(alike) else 1.0
    across = across.above(bar)
    count = len(vectors)
    return Graph(whisper(count, inside.join(across)), whisper(count, inside), across, least)


def parts(graph: Graph, persons: Ints) -> tuple[Doubles, Ints]:
    """How a folder falls apart.

    Returns:
        belief: (N,) 1 for the photos of each folder's largest part, 0 for the others; all 1 where no two photos are alike.
        groups: (N,) number of the part, of two photos or more and not the largest, that the photo is in; else -1.
    """
    sizes = np.bincount(graph.local)[graph.local]
    # The largest part of each folder, the one of the first photo among equals.
    order = np.lexsort((np.arange(len(persons)), -sizes, persons))
    first = order[np.r_[True, persons[order][1:] != persons[order][:-1]]]
    largest, size = graph.local[first][persons], sizes[first][persons]
    main = graph.local == largest
    groups = np.full(len(persons), -1, np.int64)
    beside = ~main & (sizes >= 2)
    groups[beside] = np.unique(graph.local[beside], return_inverse=True)[1].ravel()
    return np.where(size == 1, 1.0, main.astype(np.float64)), groups


def second_identities(graph: Graph, fit: Fit) -> Flags:
    """(N,) which removed photos have a companion: another removed photo of their folder that shows the same person."""
    removed = np.where(fit.removed, graph.local, -1)
    _, place, count = np.unique(removed, return_inverse=True, return_counts=True)
    return np.asarray(fit.removed & (count[place.ravel()] >= 2))


def mixed(vectors: Floats, persons: Ints, groups: Ints, fit: Fit) -> list[tuple[Ints, float]]:
    """Groups inside a folder that show somebody else than the rest of it: their photos, and how alike the two are.

    They are no more like the rest than a folder usually is like the nearest other one. A single photo of such a similarity
    may be a face turned away; that several agree with each other and not with the rest says more.

    Args:
        vectors: float32 (N, D) from `centred`.
        persons: int64 (N,) sorted.
        groups: (N,) from `parts`.
        fit: from `clean_model.fit`.
    """
    there = fit.cores[np.linalg.norm(fit.cores, axis=1) > 0.5]
    if len(there) < 2:
        return []
    bar = float(np.quantile(neighbours(there, there, 2)[1][:, 1], _STRANGE))
    inside = np.flatnonzero(groups >= 0)
    order = inside[np.argsort(groups[inside], kind="stable")]
    found = []
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []:
        person = persons[members[0]]
        start, end = np.searchsorted(persons, [person, person + 1])
        rest = np.setdiff1d(np.arange(start, end), members)
        rest = rest[~fit.removed[rest] & (groups[rest] < 0)]
        if len(rest) < 2:
            continue
        a, b = vectors[members].sum(axis=0), vectors[rest].sum(axis=0)
        similarity = float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))
        if similarity < bar:
            found.append((members, similarity))
    return found


def merged(vectors: Floats, persons: Ints, fit: Fit) -> list[tuple[int, int, float]]:
    """Pairs of folders whose cores are as alike as the halves of one folder: person, person, similarity."""
    halves = _halves(vectors, persons, fit)
    if not len(halves):
        return []
    bar = float(np.quantile(halves, _HALVES))
    there = np.flatnonzero(np.linalg.norm(fit.cores, axis=1) > 0.5)
    kept = np.bincount(persons[~fit.removed], minlength=len(fit.cores))
    there = there[kept[there] >= 2]  # one photo is no folder to join
    if len(there) < 2:
        return []
    ids, similarity = neighbours(fit.cores[there], fit.cores[there], 6)
    found: dict[tuple[int, int], float] = {}
    for row, column in zip(*np.nonzero(similarity >= bar), strict=True):
        a, b = int(there[row]), int(there[ids[row, column]])
        if ids[row, column] >= 0 and a != b:
            found[min(a, b), max(a, b)] = float(similarity[row, column])
    return sorted(((a, b, value) for (a, b), value in found.items()), key=lambda row: (-row[2], row[:2]))


def duplicates(graph: Graph, same: Same) -> list[tuple[int, int, float]]:
    """Pairs of photos in different folders that are one picture: photo, photo, similarity.

    Args:
        graph: from `build`.
        same: looks at the two pictures; asked only where the faces are as alike as is usual within a folder.
    """
    edges = graph.across
    order = np.lexsort((edges.b, edges.a))
    rows = zip(edges.a[order].tolist(), edges.b[order].tolist(), edges.weight[order].tolist(), strict=True)
    return [(a, b, weight) for a, b, weight in rows if same(a, b)]


def _strangers(vectors: Floats, persons: Ints) -> float:
    """The similarity that one in a thousand pairs of different folders is above."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(vectors), size=(2, _PAIRS))
    other = persons[a] != persons[b]
    a, b = a[other], b[other]
    values = [
        np.einsum("nd,nd->n", vectors[a[i : i + 50_000]], vectors[b[i : i + 50_000]]) for i in range(0, len(a), 50_000)
    ]
    return float(np.quantile(np.concatenate(values), _ALIKE))


def _halves(vectors: Floats, persons: Ints, fit: Fit) -> NDArray[np.float64]:
    """How alike the two halves of each folder of four or more believed photos are."""
    kept = np.flatnonzero(~fit.removed)
    rank = np.arange(len(kept)) - np.searchsorted(persons[kept], persons[kept])
    people = len(fit.cores)
    sums = []
    for half in (0, 1):
        rows = kept[rank % 2 == half]
        first = np.flatnonzero(np.r_[True, persons[rows][1:] != persons[rows][:-1]])
        total = np.zeros((people, vectors.shape[1]))
        if len(rows):
            total[persons[rows][first]] = np.add.reduceat(vectors[rows], first, axis=0)
        sums.append(total)
    enough = np.bincount(persons[kept], minlength=people) >= _LEAST_HALVES
    a, b = sums[0][enough], sums[1][enough]
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-9))
