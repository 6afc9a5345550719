"""May a training go on from a checkpoint? Only with the settings that it was made with, but for those that change no result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faceembed.errors import UsageError
from faceembed.trainer.recipes.settings import TrainConfig

FREE = frozenset(
    {
        "data.cache_mb",
        "data.check",
        "data.threads",
        "loop.device",
        "loop.diverged",
        "loop.epochs",
        "loop.save_every",
        "loop.stop_after",
        "loop.tensorboard",
        "validation.batch_size",
    }
)
"""Settings that a continuation may change. More epochs stretch a cosine schedule from where it is."""


def check_same_training(saved: TrainConfig, config: TrainConfig, path: Path) -> None:
    """Compare the settings of a checkpoint with those that are asked for.

    Raises:
        UsageError: one differs; the message names it.
    """
    before, now = dict(_flat(dataclasses.asdict(saved))), dict(_flat(dataclasses.asdict(config)))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in FREE]
    if changed:
        name = changed[0]
        raise UsageError(
            f"{path} was made with {name} = {before.get(name)!r}, now it is {now.get(name)!r}; go on with the old settings, "
            "take another folder, or start anew with --fresh"
        )


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value
