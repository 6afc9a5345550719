"""`clustering.py` on made-up vectors: time and memory of grouping where real faces are too few."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
from clustering_others import figures
from numpy.typing import NDArray

from faceembed.engine.index.clusters import group as grouping
from faceembed.engine.index.clusters.scores import cluster_scores
from faceembed.engine.index.graph import neighbours

Floats = NDArray[np.float32]


def made_up(count: int, *, seed: int = 0) -> tuple[NDArray[np.int64], Floats]:
    """People and unit vectors (N, 128): ten photos a person, about a mean that all share.

    Two photos of a person have a cosine of about 0.955, of two people 0.83, as with `dlib-resnet`.
    """
    rng = np.random.default_rng(seed)
    people = max(2, count // 10)
    person = rng.integers(people, size=count)
    centres = rng.normal(size=(people, 128)).astype(np.float32)  # squared length 128; the noise's is 46
    mean = np.float32(np.sqrt(850)) * np.eye(1, 128, dtype=np.float32)[0]
    vectors = np.empty((count, 128), np.float32)
    for start in range(0, count, 100_000):
        rows = slice(start, start + 100_000)
        vectors[rows] = centres[person[rows]] + 0.6 * rng.normal(size=vectors[rows].shape) + mean
        vectors[rows] /= np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    return person, vectors


def scale_child(count: int, threshold: float) -> dict[str, Any]:
    """Grouping made-up vectors, in a process of its own so that its memory can be seen."""
    people, vectors = made_up(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started, cpu = time.perf_counter(), time.process_time()
    groups = grouping.group(vectors, least=grouping.suggested_least(vectors, threshold))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sample = np.sort(np.random.default_rng(1).choice(count, min(count, 1000), replace=False))
    exact = np.argpartition(-(vectors[sample] @ vectors.T), 10, axis=1)[:, :10]
    near = neighbours(vectors[sample], vectors, 10, as_many=count)[0]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), near.tolist(), strict=True)]
    return {
        "vectors": count,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "inputs_bytes": before,
        "peak_bytes": peak,
        "neighbours_found": float(np.mean(shared)),
        **figures(cluster_scores(people, groups)),
    }
