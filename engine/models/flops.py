"""How many floating-point operations a network needs for one input, counted from its graph: a multiply-add is two.

Convolutions, matrix products and fully connected layers are counted; all else together is below a hundredth of that in the
networks that run here, and a roofline does not ask for more.
"""

from __future__ import annotations

import math
from typing import Any

from faceembed.engine.models.spec import Model
from faceembed.errors import ModelError


def count_flops(model: Model, *, size: tuple[int, int] | None = None) -> int:
    """Floating-point operations of one input.

    Args:
        model: the model on disk; of a file with several networks all are counted that take pictures of the size.
        size: height and width of the input; None for the spec's.

    Raises:
        ModelError: the file is not ONNX, or the sizes of its tensors do not follow from the input's.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(model.path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{model.path} is not a readable ONNX file ({error})") from error
    return sum(flops_by_layer(proto, size or model.spec.input_size, where=model.path).values())


def flops_by_layer(proto: Any, size: tuple[int, int], *, where: str) -> dict[str, int]:
    """Floating-point operations of one input, of each layer that is counted, by the name of its output.

    Args:
        proto: an ONNX ``ModelProto``; what is known of its shapes is overwritten.
        size: height and width of the input.
        where: what to call the graph in an error.

    Raises:
        ModelError: the sizes of its tensors do not follow from the input's.
    """
    import onnx

    height, width = size
    weights = {weight.name for weight in proto.graph.initializer}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in weights or len(dims) != 4:
            continue
        for dim, length in zip(dims, (1, 3, height, width), strict=True):
            dim.ClearField("dim_param")
            dim.dim_value = length
    for value in (*proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.ClearField("shape")  # with names for lengths that are now numbers
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    shapes = _shapes(inferred.graph)
    counted = {node.output[0]: _of_node(node, shapes, where) for node in inferred.graph.node if node.output}
    return {name: flops for name, flops in counted.items() if flops}


def _shapes(graph: Any) -> dict[str, list[int]]:
    shapes = {weight.name: list(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes


def _of_node(node: Any, shapes: dict[str, list[int]], where: str) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    given, weight, made = (shapes.get(name, []) for name in (node.input[0], node.input[1], node.output[0]))
    if not (given and weight and made) or 0 in (*given, *weight, *made):
        raise ModelError(f"{where}: the size of {node.op_type} '{node.name or node.output[0]}' is not known")
    if node.op_type == "Conv":  # weight (out, in / groups, kernel...)
        return 2 * math.prod(made) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight (in, out / groups, kernel...)
        return 2 * math.prod(given) * math.prod(weight[1:])
    inner = given[-1]
    if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        inner = given[0]
    return 2 * math.prod(made) * inner
