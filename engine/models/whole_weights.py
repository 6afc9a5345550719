"""Keeps the weights of wide convolutions in a half precision file as whole numbers of 8 bits: half its size, the same function to its noise.

A file's size is that of its widest layers. Each output channel has one scale, the one with the least squares of what rounding leaves;
a `DequantizeLinear` multiplies them out, which `float_weights.settle` does once, when the engine reads the file, so nothing is computed
in whole numbers. Of `resnet29-branch` this moves similarities by a hundredth of strangers' spread, as much as BF16 does, and no figure of
validation by more than its noise (`docs/next-encoder.md`).

    to_fp16(proto)
    to_whole_weights(proto)     # in operator set 19, the first whose DequantizeLinear gives half precision
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
"""-128 is left unused: the range is symmetric."""
WIDE = 128
"""Output channels from which on a convolution counts: the layers before hold a tenth of the weights and see pixels."""
_CLIPS = np.linspace(0.7, 1.0, 13)  # of a channel's largest weight; the best is taken
_SMALLEST_SCALE = 2.0**-14  # half precision's smallest normal number


def to_whole_weights(proto: Any) -> None:
    """Replace the weights of wide convolutions by whole numbers and their scales, in place.

    Args:
        proto: an ONNX ``ModelProto`` from `fp16.to_fp16`, in operator set 19 or later.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    weights = {weight.name: weight for weight in graph.initializer}
    wide = [
        node.input[1]
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in weights and weights[node.input[1]].dims[0] >= WIDE
    ]
    nodes, made = [], {}
    for name in dict.fromkeys(wide):
        whole, scale = round_weights(numpy_helper.to_array(weights[name]).astype(np.float32))
        for suffix, values in ((".int8", whole), (".scale", scale), (".zero", np.zeros(len(scale), np.int8))):
            graph.initializer.append(numpy_helper.from_array(values, name + suffix))
        made[name] = f"{name}.wide"
        parts = [f"{name}.int8", f"{name}.scale", f"{name}.zero"]
        nodes.append(helper.make_node("DequantizeLinear", parts, [made[name]], name=made[name], axis=0))
    for node in graph.node:
        node.input[:] = [made.get(name, name) for name in node.input]
    nodes += [type(node).FromString(node.SerializeToString()) for node in graph.node]
    kept = [type(one).FromString(one.SerializeToString()) for one in graph.initializer if one.name not in made]
    for field, entries in ((graph.node, nodes), (graph.initializer, kept)):
        del field[:]
        field.extend(entries)


def round_weights(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Whole numbers and scales whose products are nearest to a layer's weights.

    Args:
        values: (O, ...).

    Returns:
        int8 of the shape of ``values``, and float16 (O,): positive.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    largest = np.abs(flat).max(1)
    best = np.full(len(flat), np.inf)
    scales = np.full(len(flat), _SMALLEST_SCALE)
    for clip in _CLIPS:
        scale = np.maximum(largest * clip / LEVELS, _SMALLEST_SCALE).astype(np.float16).astype(np.float64)
        left = np.square(_whole(flat, scale) * scale[:, None] - flat).sum(1)
        scales = np.where(left < best, scale, scales)
        best = np.minimum(left, best)
    return _whole(flat, scales).astype(np.int8).reshape(values.shape), scales.astype(np.float16)


def _whole(flat: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.rint(flat / scale[:, None]), -LEVELS, LEVELS)
