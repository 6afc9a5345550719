"""Turns a float32 ONNX graph into an explicitly quantised one: QuantizeLinear and DequantizeLinear where TensorRT computes in INT8.

    proto = raised(proto)
    layers = candidates(proto)
    scales = {name: scale_of(histogram, largest) for name in tensors_of(proto, layers)}
    quantised = quantise(proto, scales, layers)  # float32 around it still; `fp16.to_fp16` makes that half precision

Symmetric, as TensorRT demands: an activation has one scale, weights have one for each channel of the output. What a quantised layer
reads is quantised, and so is the other summand of the residual sum that its result goes into, so that the sum fuses into its kernel.
The first layer, the last ones and gates are no candidates: they cost little and harm much.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html

The file knows graphs and numbers, not faces: which layers stay out for accuracy's sake is for `engine.parity.quantise` to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import ModelError

OPSET = 19  # the first whose QuantizeLinear takes half precision
BINS = 2048  # of a histogram of an activation's sizes
LEVELS = 127  # -128 is left unused: the range is symmetric
_IR_VERSION = 9  # that goes with the opset
_CLIPS = 64  # of which the best is taken
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_GATES = ("Sigmoid", "HardSigmoid", "Softmax", "Sqrt")
_SMALLEST_SCALE = 2.0**-20  # half precision still has sixteen steps between it and the next power of two


def raised(proto: Any) -> Any:
    """A copy of a graph in an opset that quantises half precision.

    Raises:
        ModelError: it cannot be expressed in one.
    """
    from onnx import version_converter

    version = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if version >= OPSET:
        return type(proto).FromString(proto.SerializeToString())
    try:
        made = version_converter.convert_version(proto, OPSET)
    except Exception as error:  # ONNX raises what its C++ raised, which has no common base
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"the graph cannot be brought to opset {OPSET} for int8 ({reason}); use fp16") from error
    made.ir_version = max(proto.ir_version, _IR_VERSION)
    return made


def candidates(proto: Any) -> tuple[str, ...]:
    """The layers that may be quantised, by the names of their outputs, from input to output.

    Convolutions and products with constant weights; without those that read the network's input, those after which no other comes,
    and those whose result goes into gates alone.
    """
    graph = proto.graph
    weights = {weight.name: len(weight.dims) for weight in graph.initializer}
    weighted = [node for node in graph.node if node.op_type in _WEIGHTED and weights.get(node.input[1], 0) >= 2]
    made_by = {node.output[0] for node in weighted}
    fresh = {value.name for value in graph.input} - weights.keys()  # values that no weights were applied to yet
    first: set[str] = set()
    for node in graph.node:
        if fresh.intersection(node.input):
            (first if node.output[0] in made_by else fresh).update(node.output)
    readers = _readers(graph)
    end: dict[str, tuple[bool, bool]] = {}  # of a value: whether a weighted layer comes after it; whether only gates do
    for node in reversed(graph.node):
        for name in node.output:
            ways = [_way_on(one, made_by, end) for one in readers.get(name, ())]
            end[name] = any(after for after, _ in ways), bool(ways) and all(gate for _, gate in ways)
    return tuple(
        node.output[0] for node in weighted if node.output[0] not in first and end[node.output[0]] == (True, False)
    )


def tensors_of(proto: Any, layers: Collection[str]) -> tuple[str, ...]:
    """The activations of which quantising some layers takes a scale, in the graph's order."""
    given = {node.output[0]: node.input[0] for node in proto.graph.node if node.output and node.output[0] in layers}
    skips = _skips(proto.graph, layers)
    return tuple(dict.fromkeys([*given.values(), *skips.values()]))


def full_scale(largest: float) -> float:
    """The scale of an activation that clips nothing: its largest size over 127."""
    return float(_half(np.array(largest / LEVELS))) if largest > 0 else 1.0


def scale_of(histogram: NDArray[np.int64], largest: float) -> float:
    """The scale of an activation: of clips, the one that makes the mean squared error of its values smallest.

    For each clip t = largest * k / 64, k = 8 ... 64, with s = t / 127, the error is sum_b n_b (x_b - s min(round(x_b / s), 127))^2
    over the bins b of the histogram of sizes, of n_b values around x_b. (OMSE, https://arxiv.org/abs/1902.06822, on a grid.)

    Args:
        histogram: how many values have a size in each of `BINS` equal parts of 0 to ``largest``.
        largest: the largest size; 0 for a tensor that is always 0.
    """
    if not largest > 0:
        return 1.0
    middles = (np.arange(len(histogram)) + 0.5) * (largest / len(histogram))
    choices = []
    for k in range(_CLIPS // 8, _CLIPS + 1):
        scale = full_scale(largest * k / _CLIPS)
        left = middles - scale * np.minimum(np.rint(middles / scale), LEVELS)
        choices.append((float(histogram @ np.square(left)), scale))
    return min(choices)[1]


def quantise(proto: Any, scales: Mapping[str, float], layers: Collection[str]) -> Any:
    """A copy of a float32 graph with some of its layers quantised.

    Args:
        proto: an ONNX ``ModelProto`` from `raised`.
        scales: of each tensor that `tensors_of` names.
        layers: some of `candidates`.
    """
    made = type(proto).FromString(proto.SerializeToString())
    graph = made.graph
    skips = _skips(graph, layers)
    writer = _Writer(graph, scales)
    for node in list(graph.node):
        if node.output and node.output[0] in layers:
            node.input[0] = writer.activation(node.input[0])
            node.input[1] = writer.weight(node)
        elif node.output and (skip := skips.get(node.output[0])):
            node.input[:] = [writer.activation(name) if name == skip else name for name in node.input]
        writer.nodes.append(type(node).FromString(node.SerializeToString()))
    writer.finish()
    return made


def _way_on(reader: Any, weighted: Collection[str], end: Mapping[str, tuple[bool, bool]]) -> tuple[bool, bool]:
    """What `candidates` asks of a value, for one that reads it."""
    if reader.output[0] in weighted:
        return True, False
    ends = [end[name] for name in reader.output]
    return any(after for after, _ in ends), reader.op_type in _GATES or all(gate for _, gate in ends)


class _Writer:
    """The nodes of a graph as they come, each with the quantisation that it needs before it."""

    def __init__(self, graph: Any, scales: Mapping[str, float]) -> None:
        self.nodes: list[Any] = []
        self._graph = graph
        self._scales = scales
        self._weights = {weight.name: weight for weight in graph.initializer}
        self._made: dict[tuple[str, int], str] = {}

    def activation(self, name: str) -> str:
        """The name of a value after it was quantised and dequantised, once for all that read it so."""
        from onnx import helper

        if (name, -1) not in self._made:
            self._parameters(name, np.array(self._scales[name], np.float32))
            inner, result = f"{name}.int8", f"{name}.dequantised"
            parameters = [f"{name}.scale", f"{name}.zero"]
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *parameters], [inner], name=inner))
            self.nodes.append(helper.make_node("DequantizeLinear", [inner, *parameters], [result], name=result))
            self._made[name, -1] = result
        return self._made[name, -1]

    def weight(self, node: Any) -> str:
        """The name of a layer's dequantised weights, which the file holds in INT8; a scale for each channel of the output."""
        from onnx import helper, numpy_helper

        name, axis = node.input[1], _channel_axis(node)
        if (name, axis) not in self._made:
            values = numpy_helper.to_array(self._weights[name])
            others = tuple(other for other in range(values.ndim) if other != axis)
            scale = _half(np.abs(values).max(axis=others, keepdims=True) / LEVELS)
            whole = np.clip(np.rint(values / scale), -LEVELS, LEVELS).astype(np.int8)
            stem = f"{name}.{axis}"
            self._parameters(stem, scale.ravel().astype(np.float32))
            self._graph.initializer.append(numpy_helper.from_array(whole, f"{stem}.int8"))
            given = [f"{stem}.int8", f"{stem}.scale", f"{stem}.zero"]
            result = f"{stem}.dequantised"
            self.nodes.append(helper.make_node("DequantizeLinear", given, [result], name=result, axis=axis))
            self._made[name, axis] = result
        return self._made[name, axis]

    def finish(self) -> None:
        """Put the nodes into the graph, without the weights that nothing reads any more."""
        graph = self._graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input} | {value.name for value in graph.output}
        kept = [
            type(weight).FromString(weight.SerializeToString()) for weight in graph.initializer if weight.name in read
        ]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _parameters(self, stem: str, scale: NDArray[np.float32]) -> None:
        from onnx import numpy_helper

        zero = np.zeros(scale.shape, np.int8)
        self._graph.initializer.append(numpy_helper.from_array(scale, f"{stem}.scale"))
        self._graph.initializer.append(numpy_helper.from_array(zero, f"{stem}.zero"))


def _skips(graph: Any, layers: Collection[str]) -> dict[str, str]:
    """Of each sum that a quantised layer's result goes into, and nothing else: the summand that was there before it."""
    readers = _readers(graph)
    constants = {weight.name for weight in graph.initializer}
    place = {name: index for index, node in enumerate(graph.node) for name in node.output}
    skips = {}
    for name in layers:
        if [one.op_type for one in readers.get(name, ())] == ["Add"]:
            (total,) = readers[name]
            (other,) = [one for one in total.input if one != name] or [name]
            if other not in constants and place.get(other, -1) < place[name]:
                skips[total.output[0]] = other
    return skips


def _readers(graph: Any) -> dict[str, list[Any]]:
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    return readers


def _channel_axis(node: Any) -> int:
    """Of a layer's weights, the axis of the output's channels."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0 if node.op_type == "Conv" else 1


def _half(scale: NDArray[Any]) -> NDArray[np.float64]:
    """Scales as half precision holds them, rounded up: the graph computes with what was calibrated, and nothing is clipped by it."""
    wanted = np.maximum(scale, _SMALLEST_SCALE).astype(np.float64)
    half = wanted.astype(np.float16)
    up: NDArray[np.float64] = np.where(half < wanted, np.nextafter(half, np.float16(np.inf)), half).astype(np.float64)
    return up
