"""Frees the batch axis of a network that was exported for one picture.

    free_batch(proto)        # input and output may have any length; shapes noted inside are dropped
    mend_reshapes(proto)     # a Reshape to the constant (1, -1) becomes one that keeps its batch

Whether the result runs, and gives one row a picture, is for a trial to say (`trial`): a constant deeper inside may count on
the one picture in ways that no rule sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def free_batch(proto: Any) -> None:
    """Let the first axis of input and outputs be any length, and drop shapes noted for the fixed one; in place."""
    weights = {weight.name for weight in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name not in weights and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    del proto.graph.value_info[:]


def mend_reshapes(proto: Any) -> bool:
    """Let every Reshape of what comes from the input, to a constant shape that begins with 1, keep its first axis; in place.

    ONNX's Reshape copies an axis where the shape says 0 (and ``allowzero`` is 0, its default). With one picture nothing changes.

    Returns:
        Whether there was one.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    weights = {weight.name: weight for weight in graph.initializer}
    constants = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    fed = {value.name for value in graph.input if value.name not in weights}
    added = []
    for node in graph.node:
        if not fed.intersection(node.input):
            continue
        fed.update(node.output)
        tensor = weights.get(node.input[1], constants.get(node.input[1])) if node.op_type == "Reshape" else None
        if tensor is None or any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute):
            continue
        shape = numpy_helper.to_array(tensor)
        if node.input[0] in fed and shape.ndim == 1 and len(shape) > 1 and shape[0] == 1:
            name = f"{node.output[0]}.kept_batch"
            added.append(numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), name))
            node.input[1] = name  # the old shape may be another node's too
    graph.initializer.extend(added)
    if added and proto.ir_version < 4:  # before, every weight had to be a graph input too
        graph.input.extend(helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in added)
    return bool(added)
