"""Weights that a file computes from other weights each time it runs, computed once.

Quantised exports keep a weight as whole numbers, its scale and its zero point, and a node that multiplies them out. OpenVINO
cannot convert the form of that node that has one scale for a block of values, and ONNX Runtime runs it anew for every batch.
Some of these exports also list their weights as graph inputs, and inputs that no node reads: both are dropped.

    proto = onnx.load("face_recognition_sface_2021dec_int8bq.onnx")     # 30 inputs, as OpenCV publishes it
    settle(proto)                                                      # one input, float32 weights, the same function
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_SHAPE_ONLY = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def settle(proto: Any) -> bool:
    """Compute what depends on weights alone, and drop graph inputs that are weights or that nobody reads.

    Args:
        proto: an ONNX ``ModelProto`` whose weights are in it; changed in place.

    Returns:
        Whether anything was changed.
    """
    quantised = any(node.op_type == "DequantizeLinear" for node in proto.graph.node)
    computed = quantised and _compute(proto)
    return _drop_inputs(proto) or computed


def dequantise(values: Array, scale: Array, zero: Array, *, axis: int, block: int) -> NDArray[np.float32]:
    """``(values - zero) * scale`` as ONNX's DequantizeLinear defines it (operator set 21).

    Args:
        values: whole numbers of any shape.
        scale: one number; or one for each place along ``axis``; or one for each ``block`` places along it, all other axes whole.
        zero: of the shape of ``scale``, or one number.
        axis: along which scales differ.
        block: places that share a scale; 0 where they do not come in blocks.

    Raises:
        ValueError: the shapes do not fit together.
    """

    def spread(numbers: Array) -> Array:
        if numbers.size == 1:
            return numbers.reshape(())
        if block:
            along = np.repeat(numbers, block, axis)  # the last block may be cut short
            return np.take(along, range(values.shape[axis]), axis)
        if numbers.ndim == 1:
            return numbers.reshape([-1 if place == axis % values.ndim else 1 for place in range(values.ndim)])
        return numbers

    wide = spread(scale).astype(np.float32)
    result = (values.astype(np.float32) - spread(zero).astype(np.float32)) * wide
    if result.shape != values.shape:
        raise ValueError(f"scales of shape {scale.shape} for values of shape {values.shape}")
    return result.astype(np.float32)


def _compute(proto: Any) -> bool:
    """Replace each dequantised weight, and what only gives it another shape, by its values."""
    from onnx import numpy_helper

    graph = proto.graph
    known = {weight.name: weight for weight in graph.initializer}
    values: dict[str, Array] = {}

    def value(name: str) -> Array:
        if name not in values:
            values[name] = numpy_helper.to_array(known[name])
        return values[name]

    made: set[str] = set()
    kept = []
    for node in graph.node:
        fixed = bool(node.input) and all(not name or name in known or name in values for name in node.input)
        if node.op_type == "DequantizeLinear" and fixed:
            values[node.output[0]] = _dequantised(node, value)
        elif node.op_type in _SHAPE_ONLY and fixed and made.intersection(node.input):
            values[node.output[0]] = _evaluated(proto, node, value)
        else:
            kept.append(node)
            continue
        made.add(node.output[0])
    if not made:
        return False
    read = _read(kept) | {output.name for output in graph.output}
    weights = [weight for name, weight in known.items() if name in read]
    weights += [
        numpy_helper.from_array(np.ascontiguousarray(values[name]), name) for name in sorted(made) if name in read
    ]
    for field, entries in ((graph.node, kept), (graph.initializer, weights)):
        del field[:]
        field.extend(entries)
    del graph.value_info[:]
    return True


def _dequantised(node: Any, value: Any) -> Array:
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    has_zero = len(node.input) > 2 and node.input[2]
    zero = value(node.input[2]) if has_zero else np.zeros((), np.float32)
    scale = value(node.input[1])
    values = dequantise(
        value(node.input[0]),
        scale,
        zero,
        axis=int(given.get("axis", 1)),
        block=int(given.get("block_size", 0)),
    )
    return values.astype(scale.dtype)  # half precision's stay half precision


def _evaluated(proto: Any, node: Any, value: Any) -> Array:
    """One node by ONNX's own definition."""
    from onnx.reference import ReferenceEvaluator

    feeds = {name: value(name) for name in node.input if name}
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    return np.asarray(ReferenceEvaluator(node, opsets=versions).run(None, feeds)[0])


def _read(nodes: Iterable[Any]) -> set[str]:
    """What nodes read, and the branches and loops within them."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                names |= _read(inner.node) | {output.name for output in inner.output}
    return names


def _drop_inputs(proto: Any) -> bool:
    graph = proto.graph
    weights = {weight.name for weight in graph.initializer}
    read = _read(graph.node) | {output.name for output in graph.output}
    # What no node reads is dropped only where something else is: a file that reads none of its inputs is refused as it is.
    kept = [value for value in graph.input if value.name not in weights and value.name in read]
    if not kept or len(kept) == len(graph.input):
        return False
    del graph.input[:]
    graph.input.extend(kept)
    return True
