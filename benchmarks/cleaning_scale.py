"""`cleaning.py` on made-up vectors: time and memory of judging far more photos than there are."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.trainer.data.clean import CleanSettings, judge
from faceembed.trainer.data.people import People
from faceembed.trainer.data.samples import Sample


def made_up(count: int, *, seed: int = 0) -> tuple[list[str], NDArray[np.float32], NDArray[np.bool_]]:
    """Labels, unit vectors (N, 128) and which labels are wrong: ten photos a person, a tenth of the labels swapped.

    Two photos of a person have a cosine of about 0.6, of two people about 0, which is how faces lie about their mean.
    """
    rng = np.random.default_rng(seed)
    people = max(2, count // 10)
    person = np.sort(rng.integers(people, size=count))
    centres = rng.normal(size=(people, 128)).astype(np.float32)
    vectors = np.empty((count, 128), np.float32)
    for start in range(0, count, 100_000):
        rows = slice(start, start + 100_000)
        vectors[rows] = centres[person[rows]] + 0.8 * rng.normal(size=vectors[rows].shape)
        vectors[rows] /= np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    label = person.copy()
    chosen = rng.permutation(count)[: count // 10]
    label[chosen] = label[np.roll(chosen, 1)]
    return [f"{number:07d}" for number in label], vectors, label != person


def scale_child(count: int) -> dict[str, Any]:
    """The judgement on made-up vectors, in a process of its own so that its memory can be seen."""
    labels, vectors, wrong = made_up(count)
    paths = [f"{number:08d}" for number in range(count)]
    people = People("made up", tuple(Sample(path, label) for path, label in zip(paths, labels, strict=True)))
    by_path = dict(zip(paths, vectors, strict=True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    rows = judge(people, by_path, {}, CleanSettings()).rows
    seconds = time.perf_counter() - started
    gone = np.zeros(count, bool)
    for row in rows:
        gone[int(row.photo)] = not row.kept
    return {
        "vectors": count,
        "seconds": seconds,
        "vectors_per_second": count / seconds,
        "inputs_bytes": before,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "recall": float((gone & wrong).sum() / wrong.sum()),
        "precision": float((gone & wrong).sum() / max(1, gone.sum())),
    }
