"""Puts a model's pixel preprocessing into its graph, once, so that every runtime takes the same uint8 pixels.

A session's input is uint8 RGB in NHWC. The front end turns it into what the `ModelSpec` promises the network:
float32 NCHW, channels in the spec's order, ``(pixel - mean) * scale``. On a card, chips come from a kernel that has done this
already: their front end only makes float16 what the network takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.float_weights import settle
from faceembed.engine.models.fp16 import to_fp16, to_fp32
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.base import Entry
from faceembed.errors import ModelError

PIXELS = "pixels"
CHIPS = "chips.fp16"


def with_pixel_input(model: Model, outputs: Sequence[str] = ()) -> bytes:
    """The model's ONNX bytes with a uint8 NHWC RGB input called ``pixels``.

    Args:
        model: the model on disk.
        outputs: names of the outputs to keep, for a file that holds several networks; empty keeps the whole graph.

    Raises:
        ModelError: the file is not ONNX, or has no such output, or more than one input.
    """
    return with_entry(model, "pixels", outputs=outputs)


def with_entry(
    model: Model, entry: Entry, *, outputs: Sequence[str] = (), half: bool = False, proto: Any = None
) -> bytes:
    """The model's ONNX bytes with an input of either kind: `PIXELS`, or `CHIPS` (float16 NCHW, normalised).

    Args:
        model: the model on disk.
        entry: which input.
        outputs: as for `with_pixel_input`.
        half: compute in half precision; the normalisation of pixels stays float32.
        proto: the model's graph, to use in place of its file.

    Raises:
        ModelError: as `with_pixel_input`, or weights that half precision does not hold.
    """
    proto = read_graph(model) if proto is None else proto
    if outputs:
        proto = cut(proto, outputs, model)
    if half:
        to_fp16(proto, half_inputs=entry == "chips")
    if entry == "pixels":
        _prepend(proto, model)
    else:
        _take_chips(proto, model)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def read_graph(model: Model) -> Any:
    """A model's ONNX ``ModelProto``, in float32 also where the file is half precision or holds weights as whole numbers.

    Raises:
        ModelError: the file is not ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(model.path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{model.path} is not a readable ONNX file ({error})") from error
    settle(proto)
    to_fp32(proto)
    return proto


def normalise(pixels: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float16]:
    """What `CHIPS` takes, made of pixels on the host: for the parity gate and for tools, where no kernel wrote it.

    Args:
        pixels: uint8 RGB (N, H, W, 3).
        spec: colour order, mean and scale.

    Returns:
        float16 (N, 3, H, W).
    """
    planes = pixels.transpose(0, 3, 1, 2)[:, :: -1 if spec.colour == "bgr" else 1]
    mean = np.array(spec.mean, np.float32).reshape(1, 3, 1, 1)
    return np.ascontiguousarray((planes - mean) * np.float32(spec.scale), np.float16)


def cut(proto: Any, outputs: Sequence[str], model: Model) -> Any:
    """A graph with the nodes that ``outputs`` depend on, and the inputs of those.

    Raises:
        ModelError: there is no such output.
    """
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
    old, dims = input_of(proto, model)
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


def _take_chips(proto: Any, model: Model) -> None:
    from onnx import TensorProto, helper

    graph = proto.graph
    old, dims = input_of(proto, model)
    kind = old.type.tensor_type.elem_type
    if kind == TensorProto.FLOAT16:
        for node in graph.node:
            node.input[:] = [CHIPS if name == old.name else name for name in node.input]
    else:
        graph.node.insert(0, helper.make_node("Cast", [CHIPS], [old.name], to=kind))
    graph.input.remove(old)
    graph.input.append(helper.make_tensor_value_info(CHIPS, TensorProto.FLOAT16, ["N", *dims[1:]]))


def input_of(proto: Any, model: Model) -> tuple[Any, list[Any]]:
    """The network's one input and its shape: numbers, and names of what is free.

    Raises:
        ModelError: more than one input, or none of three channels.
    """
    graph = proto.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{model.path} has {len(inputs)} inputs, expected one; cut it before importing")
    dims = [dim.dim_param or dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4 or (dims[1] not in (3, 0) and not isinstance(dims[1], str)):
        raise ModelError(f"{model.path} takes an input of shape {dims}; expected (N, 3, H, W)")
    return inputs[0], dims
