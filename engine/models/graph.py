"""A small writer of ONNX graphs, for the importers: each method adds one node and returns the name of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8  # what ONNX Runtime 1.17 and OpenVINO 2024 read, and everything newer


class GraphWriter:
    """Collects nodes and weights, then serialises them.

    Example:
        writer = GraphWriter("net")
        x = writer.input("chips", ["N", 3, 150, 150])
        x = writer.conv(x, weight, bias, stride=2)
        writer.output(x, "embedding", ["N", 32, 74, 74])
        data = writer.serialise()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """Declare a float32 input; a string in ``shape`` is a free axis."""
        from onnx import TensorProto, helper

        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def output(self, x: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare ``x`` as the float32 output called ``name``."""
        from onnx import TensorProto, helper

        self._nodes.append(helper.make_node("Identity", [x], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add any node with one output."""
        from onnx import helper

        out = f"{self._name}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attributes))
        return out

    def constant(self, values: NDArray[Any]) -> str:
        """Add an initialiser."""
        from onnx import numpy_helper

        name = f"{self._name}.w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def conv(self, x: str, weight: NDArray[Any], bias: NDArray[Any], *, stride: int = 1, pad: int = 0) -> str:
        """A convolution; ``weight`` is (out, in, height, width)."""
        inputs = [x, self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32))]
        return self.node(
            "Conv", inputs, kernel_shape=list(weight.shape[2:]), strides=[stride, stride], pads=[pad, pad, pad, pad]
        )

    def include(self, proto: Any, prefix: str, x: str) -> str:
        """Take in another network of one input and one output, its names behind ``prefix``, and feed it with ``x``.

        Args:
            proto: an ONNX ``ModelProto`` of this operator set; it stays as it is.
            prefix: what sets its names apart from all others.
            x: what it gets.

        Returns:
            The name of its output.
        """
        weights = {weight.name for weight in proto.graph.initializer}
        (given,) = [value.name for value in proto.graph.input if value.name not in weights]
        (result,) = [value.name for value in proto.graph.output]

        def called(name: str) -> str:
            return (x if name == given else prefix + name) if name else name

        for node in proto.graph.node:
            copy = type(node).FromString(node.SerializeToString())
            copy.name = prefix + node.name if node.name else ""
            copy.input[:] = [called(name) for name in node.input]
            copy.output[:] = [called(name) for name in node.output]
            self._nodes.append(copy)
        for weight in proto.graph.initializer:
            copy = type(weight).FromString(weight.SerializeToString())
            copy.name = prefix + weight.name
            self._weights.append(copy)
        return called(result)

    def serialise(self) -> bytes:
        """The checked model as bytes, the same for the same weights on every machine.

        Raises:
            onnx.checker.ValidationError: the graph is not valid ONNX (a defect of the importer).
        """
        import onnx
        from onnx import helper

        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._weights)
        model = helper.make_model(graph, producer_name="faceembed", opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def lowered(proto: Any) -> Any:
    """A network of a newer operator set, said to be of ours; in place. For one whose nodes mean the same in both.

    Raises:
        onnx.checker.ValidationError: our operator set does not have one of its nodes in this form.
    """
    import onnx

    for entry in proto.opset_import:
        if entry.domain == "":
            entry.version = OPSET
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    return proto
