"""Turns a float32 ONNX graph into a strongly typed half precision one: FP16 is a property of the file, not of a runtime's mood.

Weights and everything between are half precision. Outputs stay float32, and so do the sums of squares of a normalisation, which leave
half precision's range first.

A runtime on the CPU computes such a graph in float32 and forgets the rounding between layers, and with it every overflow: ONNX Runtime
takes the casts out that it put in. `rounded` says them in a way that stays, so that what a card will compute can be checked without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from faceembed.errors import ModelError

SUFFIX = ".fp16"
_EXACT_OPS = ("ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "LpNormalization")  # computed in float32
_LOSSLESS = (
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Relu",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
_FLOAT_ONLY = {"Resize": (1, 2), "Upsample": (1,)}  # inputs that ONNX allows in float32 alone


def to_fp16(proto: Any, *, half_inputs: bool = False) -> None:
    """Make a float32 graph half precision, in place; its outputs stay float32.

    Args:
        proto: an ONNX ``ModelProto`` without subgraphs.
        half_inputs: the float inputs become float16 too, where they stay float32 otherwise.

    Raises:
        ModelError: a weight too large for half precision, or a graph with branches or loops.
    """
    graph = proto.graph
    if nested := [node.op_type for node in graph.node if any(a.HasField("g") or a.graphs for a in node.attribute)]:
        raise ModelError(f"a graph with '{nested[0]}' cannot be turned into fp16; use --precision fp32")
    floats = _float_values(proto)
    _halve_tensors(graph)
    _drop_idle_casts(graph)
    _keep_exact(graph, floats)
    _cast_ends(graph, half_inputs=half_inputs)
    del graph.value_info[:]  # their types are no longer true


def to_fp32(proto: Any) -> None:
    """Take half precision out of a graph that `to_fp16` made, in place: it computes in float32, with weights that stay as rounded.

    A file may hold such a graph (`faceembed export --precision fp16`), and what is made of graphs here starts from float32. Weights
    that are only stored in half precision, and cast at load, are left as they are.

    Args:
        proto: an ONNX ``ModelProto`` without subgraphs.
    """
    from onnx import TensorProto, numpy_helper

    graph, reals = proto.graph, (TensorProto.FLOAT, TensorProto.FLOAT16)
    half_inputs = [value for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT16]
    if not half_inputs and not any(_cast_to(node) == TensorProto.FLOAT16 for node in graph.node):
        return
    typed = _values_of(proto, *reals)
    constants = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        if _cast_to(node) == TensorProto.FLOAT16:
            next(a for a in node.attribute if a.name == "to").i = TensorProto.FLOAT
    ends = {value.name for value in (*graph.input, *graph.output)}
    alias: dict[str, str] = {}  # what a cast that is idle now gave, and what it is
    for node in graph.node:
        if _cast_to(node) in reals and node.input[0] in typed:
            given, result = alias.get(node.input[0], node.input[0]), node.output[0]
            if result not in ends:
                alias[result] = given
            elif given not in ends:  # the network's output takes its name back
                alias = {name: result if value == given else value for name, value in alias.items()}
                alias[given] = result
    nodes = [node for node in graph.node if not _is_idle(node, typed, alias)]
    for node in nodes:
        node.input[:] = [alias.get(name, name) for name in node.input]
        node.output[:] = [alias.get(name, name) for name in node.output]
    _replace_nodes(graph, nodes)
    del graph.value_info[:]


def _cast_to(node: Any) -> int:
    """The type that a node casts to; 0 for any other node."""
    return next((int(a.i) for a in node.attribute if a.name == "to"), 0) if node.op_type == "Cast" else 0


def _is_idle(node: Any, typed: set[str], alias: dict[str, str]) -> bool:
    """Whether a cast gives what it is given, under one name."""
    if not _cast_to(node) or node.input[0] not in typed:
        return False
    given, result = (alias.get(name, name) for name in (node.input[0], node.output[0]))
    return bool(given == result)


def rounded(proto: Any) -> Any:
    """What a card computes of a half precision graph, as a float32 graph: each layer in float32, its result rounded to half.

    Layers of a card sum in float32 too; their order of summation differs, so the last bit may.

    Args:
        proto: an ONNX ``ModelProto`` that `to_fp16` made; it stays as it is.

    Returns:
        A graph of the same inputs and outputs.
    """
    from onnx import TensorProto, helper, numpy_helper

    proto = type(proto).FromString(proto.SerializeToString())
    graph = proto.graph
    halves = _values_of(proto, TensorProto.FLOAT16)
    constants = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))

    def cast(name: str, result: str, kind: int) -> Any:
        return helper.make_node("Cast", [name], [result], to=kind)

    given = {value.name for value in graph.input} & halves
    nodes = [cast(name, f"{name}.fp32", TensorProto.FLOAT) for name in sorted(given)]
    for node in graph.node:
        to = node.attribute[0].i if node.op_type == "Cast" else 0
        node.input[:] = [f"{name}.fp32" if name in given else name for name in node.input]
        (result, *others) = node.output
        if to == TensorProto.FLOAT16:
            nodes += [cast(node.input[0], f"{result}.half", to), cast(f"{result}.half", result, TensorProto.FLOAT)]
        elif result not in halves or node.op_type in _LOSSLESS:
            nodes.append(node)
        else:
            node.output[:] = [f"{result}.exact", *others]
            nodes.append(node)
            nodes += [cast(f"{result}.exact", f"{result}.half", TensorProto.FLOAT16)]
            nodes += [cast(f"{result}.half", result, TensorProto.FLOAT)]
    _replace_nodes(graph, nodes)
    del graph.value_info[:]
    return proto


def _float_values(proto: Any) -> set[str]:
    """Names of everything that is float32."""
    from onnx import TensorProto

    return _values_of(proto, TensorProto.FLOAT)


def _values_of(proto: Any, *kinds: int) -> set[str]:
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(proto).graph
    typed = [*graph.input, *graph.value_info, *graph.output]
    names = {value.name for value in typed if value.type.tensor_type.elem_type in kinds}
    return names | {weight.name for weight in graph.initializer if weight.data_type in kinds}


def _halve_tensors(graph: Any) -> None:
    """Halve weights, constants, and casts to float32; what only a `_FLOAT_ONLY` input reads is left alone."""
    from onnx import TensorProto

    read: dict[str, bool] = {}  # whether something reads it as half precision
    for node, index, name in _uses(graph):
        read[name] = read.get(name, False) or index not in _FLOAT_ONLY.get(node.op_type, ())
    for tensor in graph.initializer:
        if read.get(tensor.name, True):
            _halve(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _halve(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16


def _halve(tensor: Any) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    if not np.abs(values).max(initial=0) <= np.finfo(np.float16).max:  # NaN fails too
        raise ModelError(f"weight '{tensor.name}' is too large for fp16; use --precision fp32")
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


def _drop_idle_casts(graph: Any) -> None:
    """Weights that a file stores in half precision and casts at load (as our aligners do) are read as they are."""
    from onnx import TensorProto

    halves = {weight.name for weight in graph.initializer if weight.data_type == TensorProto.FLOAT16}
    outputs = {value.name for value in graph.output}
    idle = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in halves and node.output[0] not in outputs
        if node.attribute[0].i == TensorProto.FLOAT16
    }
    for node in graph.node:
        node.input[:] = [idle.get(name, name) for name in node.input]
    _replace_nodes(graph, [node for node in graph.node if node.output[0] not in idle])


def _keep_exact(graph: Any, floats: set[str]) -> None:
    """Casts around what must be computed, or must be given, in float32."""
    from onnx import TensorProto, helper

    weights = {weight.name for weight in graph.initializer if weight.data_type == TensorProto.FLOAT}
    nodes = []
    for number, node in enumerate(graph.node):
        exact = node.op_type in _EXACT_OPS
        for index, name in enumerate(node.input):
            if name in floats - weights and (exact or index in _FLOAT_ONLY.get(node.op_type, ())):
                node.input[index] = f"{name}.fp32.{number}"
                nodes.append(helper.make_node("Cast", [name], [node.input[index]], to=TensorProto.FLOAT))
        nodes.append(node)
        if exact:
            result = node.output[0]
            node.output[0] = f"{result}.fp32"
            nodes.append(helper.make_node("Cast", [node.output[0]], [result], to=TensorProto.FLOAT16))
    _replace_nodes(graph, nodes)


def _cast_ends(graph: Any, *, half_inputs: bool) -> None:
    """Float32 outputs, and float32 or float16 inputs, around the half precision inside."""
    from onnx import TensorProto, helper

    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    inputs = [value for value in inputs if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    outputs = [value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    inside = {} if half_inputs else {value.name: value.name + SUFFIX for value in inputs}
    inside |= {name: name + SUFFIX for name in outputs}
    for node in graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    first, last = [], []
    for value in inputs:
        if half_inputs:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        else:
            first.append(helper.make_node("Cast", [value.name], [value.name + SUFFIX], to=TensorProto.FLOAT16))
    for name in outputs:
        last.append(helper.make_node("Cast", [name + SUFFIX], [name], to=TensorProto.FLOAT))
    _replace_nodes(graph, [*first, *graph.node, *last])


def _uses(graph: Any) -> Iterator[tuple[Any, int, str]]:
    for node in graph.node:
        for index, name in enumerate(node.input):
            yield node, index, name


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
