"""Cuts an OpenVINO model in two behind its first layers, so that these compute in fp32 and the rest in BF16.

The first layers see pixels, and what they round goes through everything after them: of EdgeFace's embeddings the smallest cosine with
fp32 rises from 0.995 to 0.999 with one layer of 61 kept exact.

Two compiled models, not one with marked nodes: OpenVINO 2026.4's CPU plugin does honour a mark (the ``precise`` attribute of an
IR file; Python cannot set it), but its fusions lose it. With all of EdgeFace's nodes marked the rms error fell from 0.045 to 0.034, with one
layer in a model of its own to 0.033.
"""

from __future__ import annotations

from typing import Any

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
_SHAPES_ONLY = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def cut_behind(openvino: Any, model: Any, layers: int) -> tuple[Any, Any] | None:
    """Cut a model where everything goes through one tensor.

    Args:
        openvino: the library, which `runtimes.openvino` alone imports.
        model: an ``openvino.Model`` of one input; it becomes the second part.
        layers: how many layers with weights the first part has.

    Returns:
        Both parts; None where there are no so many layers, or more than one tensor goes from them to the rest. The model is of no
        use then.
    """
    weighted = [node for node in model.get_ordered_ops() if node.get_type_name() in _WEIGHTED]
    if len(weighted) <= layers:
        return None
    border = weighted[layers].input(0).get_source_output()
    while border.get_node().get_type_name() in _SHAPES_ONLY:
        border = border.get_node().input(0).get_source_output()
    if border.get_element_type() != openvino.Type.f32:
        return None
    first = openvino.Model([openvino.opset8.result(border)], model.get_parameters()).clone()
    between = openvino.opset8.parameter(border.get_partial_shape(), openvino.Type.f32)
    for target in list(border.get_target_inputs()):
        target.replace_source_output(between.output(0))
    try:
        return first, openvino.Model(model.get_results(), [between])
    except RuntimeError:  # something else of the first part is read by the rest
        return None
