"""Pixels as OpenVINO's first convolution wants them, made by native code in place of four operations of the graph.

A first convolution that strides by s over three channels is one with stride 1 over blocks of s x s pixels, 3 s s channels: the same sums,
of which a processor's matrix units can use the width. With what else goes (a change of layout, a cast, the normalisation, another change of
layout) the first look of `faceembed-align` takes 210 us in place of 280, and 115 where its shape is fixed (`steady`); one core, BF16 (AMX),
8 canvases of 160x160. In INT8 with fixed shapes, which costs accuracy, it was 197 on another machine.

Networks whose first layer is none of this kind, or does not stand alone, keep the input of `frontend`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.runtimes.frontend import cut, input_of, read_graph

PACKED = "packed"
_STEPS = (2, 4, 8)
_CAST_OPSET = 13  # the first whose Cast knows bfloat16


@dataclasses.dataclass(frozen=True)
class Packing:
    """How pixels are packed."""

    step: int
    mean: tuple[float, float, float]
    """Of red, green and blue."""
    scale: float
    half: bool
    """In bfloat16, else in float32."""

    def pack(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 RGB (N, H, W, 3), H and W multiples of `step`, as `_native.pack` gives them."""
        mean = np.array(self.mean, np.float32)
        return _native.pack(np.ascontiguousarray(pixels), self.step, mean, self.scale, half=self.half)

    def packed_shape(self, shape: Sequence[int]) -> list[int]:
        """The shape of packed pixels of shape (N, H, W, 3)."""
        return [shape[0], shape[1] // self.step, shape[2] // self.step, 3 * self.step**2]


def with_packed_input(model: Model, outputs: Sequence[str] = (), *, half: bool) -> tuple[bytes, Packing] | None:
    """The model's ONNX bytes with an input called ``packed``, and what it takes; None where the network does not begin so.

    Args:
        model: the model on disk.
        outputs: as for `with_pixel_input`.
        half: take bfloat16 where the graph can say so.

    Raises:
        ModelError: as `with_pixel_input`.
    """
    from onnx import TensorProto, helper, numpy_helper

    proto, spec = read_graph(model), model.spec
    if outputs:
        proto = cut(proto, outputs, model)
    graph = proto.graph
    old, dims = input_of(proto, model)
    weights = _weights(graph)
    readers = [node for node in graph.node if old.name in node.input]
    steps = {_step(node, old.name, weights) for node in readers}
    step = steps.pop() if len(steps) == 1 else 0
    if not step or not _divides(step, dims, model):
        return None
    made = []
    for node in readers:
        weight = np.asarray(numpy_helper.to_array(weights[node.input[1]]), np.float32)
        packed = _packed(weight[:, ::-1] if spec.colour == "bgr" else weight, _pads(node), step)
        if packed is None:
            return None
        made.append(packed)
    for node, (values, pads) in zip(readers, made, strict=True):
        name = f"{node.input[1]}.packed"
        graph.initializer.append(numpy_helper.from_array(values, name))
        given = [f"{PACKED}.nchw", name, *node.input[2:]]
        how = {"kernel_shape": values.shape[2:], "strides": [1, 1], "pads": pads}
        node.CopyFrom(helper.make_node("Conv", given, list(node.output), name=node.name, **how))
    version = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    half = half and version >= _CAST_OPSET
    sides = [dim // step if isinstance(dim, int) and dim else name for dim, name in zip(dims[2:], "hw", strict=True)]
    graph.input.remove(old)
    kind = TensorProto.BFLOAT16 if half else TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info(PACKED, kind, ["N", *sides, 3 * step**2]))
    graph.node.insert(0, helper.make_node("Cast", [PACKED], [f"{PACKED}.float"], to=TensorProto.FLOAT))
    graph.node.insert(1, helper.make_node("Transpose", [f"{PACKED}.float"], [f"{PACKED}.nchw"], perm=[0, 3, 1, 2]))
    red, green, blue = spec.mean[:: -1 if spec.colour == "bgr" else 1]
    return proto.SerializeToString(deterministic=True), Packing(step, (red, green, blue), spec.scale, half)


def _weights(graph: Any) -> dict[str, Any]:
    """The constant tensors of a graph by name, those behind a cast too, whose float32 values are the same."""
    found = {weight.name: weight for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _step(node: Any, name: str, weights: dict[str, Any]) -> int:
    """The stride of a convolution over the input ``name``, if it can be one over blocks; else 0."""
    from onnx import helper

    if node.op_type != "Conv" or node.input[0] != name or node.input[1] not in weights:
        return 0
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    dims = weights[node.input[1]].dims
    plain = values.get("auto_pad", b"NOTSET") == b"NOTSET" and values.get("group", 1) == 1
    if not plain or len(dims) != 4 or dims[1] != 3 or set(values.get("dilations", [1])) != {1}:
        return 0
    strides = set(values.get("strides", [1]))
    step = int(strides.pop()) if len(strides) == 1 else 0
    return step if step in _STEPS else 0


def _pads(node: Any) -> list[int]:
    """Rows above, columns left, rows below, columns right."""
    from onnx import helper

    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return list(values.get("pads", [0, 0, 0, 0]))


def _divides(step: int, dims: Sequence[int | str], model: Model) -> bool:
    """Whether the sides of all inputs are multiples of a step. Aligners whose sides are free take multiples of 32."""
    sides = [dim for dim in dims[2:] if isinstance(dim, int) and dim]
    if len(sides) < 2 and model.spec.task == "encoder":
        sides = list(model.spec.input_size)
    return all(side % step == 0 for side in sides)


def _packed(
    weight: NDArray[np.float32], pads: Sequence[int], step: int
) -> tuple[NDArray[np.float32], list[int]] | None:
    """Weights over blocks, and pads in blocks; None where these would be negative."""
    (top, rows, above, below), (left, columns, before, behind) = (
        _axis(weight.shape[2 + axis], pads[axis], pads[2 + axis], step) for axis in (0, 1)
    )
    if below < 0 or behind < 0:
        return None
    count, channels, height, width = weight.shape
    large = np.zeros((count, channels, rows * step, columns * step), np.float32)
    large[:, :, top : top + height, left : left + width] = weight
    blocks = large.reshape(count, channels, rows, step, columns, step).transpose(0, 3, 5, 1, 2, 4)
    packed = np.ascontiguousarray(blocks.reshape(count, channels * step**2, rows, columns))
    return packed, [above, before, below, behind]


def _axis(size: int, before: int, behind: int, step: int) -> tuple[int, int, int, int]:
    """Along one axis: where the kernel begins in its blocks, how many blocks it covers, and pads in blocks.

    A kernel that begins ``before`` pixels outside begins ``ceil(before / step)`` blocks outside, and as many pixels later in these.
    """
    lead = -before % step
    blocks = -(-(size + lead) // step)
    outside = (before + lead) // step
    return lead, blocks, outside, (before + behind - size) // step - outside + blocks
