"""Aligners of kind `scrfd`: InsightFace's SCRFD with five points, any of its sizes, for any batch and any picture.

    data = rewrite(Path("det_10g.onnx"))           # scrfd_500m_bnkps.onnx, scrfd_2.5g_bnkps.onnx, ...

The network (https://arxiv.org/abs/2105.04714) is fully convolutional, yet its files take one picture at a time, some of one size, because
its answers are flattened at the end, and the pyramid is enlarged to sizes that are computed or written down. The end is cut off here,
and the pyramid is enlarged by two: what the last convolutions say is kept as it is, one output a stride, (N, 30, H/stride, W/stride), for
two anchors a cell the score as a logit, the box in four numbers, five points in ten. `detect.anchored` reads them. Files differ in the
names of their outputs: these are told apart by how many numbers each gives, and their strides by their order.

Pixels: insightface model_zoo/scrfd.py, RGB, (value - 127.5) / 128.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from faceembed.engine.models.graph import lowered
from faceembed.engine.models.oneshot import OUTPUTS, STRIDES
from faceembed.engine.models.onnx_file import load_onnx
from faceembed.engine.models.refiner import add_refiner
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError

ANCHORS = 2
CHANNELS = ANCHORS * (1 + 4 + 10)
SPEC = ModelSpec(
    name="scrfd",
    task="aligner",
    input_size=(0, 0),
    colour="rgb",
    mean=(127.5, 127.5, 127.5),
    scale=1 / 128,
    decoder="scrfd",
    min_score=0.5,
    min_score_source="insightface's own det_thresh; not measured here",
    licence="non-commercial research only (InsightFace model zoo)",
    source="https://github.com/deepinsight/insightface/tree/master/detection/scrfd",
)
"""Of every file that `rewrite` made; name and source are the file's."""
_FLATTENING = ("Reshape", "Sigmoid", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity")


def rewrite(path: Path) -> bytes:
    """The network of a SCRFD file, for any batch and any size that is a multiple of 32.

    Args:
        path: an ONNX file of SCRFD with five points, of any input size.

    Raises:
        ModelError: not readable, not that network, or one without points; one line that says why.
    """
    proto, _ = load_onnx(path)
    graph = proto.graph
    weights = {weight.name: weight for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ModelError(f"{path} is not SCRFD: it has {len(inputs)} inputs, expected one: pixels (1, 3, H, W)")
    makers = {name: node for node in graph.node for name in node.output}
    answers = _answers(path, proto, makers)
    _enlarge_by_two(graph)
    _cut(proto, makers, answers)
    for place, name in ((0, "N"), (2, "H"), (3, "W")):
        inputs[0].type.tensor_type.shape.dim[place].dim_param = name
    lowered(proto)
    add_refiner(proto, colour=SPEC.colour, mean=SPEC.mean, scale=SPEC.scale)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _answers(path: Path, proto: Any, makers: dict[str, Any]) -> dict[int, list[str]]:
    """For scores, boxes and points (1, 4 and 10 numbers), what the last convolutions of each stride say."""
    found: dict[int, list[str]] = {1: [], 4: [], 10: []}
    for output in proto.graph.output:
        shape = output.type.tensor_type.shape.dim
        count = shape[-1].dim_value if shape else 0
        if count not in found:
            raise ModelError(f"{path} is not SCRFD: its output '{output.name}' gives {count or '?'} numbers a place")
        name = output.name
        while (node := makers.get(name)) is not None and node.op_type in _FLATTENING:
            name = node.input[0]
        found[count].append(name)
    counts = [len(names) for names in found.values()]
    if counts == [3, 3, 0]:
        raise ModelError(f"{path} is SCRFD without five points, by which faces are aligned; take a file named 'bnkps'")
    if counts != [3, 3, 3]:
        raise ModelError(
            f"{path} is not SCRFD with three strides: it has {counts[0]} outputs of scores, {counts[1]} of boxes, {counts[2]} of points"
        )
    return found


def _enlarge_by_two(graph: Any) -> None:
    """Let the pyramid be enlarged by two instead of to sizes that were written down or are computed."""
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "enlarged.by"))
    for node in graph.node:
        if node.op_type in ("Resize", "Upsample"):
            node.op_type = "Resize"
            node.input[:] = [node.input[0], "", "enlarged.by"]


def _cut(proto: Any, makers: dict[str, Any], answers: dict[int, list[str]]) -> None:
    """Let the graph end with the answers, all of a stride in one output."""
    from onnx import TensorProto, helper

    graph = proto.graph
    ends = [
        helper.make_node("Concat", [answers[count][level] for count in (1, 4, 10)], [output], axis=1)
        for level, output in enumerate(OUTPUTS)
    ]
    wanted = [name for end in ends for name in end.input]
    reached: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name and name not in reached:
            reached.add(name)
            wanted.extend(makers[name].input if name in makers else ())
    kept = [node for node in graph.node if reached.intersection(node.output)]
    read = [weight for weight in graph.initializer if weight.name in reached]
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, f"H/{stride}", f"W/{stride}"])
        for name, stride in zip(OUTPUTS, STRIDES, strict=True)
    ]
    for field, entries in ((graph.node, [*kept, *ends]), (graph.initializer, read), (graph.output, shapes)):
        del field[:]
        field.extend(entries)
    del graph.value_info[:]
