"""How many faces a second each of several encoders embeds, measured side by side."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import statistics
import time
from collections.abc import Sequence

import numpy as np

from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.encodes import Chips

ROUNDS = 3
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Rate:
    """Faces a second, over several rounds."""

    median: float
    lowest: float
    highest: float


def measure_rates(encoders: Sequence[Encoder], chips: Chips, *, workers: int, rounds: int = ROUNDS) -> list[Rate]:
    """Measure encoders on the same faces.

    Each round takes all encoders in turn, so that whatever else the machine does falls on all of them alike. A first round,
    which is not counted, warms them up.

    Args:
        encoders: of one input size.
        chips: uint8 RGB (N, H, W, 3); fewer than two batches a worker are repeated.
        workers: batches embedded side by side.
        rounds: that count.
    """
    needed = 2 * workers * _BATCH
    chips = np.concatenate([chips] * -(-needed // len(chips))) if len(chips) < needed else chips
    batches = [chips[start : start + _BATCH] for start in range(0, len(chips), _BATCH)]
    seen: list[list[float]] = [[] for _ in encoders]
    with concurrent.futures.ThreadPoolExecutor(workers, "faceembed-rate") as pool:
        for number in range(rounds + 1):
            for encoder, rates in zip(encoders, seen, strict=True):
                started = time.perf_counter()
                list(pool.map(encoder.encode, batches))
                if number:
                    rates.append(len(chips) / (time.perf_counter() - started))
    return [Rate(round(statistics.median(rates), 1), round(min(rates), 1), round(max(rates), 1)) for rates in seen]
