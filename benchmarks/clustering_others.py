"""More ways to group faces, for `clustering.py` and `clustering_sets.py`: HDBSCAN (scikit-learn), Leiden (leidenalg and igraph, not among our
extras) and Chinese whispers alone.

Their settings are chosen as ours were and DBSCAN's epsilon is not: on people who are in no test, by the sum of the pairwise and the
BCubed F1, from the grids below. One choice serves all sets; what HDBSCAN leaves as noise counts as groups of one.

    HDBSCAN    distance 1 - cosine, all pairs; groups of two and more (https://doi.org/10.1007/978-3-642-37456-2_14)
    Leiden     every pair of a cosine of at least ``least`` is an edge of weight 1; the constant Potts model, in whose groups more than
               ``resolution`` of all pairs are edges (https://doi.org/10.1038/s41598-019-41695-z)
    Chinese whispers   every pair of a cosine of at least ``least`` is an edge as heavy as the cosine (Biemann 2006), as dlib's users group
               faces; with `graph.whisper`, which ours uses too, on edges of another kind

scikit-learn 1.9.1 with numpy 2.4.6 raises TypeError where a ``cluster_selection_epsilon`` was tried: settings that fail cannot be chosen, and the choice
says how many they were.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from common import BenchmarkError
from numpy.typing import NDArray

from faceembed.engine.index.clusters.scores import ClusterScores, cluster_scores
from faceembed.engine.index.graph import Edges, whisper

Floats = NDArray[np.float32]
Groups = NDArray[np.int64]
Settings = dict[str, Any]
Found = Iterator[tuple[Settings, Groups | TypeError]]

PACKAGES: dict[str, tuple[str, ...]] = {
    "HDBSCAN": ("sklearn",),
    "Leiden": ("igraph", "leidenalg"),
    "Chinese whispers": (),
}
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "HDBSCAN": {
        "min_samples": (1, 2, 3),
        "cluster_selection_epsilon": (0.0, 0.03, 0.04, 0.05, 0.06, 0.07),
        "cluster_selection_method": ("eom", "leaf"),
    },
    "Leiden": {
        "least": (0.91, 0.92, 0.93, 0.935, 0.94, 0.945, 0.95, 0.96),
        "resolution": (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6),
    },
    "Chinese whispers": {"least": (0.92, 0.93, 0.935, 0.94, 0.945, 0.95, 0.955, 0.96, 0.965, 0.97)},
}
"""For `dlib-resnet`; `grids_for` gives another encoder's."""
LIFTS = (-0.2, 0.0, 0.2, 0.3, 0.38, 0.45, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2)
_BLOCK = 1000  # rows of similarities at a time


def missing(method: str) -> str:
    """Why a method cannot run here, as one line; empty if it can."""
    absent = [name for name in PACKAGES[method] if importlib.util.find_spec(name) is None]
    return f"{method}: not run, {' and '.join(absent)} not installed" if absent else ""


def grids_for(threshold: float, strangers: float) -> dict[str, dict[str, tuple[Any, ...]]]:
    """The grids of any encoder: ``least`` lies above its threshold by a share of what this lies above strangers, as ours does.

    Args:
        threshold: the encoder's, a cosine.
        strangers: the usual cosine of two strangers.
    """
    least = tuple(round(min(threshold + lift * (threshold - strangers), 0.999), 4) for lift in LIFTS)
    epsilons = (0.0, round(1 - least[1], 4), round(1 - least[4], 4))
    return {
        "HDBSCAN": {**GRIDS["HDBSCAN"], "cluster_selection_epsilon": epsilons},
        "Leiden": {**GRIDS["Leiden"], "least": least},
        "Chinese whispers": {"least": least},
    }


def alone(found: NDArray[Any]) -> Groups:
    """Groups in which each face of noise, -1, has one of its own."""
    groups = found.astype(np.int64)
    noise = groups < 0
    groups[noise] = groups.max(initial=-1) + 1 + np.arange(noise.sum())
    return groups


def figures(scores: ClusterScores) -> dict[str, float]:
    """The scores as plain numbers."""
    return {
        f"{name}_{key}": float(getattr(agreement, key))
        for name, agreement in (("pairwise", scores.pairwise), ("bcubed", scores.bcubed))
        for key in ("precision", "recall", "f1")
    }


def choose_other(
    method: str, people: NDArray[np.str_], vectors: Floats, *, grid: dict[str, tuple[Any, ...]] | None = None
) -> dict[str, Any]:
    """All settings of a method's grid with their scores on the people that they are chosen on, the best first, and those that fail."""
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for settings, groups in _METHODS[method](vectors, _settings(grid or GRIDS[method])):
        if isinstance(groups, TypeError):
            failed.append({"settings": settings, "error": str(groups)})
        else:
            rows.append({"settings": settings, **figures(cluster_scores(people, groups))})
    return {"choice": sorted(rows, key=lambda row: -row["pairwise_f1"] - row["bcubed_f1"]), "failed": failed}


def run_other(method: str, settings: Settings, people: NDArray[np.str_], vectors: Floats) -> dict[str, Any]:
    """A method with its chosen settings on one set."""
    started = time.perf_counter()
    groups = groups_of(method, settings, vectors)
    seconds = time.perf_counter() - started
    return {"settings": settings, "seconds": seconds, **figures(cluster_scores(people, groups))}


def groups_of(method: str, settings: Settings, vectors: Floats) -> Groups:
    """The group of each face, by a method with these settings."""
    ((_, groups),) = _METHODS[method](vectors, [settings])
    if isinstance(groups, TypeError):
        raise BenchmarkError(f"{method} with {settings}: {groups}")
    return groups


def _settings(grid: dict[str, tuple[Any, ...]]) -> list[Settings]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _hdbscan(vectors: Floats, wanted: list[Settings]) -> Found:
    from sklearn.cluster import HDBSCAN  # optional: the benchmark's own

    distance = np.maximum(1 - (vectors @ vectors.T).astype(np.float64), 0)
    np.fill_diagonal(distance, 0)
    for settings in wanted:
        # copy: without it the fit leaves reachabilities in the distances
        method = HDBSCAN(min_cluster_size=2, metric="precomputed", copy=True, **settings)
        try:
            yield settings, alone(method.fit_predict(distance))
        except TypeError as error:
            yield settings, error


def _alike(vectors: Floats, least: float) -> tuple[NDArray[np.int64], Floats]:
    """All pairs of at least that cosine, (E, 2), and their cosines."""
    pairs, cosines = [], []
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK] @ vectors.T
        a, b = np.nonzero(block >= least)
        once = a + start < b
        pairs.append(np.stack([a + start, b], axis=1)[once])
        cosines.append(block[a[once], b[once]])
    return np.concatenate(pairs), np.concatenate(cosines)


def _leiden(vectors: Floats, wanted: list[Settings]) -> Found:
    import igraph  # optional: the benchmark's own
    import leidenalg

    for least, some in itertools.groupby(wanted, key=lambda settings: settings["least"]):
        graph = igraph.Graph(n=len(vectors), edges=_alike(vectors, least)[0])
        for settings in some:
            found = leidenalg.find_partition(
                graph, leidenalg.CPMVertexPartition, resolution_parameter=settings["resolution"], seed=0
            )
            yield settings, np.array(found.membership, np.int64)


def _whispers(vectors: Floats, wanted: list[Settings]) -> Found:
    for settings in wanted:
        pairs, cosines = _alike(vectors, settings["least"])
        yield settings, whisper(len(vectors), Edges(pairs[:, 0], pairs[:, 1], cosines))


_METHODS: dict[str, Callable[[Floats, list[Settings]], Found]] = {
    "HDBSCAN": _hdbscan,
    "Leiden": _leiden,
    "Chinese whispers": _whispers,
}
