"""Which networks want to be told how many chips they get, and in which numbers they then get them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = (1, 8, 32)
"""Batches that a network is compiled for, each when it is first needed. A run is padded to the next of them."""


def gains(graph: bytes) -> bool:
    """Whether a network runs faster where its batch is fixed.

    That is so where it multiplies what it computed by what it computed, as attention does: with a free batch OpenVINO finds all
    shapes anew in each run, and plans no product before. Chips/s of one core, BF16 (AMX), batches of 32, free and fixed:
    EdgeFace-XS 533 and 713, XXS 697 and 1,041; networks of convolutions alone gain nothing that padding would not take back
    (`faceembed-r29` 792 and 830, SFace 268 and 255, MobileFaceNet 598 and 643).

    Args:
        graph: an ONNX file.
    """
    import onnx

    network = onnx.load_from_string(graph).graph
    computed = {value.name for value in network.input} - {weight.name for weight in network.initializer}
    for node in network.node:
        made = computed.intersection(node.input)
        if node.op_type == "MatMul" and len(made) == 2:
            return True
        if made:
            computed.update(node.output)
    return False


def padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A batch of at most the largest of `SIZES`, with empty chips behind it up to the next of them."""
    size = next(size for size in SIZES if size >= len(pixels))
    if size == len(pixels):
        return pixels
    return np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), np.uint8)])
