"""Puts a model's pixel preprocessing into its graph, once, so that every runtime takes the same uint8 pixels.

A session's input is uint8 RGB in NHWC. The front end turns it into what the `ModelSpec` promises the network:
float32 NCHW, channels in the spec's order, ``(pixel - mean) * scale``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from faceembed.engine.errors import ModelError
from faceembed.engine.models.spec import Model

PIXELS = "pixels"


def with_pixel_input(model: Model, outputs: Sequence[str] = ()) -> bytes:
    """The model's ONNX bytes with a uint8 NHWC RGB input called ``pixels``.

    Args:
        model: the model on disk.
        outputs: names of the outputs to keep, for a file that holds several networks; empty keeps the whole graph.

    Raises:
        ModelError: the file is not ONNX, or has no such output, or more than one input.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(model.path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{model.path} is not a readable ONNX file ({error})") from error
    if outputs:
        proto = _cut(proto, outputs, model)
    _prepend(proto, model)
    data: bytes = proto.SerializeToString()
    return data


def _cut(proto: Any, outputs: Sequence[str], model: Model) -> Any:
    """Keep the nodes that ``outputs`` depend on, and the inputs of those."""
    from onnx import helper

    graph = proto.graph
    makers = {name: node for node in graph.node for name in node.output}
    if missing := [name for name in outputs if name not in makers]:
        raise ModelError(f"{model.path} has no output '{missing[0]}'; is it a '{model.spec.name}' file?")
    wanted, reached = list(outputs), set()
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted.extend(makers[name].input if name in makers else ())
    cut = helper.make_graph(
        [node for node in graph.node if reached.intersection(node.output)],
        graph.name,
        [value for value in graph.input if value.name in reached],
        [value for name in outputs for value in graph.output if value.name == name],
        [weight for weight in graph.initializer if weight.name in reached],
    )
    result = helper.make_model(cut, opset_imports=proto.opset_import)
    result.ir_version = proto.ir_version
    return result


def _prepend(proto: Any, model: Model) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph, spec = proto.graph, model.spec
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{model.path} has {len(inputs)} inputs, expected one; cut it before importing")
    old = inputs[0]
    dims = [dim.dim_param or dim.dim_value for dim in old.type.tensor_type.shape.dim]
    if len(dims) != 4 or (dims[1] not in (3, 0) and not isinstance(dims[1], str)):
        raise ModelError(f"{model.path} takes an input of shape {dims}; expected (N, 3, H, W)")
    prefix = "frontend."
    floats = {
        "mean": np.array(spec.mean, np.float32).reshape(1, 3, 1, 1),
        "scale": np.array(spec.scale, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(array, prefix + name) for name, array in floats.items())
    nodes = [
        helper.make_node("Cast", [PIXELS], [prefix + "float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [prefix + "float"], [prefix + "nchw"], perm=[0, 3, 1, 2]),
    ]
    last = prefix + "nchw"
    if spec.colour == "bgr":
        graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), prefix + "bgr"))
        nodes.append(helper.make_node("Gather", [last, prefix + "bgr"], [prefix + "swapped"], axis=1))
        last = prefix + "swapped"
    nodes += [
        helper.make_node("Sub", [last, prefix + "mean"], [prefix + "centred"]),
        helper.make_node("Mul", [prefix + "centred", prefix + "scale"], [old.name]),
    ]
    graph.input.remove(old)
    graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["N", *(dims[2:]), 3]))
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)
