"""The networks of a model as a card runs them: what each takes, in which batches, and its graph at a precision.

An encoder is one network; a one-shot aligner is two, `detect` and `refine`. Each has a front end: see `base.Entry`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.oneshot import OUTPUTS, REFINED, REFINED_SIDE
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import Entry
from faceembed.engine.runtimes.frontend import with_entry
from faceembed.engine.runtimes.profile import Profile
from faceembed.errors import DeviceError

_LEAST_SIDE = 32
LARGEST_SIDE = 2048  # a card's canvas; photos that would need a larger one are shown this large
LOOKS = ((160, 128), (480, 32), (1024, 8), (LARGEST_SIDE, 2))
"""Sides of a detector's square canvases in pixels, and how many make a run: always so many, as every other number would need kernels, memory
and a CUDA graph of its own. The first look has 160; the second 480, or more where ``--min-face`` or ``--detect-size`` ask for it."""


LANES = {"detect": "detect", "refine": "detect", "encode": "encode"}
"""The name of the stream on which each network runs, as the stages of `pipeline.gpu` call them."""


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a model."""

    name: str
    outputs: tuple[str, ...]
    """Names of its outputs, in order; empty for all of the file's."""
    entry: Entry
    size: tuple[int, int]
    """Height and width of the input in pixels; (0, 0) for any."""


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
    return (
        Network("detect", OUTPUTS, "pixels", (0, 0)),
        Network("refine", (REFINED,), "chips", (REFINED_SIDE, REFINED_SIDE)),
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

    A detector has one for each of `LOOKS`, tuned for it; ``batch`` says how many canvases there are at most.
    """
    if network.size != (0, 0):
        return (Profile(batch),)
    counts = [(side, min(count, batch[2])) for side, count in LOOKS]
    return tuple(Profile((1, count, count), (_LEAST_SIDE, side, side)) for side, count in counts)


def look_of(side: float) -> tuple[int, int]:
    """The side of the smallest canvas of a card that holds a copy of ``side`` pixels, and how many make a run.

    Raises:
        ValueError: there is none so large.
    """
    for canvas, count in LOOKS:
        if round(side) <= canvas:  # a copy's sides are whole; 12 * 40 is 480.00002 in float32
            return canvas, count
    raise ValueError(f"no canvas of a card holds {side:.0f} pixels; the largest is {LARGEST_SIDE}")


def looks_of(sides: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """`look_of` for many sides at once: which of `LOOKS` each is shown in.

    Raises:
        ValueError: there is none so large for one of them.
    """
    rounded = np.rint(sides)
    if len(rounded) and rounded.max() > LOOKS[-1][0]:
        raise ValueError(f"no canvas of a card holds {rounded.max():.0f} pixels; the largest is {LOOKS[-1][0]}")
    return np.asarray(np.searchsorted([side for side, _ in LOOKS], rounded), np.int64)


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
