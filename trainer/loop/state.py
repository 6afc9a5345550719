"""Where a training is, in a form that a checkpoint keeps: tensors, numbers, texts, lists and dicts.

A continuation is equal bit for bit because everything that moves is here: weights, optimiser, schedule, average, the loss's own
statistics, the random generators, and the rows of metrics so far. What is drawn by (seed, epoch, place) needs no state.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import torch

Row = dict[str, float | int | None]


@dataclasses.dataclass
class Progress:
    """How far a training is."""

    epoch: int = 0
    """Epochs done."""
    batch: int = 0
    """Batches done of the epoch that is under way."""
    step: int = 0
    """Steps of the optimiser in all."""
    best: list[float] = dataclasses.field(default_factory=list)
    """Rank of the best epoch: its EER, then 1 - AUC; empty before the first."""
    best_epoch: int = 0
    rows: list[Row] = dataclasses.field(default_factory=list)
    """Of metrics.csv: the start, then one an epoch."""
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of the losses in the epoch that is under way."""
    first_losses: list[float] = dataclasses.field(default_factory=list)
    """Of the first steps, for comparison."""
    recent_losses: list[float] = dataclasses.field(default_factory=list)
    """Of the last steps."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def random_state() -> dict[str, Any]:
    """The state of every global generator."""
    kind, keys, position, has_normal, normal = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_normal),
            float(normal),
        ],
        "python": [version, list(internal), gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_normal, normal = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_normal, normal))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def seed_everything(*key: int) -> None:
    """Seed every global generator from a key, such as (seed, epoch, process)."""
    first, second = (int(value) for value in np.random.SeedSequence(key).generate_state(2))
    torch.manual_seed(first << 16 ^ second)
    np.random.seed(second)
    random.seed(first)
