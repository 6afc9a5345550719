"""Two more ways to group faces, for `clustering.py`: HDBSCAN (scikit-learn) and Leiden (leidenalg and igraph, not among our extras).

Their settings are chosen as ours were and DBSCAN's epsilon is not: on people who are in no test, by the sum of the pairwise and the
BCubed F1, from the grids below. One choice serves all sets; what HDBSCAN leaves as noise counts as groups of one.

    HDBSCAN    distance 1 - cosine, all pairs; groups of two and more (https://doi.org/10.1007/978-3-642-37456-2_14)
    Leiden     every pair of a cosine of at least ``least`` is an edge of weight 1; the constant Potts model, in whose groups more than
               ``resolution`` of all pairs are edges (https://doi.org/10.1038/s41598-019-41695-z)

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

Floats = NDArray[np.float32]
Groups = NDArray[np.int64]
Settings = dict[str, Any]
Found = Iterator[tuple[Settings, Groups | TypeError]]

PACKAGES = {"HDBSCAN": ("sklearn",), "Leiden": ("igraph", "leidenalg")}
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
}
_BLOCK = 1000  # rows of similarities at a time


def missing(method: str) -> str:
    """Why a method cannot run here, as one line; empty if it can."""
    absent = [name for name in PACKAGES[method] if importlib.util.find_spec(name) is None]
    return f"{method}: not run, {' and '.join(absent)} not installed" if absent else ""


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


def choose_other(method: str, people: NDArray[np.str_], vectors: Floats) -> dict[str, Any]:
    """All settings of a method's grid with their scores on the people that they are chosen on, the best first, and those that fail."""
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for settings, groups in _METHODS[method](vectors, _grid(method)):
        if isinstance(groups, TypeError):
            failed.append({"settings": settings, "error": str(groups)})
        else:
            rows.append({"settings": settings, **figures(cluster_scores(people, groups))})
    return {"choice": sorted(rows, key=lambda row: -row["pairwise_f1"] - row["bcubed_f1"]), "failed": failed}


def run_other(method: str, settings: Settings, people: NDArray[np.str_], vectors: Floats) -> dict[str, Any]:
    """A method with its chosen settings on one set."""
    started = time.perf_counter()
    ((_, groups),) = _METHODS[method](vectors, [settings])
    if isinstance(groups, TypeError):
        raise BenchmarkError(f"{method} with {settings}: {groups}")
    seconds = time.perf_counter() - started
    return {"settings": settings, "seconds": seconds, **figures(cluster_scores(people, groups))}


def _grid(method: str) -> list[Settings]:
    grid = GRIDS[method]
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


def _leiden(vectors: Floats, wanted: list[Settings]) -> Found:
    import igraph  # optional: the benchmark's own
    import leidenalg

    for least, some in itertools.groupby(wanted, key=lambda settings: settings["least"]):
        parts = []
        for start in range(0, len(vectors), _BLOCK):
            a, b = np.nonzero(vectors[start : start + _BLOCK] @ vectors.T >= least)
            parts.append(np.stack([a + start, b], axis=1)[a + start < b])
        graph = igraph.Graph(n=len(vectors), edges=np.concatenate(parts))
        for settings in some:
            found = leidenalg.find_partition(
                graph, leidenalg.CPMVertexPartition, resolution_parameter=settings["resolution"], seed=0
            )
            yield settings, np.array(found.membership, np.int64)


_METHODS: dict[str, Callable[[Floats, list[Settings]], Found]] = {
    "HDBSCAN": _hdbscan,
    "Leiden": _leiden,
}
