"""In which order crops are trained on: a function of a generator, so that an epoch can be drawn again.

order = class_order(labels, data, rng)
for batch in batches(order, size=64, processes=1, process=0): ...
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DataError
from faceembed.trainer.recipes.crops import Data

Indices = NDArray[np.int64]


def class_order(labels: Indices, data: Data, rng: np.random.Generator) -> Indices:
    """The crops of one epoch of pre-training.

    Args:
        labels: ``(n,)`` the person of each crop.
        data: `sampling` says how, see there.
        rng: decides.

    Returns:
        ``(m,)`` places in ``labels``; m is n, or with ``groups`` a multiple of the group near it.
    """
    if data.sampling == "photos":
        return rng.permutation(len(labels))
    group = data.group if data.sampling == "groups" else 1
    by_person = _shuffled_by_person(labels, rng)
    wanted = max(round(len(labels) / group), 1)
    people: list[int] = []
    while len(people) < wanted:
        people += rng.permutation(len(by_person)).tolist()
    taken = [0] * len(by_person)
    order: list[int] = []
    for person in people[:wanted]:
        photos = by_person[person]
        for _ in range(group):  # round and round: no photo twice before all were seen
            order.append(photos[taken[person] % len(photos)])
            taken[person] += 1
    return np.array(order, np.int64)


def _shuffled_by_person(labels: Indices, rng: np.random.Generator) -> list[list[int]]:
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return [part.tolist() for part in np.split(order, cuts)]


def batches(count: int, *, size: int, processes: int = 1, process: int = 0) -> list[Indices]:
    """Places 0 to count - 1 cut into batches, of which each process has its share.

    What is left over is dropped; where there is less than one batch in all, that is the batch of a single process.

    Raises:
        DataError: fewer than one batch for each of several processes.
    """
    whole = size * processes
    if count < whole and processes > 1:
        raise DataError(
            f"{count:,} items are fewer than one batch of {size} for each of {processes} processes; use a smaller loop.batch_size"
        )
    if count < whole:
        return [np.arange(count)]
    starts = range(process * size, math.floor(count / whole) * whole, whole)
    return [np.arange(start, start + size) for start in starts]
