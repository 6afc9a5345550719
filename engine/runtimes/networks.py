"""The networks of a model as a card runs them: what each takes, in which batches, and its graph at a precision.

An encoder is one network; a one-shot aligner is two, `detect` and `refine`. Each has a front end: see `base.Entry`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import Entry
from faceembed.engine.runtimes.frontend import with_entry
from faceembed.errors import DeviceError, UsageError

BATCH = (1, 64, 128)
MAX_BATCH = 4096
_FIRST_LOOK = (32, 160, 256)  # sides of a canvas in pixels: least, usual, largest
_SECOND_LOOK = (32, 480, 2048)
_LARGE_CANVASES = 32  # at most in one run; more of the largest would pass what TensorRT can count in one tensor


@dataclasses.dataclass(frozen=True)
class Profile:
    """The shapes that an engine takes, and the one among them that it is tuned for."""

    batch: tuple[int, int, int]
    """Least, usual and largest number of inputs."""
    sides: tuple[int, int, int] = ()  # type: ignore[assignment]
    """The same for height and width in pixels; empty where the network's input has one size."""

    def __post_init__(self) -> None:
        least, usual, most = self.batch
        if not 1 <= least <= usual <= most <= MAX_BATCH:
            raise UsageError(
                f"--batch {least},{usual},{most}: give MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX <= {MAX_BATCH}"
            )

    def takes(self, count: int, height: int, width: int) -> bool:
        """Whether an input of this shape fits."""
        sides = self.sides or (height, height, height)
        return self.batch[0] <= count <= self.batch[2] and all(sides[0] <= side <= sides[2] for side in (height, width))


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a model."""

    name: str
    outputs: tuple[str, ...]
    """Names of its outputs, in order; empty for all of the file's."""
    entry: Entry
    size: tuple[int, int]
    """Height and width of the input in pixels; (0, 0) for any."""


def parse_batch(text: str) -> tuple[int, int, int]:
    """``MIN,OPT,MAX``, or one number for all three.

    Raises:
        UsageError: neither.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise UsageError(f"--batch '{text}': give MIN,OPT,MAX, as in 1,64,128, or one number")
    return Profile((numbers[0], numbers[1], numbers[2])).batch


def networks_of(model: Model) -> tuple[Network, ...]:
    """The networks that a card runs of a model.

    Raises:
        DeviceError: it has no way onto a card.
    """
    spec = model.spec
    if spec.task == "encoder":
        return (Network("encode", (), "chips", spec.input_size),)
    if spec.decoder != "one-shot":
        raise DeviceError(
            f"aligner '{spec.name}' runs on the CPU only; on a card use a one-shot aligner, or --aligner none for crops"
        )
    from faceembed.engine.detect import oneshot, refine

    return (
        Network("detect", oneshot.OUTPUTS, "pixels", (0, 0)),
        Network("refine", (refine.OUTPUT,), "chips", (refine.SIDE, refine.SIDE)),
    )


def network_for(model: Model, outputs: Sequence[str]) -> Network:
    """The network that gives some outputs.

    Raises:
        DeviceError: no network of the model does, or the model has no way onto a card.
    """
    for network in networks_of(model):
        if network.outputs == tuple(outputs):
            return network
    raise DeviceError(f"no network of '{model.spec.name}' on a card gives {', '.join(outputs) or 'all outputs'} alone")


def profiles_of(network: Network, batch: tuple[int, int, int]) -> tuple[Profile, ...]:
    """The shapes that a network's engine is built for.

    Of a detector, ``batch`` counts canvases of the first look; those of the second are larger and fewer.
    """
    if network.size != (0, 0):
        return (Profile(batch),)
    usual, most = (min(max(count // 4, 1), _LARGE_CANVASES) for count in batch[1:])
    return Profile(batch, _FIRST_LOOK), Profile((1, usual, most), _SECOND_LOOK)


def graph_of(model: Model, network: Network, precision: str, *, base: Any = None) -> bytes:
    """The ONNX file of a network with its front end.

    Args:
        model: the model on disk.
        network: one of `networks_of`.
        precision: ``fp32``, or ``fp16`` for a strongly typed half precision graph, or ``int8`` for one whose ``base`` is quantised.
        base: the model's graph as an ONNX ``ModelProto`` to use in place of its file; it may be changed.

    Raises:
        ModelError: the file is damaged, has no such outputs, or weights that are too large.
    """
    return with_entry(model, network.entry, outputs=network.outputs, half=precision in ("fp16", "int8"), proto=base)
