"""The one interface that every runtime fills."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.runtimes.arrays import DeviceArray

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Entry = Literal["pixels", "chips"]
"""What a network on a card takes: ``pixels`` is uint8 RGB (N, H, W, 3), and the spec's normalisation is part of the network;
``chips`` is float16 (N, 3, H, W), normalised already, as the warp kernel writes it."""


@dataclasses.dataclass(frozen=True)
class RuntimeChoice:
    """What will run a model, and why it was chosen."""

    runtime: str
    device: str
    precision: Precision
    why: str
    exact_layers: int = 0
    """How many of the first layers with weights are computed in fp32 before the rest goes on at ``precision``."""


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


class DeviceSession(Session):
    """A model ready to run on a card. `run` copies to and from the host; `run_device` leaves everything on the card."""

    entry: Entry
    pads: bool = False
    """Whether it fills batches up to few sizes itself."""

    @abc.abstractmethod
    def run_device(self, pixels: DeviceArray, stream: Any) -> tuple[DeviceArray, ...]:
        """Run one batch that is on the card; nothing is waited for.

        Args:
            pixels: what `entry` says, on the session's card, N >= 1. It may be changed or freed once ``stream`` has come this far.
            stream: the cuda-core stream on which ``pixels`` is written and the outputs will be read. Each stream has its own
                memory and its own place in the card's queue: batches of different streams run side by side.

        Returns:
            The outputs asked for at load, float32, each with N first. They belong to the caller.
        """

    def warm(self, stream: Any, *, side: int = 0) -> None:
        """Prepare everything that depends on the shapes of `run_device` on a stream, so that no batch has to wait for it.

        Args:
            stream: as for `run_device`.
            side: of the largest picture that will come, in pixels, where pictures have different sizes; 0: of any.
        """

    def release(self) -> None:
        """Give back memory that `warm` or earlier runs left prepared. No call may be under way; later ones prepare it again."""
