"""The one interface that every runtime fills."""

from __future__ import annotations

import abc
import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "bf16"]


@dataclasses.dataclass(frozen=True)
class RuntimeChoice:
    """What will run a model, and why it was chosen."""

    runtime: str
    device: str
    precision: Precision
    why: str


class Session(abc.ABC):
    """A model ready to run. `run` may be called from several threads at once."""

    choice: RuntimeChoice

    @abc.abstractmethod
    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Run one batch.

        Args:
            pixels: uint8 RGB (N, H, W, 3), N >= 1.

        Returns:
            The outputs asked for at load, float32, each with N first. They belong to the caller.
        """
