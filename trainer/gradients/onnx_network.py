"""An encoder's ONNX graph as a PyTorch module, for gradients: any encoder that the engine runs has them.

    network = OnnxNetwork(resolve("faceembed-r29", task="encoder"))
    embeddings = network(chips)  # differentiable

It computes in fp32, whatever the file is in: half precision weights are widened and casts between kinds of floats do nothing, so
gradients are those of the exact function. What an operator means is in `onnx_ops`; one that is not known there is refused when the
file is opened, and so is a graph that fails on a trial batch. Nothing is approximated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.frontend import read_graph
from faceembed.errors import ModelError
from faceembed.trainer.gradients.onnx_attributes import Attributes, Refusal
from faceembed.trainer.gradients.onnx_ops import OPERATORS

_OLDEST_OPSET = 7  # before it, operators broadcast and drop out in other ways
_TRIAL = 2  # chips; one would not show a graph made for batches of one


@dataclasses.dataclass(frozen=True)
class _Step:
    """One node of the graph."""

    label: str
    """For messages."""
    compute: Callable[..., Tensor]
    inputs: tuple[str, ...]
    """Names; empty for an optional input that is not given."""
    output: str
    last: tuple[str, ...]
    """Values that no later step reads."""


class OnnxGraph(nn.Module):
    """A graph of one input and one output. The weights are buffers: `to` and `double` move and convert them, nothing trains them.

    Args:
        proto: an ONNX ``ModelProto``.
        file: where it was read, for messages and for weights that lie beside it.

    Raises:
        ModelError: an operator or attribute that is not known here, or a damaged graph.
    """

    def __init__(self, proto: Any, file: Path) -> None:
        super().__init__()
        self._file = file
        self._opset = self._read_opset(proto)
        self._weights: dict[str, str] = {}  # value to the name of its buffer
        self._numbers: dict[str, Tensor] = {}  # whole numbers (shapes, axes), always on the CPU
        for weight in proto.graph.initializer:
            self._keep(weight.name, weight)
        nodes = [node for node in proto.graph.node if not self._constant(node)]
        constant = {*self._weights, *self._numbers}
        self._input = self._one("input", [value.name for value in proto.graph.input if value.name not in constant])
        self._output = self._one("output", [value.name for value in proto.graph.output])
        self._steps = self._plan(nodes)

    def forward(self, x: Tensor) -> Tensor:
        """The input's value to the output's."""
        values = self._start(x)
        for step in self._steps:
            self._advance(step, values)
        return values[self._output]

    def _start(self, x: Tensor) -> dict[str, Tensor]:
        weights = {name: self.get_buffer(buffer) for name, buffer in self._weights.items()}
        return {**self._numbers, **weights, self._input: x}

    @staticmethod
    def _advance(step: _Step, values: dict[str, Tensor]) -> None:
        values[step.output] = step.compute(*(values[name] if name else None for name in step.inputs))
        for name in step.last:
            del values[name]

    def _read_opset(self, proto: Any) -> int:
        versions = {opset.domain: opset.version for opset in proto.opset_import}
        opset = int(versions.get("", versions.get("ai.onnx", 0)))
        if opset < _OLDEST_OPSET:
            raise self._refused(f"opset {opset} is older than {_OLDEST_OPSET}")
        return opset

    def _one(self, what: str, names: list[str]) -> str:
        if len(names) != 1:
            raise self._refused(f"it has {len(names)} {what}s ({', '.join(names)}), expected one")
        return names[0]

    def _keep(self, name: str, tensor: Any) -> None:
        """Take a ``TensorProto`` of the file: floats as a buffer, whole numbers as they are."""
        from onnx import numpy_helper

        try:
            values = torch.from_numpy(_known_kind(numpy_helper.to_array(tensor, str(self._file.parent))))
        except (ValueError, TypeError) as error:
            raise self._refused(f"constant '{name}' cannot be read ({error})") from error
        if values.is_floating_point():
            self._weights[name] = f"weight_{len(self._weights)}"
            self.register_buffer(self._weights[name], values)
        else:
            self._numbers[name] = values

    def _constant(self, node: Any) -> bool:
        """Whether a node is a ``Constant``, which is then kept."""
        from onnx import helper, numpy_helper

        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            return False
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        if attribute.name in ("value_float", "value_floats"):
            value = numpy_helper.from_array(np.asarray(value, np.float32))
        elif attribute.name in ("value_int", "value_ints"):
            value = numpy_helper.from_array(np.asarray(value, np.int64))
        elif attribute.name != "value":
            raise self._refused(f"{_label(node)}: attribute '{attribute.name}' is not known")
        self._keep(node.output[0], value)
        return True

    def _plan(self, nodes: list[Any]) -> list[_Step]:
        """The steps in order, each with what can be forgotten after it."""
        known = {self._input, *self._weights, *self._numbers}
        readers = {name: number for number, node in enumerate(nodes) for name in node.input if name}
        steps = []
        for number, node in enumerate(nodes):
            if missing := [name for name in node.input if name and name not in known]:
                raise self._refused(f"{_label(node)} reads '{missing[0]}', which nothing before it makes")
            output, *others = node.output
            if used := [name for name in others if name in readers or name == self._output]:
                raise self._refused(f"{_label(node)}: its further output '{used[0]}' is not known")
            known.add(output)
            last = {name for name in (*node.input, output) if name and readers.get(name, number) == number}
            kept = tuple(sorted(last - {self._output}))
            steps.append(_Step(_label(node), self._compute(node), tuple(node.input), output, kept))
        if self._output not in known:
            raise self._refused(f"nothing makes its output '{self._output}'")
        return steps

    def _compute(self, node: Any) -> Callable[..., Tensor]:
        from onnx import helper

        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise self._refused(f"{_label(node)}: this operator is not known")
        found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        attributes = Attributes(found, self._opset, len(node.input))
        try:
            compute = OPERATORS[node.op_type](attributes)
            attributes.finish()
        except Refusal as error:
            raise self._refused(f"{_label(node)}: {error}") from error
        return compute

    def _refused(self, reason: str) -> ModelError:
        return ModelError(f"{self._file.name} cannot run in PyTorch, which gradients need: {reason}")


class OnnxNetwork(OnnxGraph):
    """An encoder's graph: float chips (N, 3, H, W), preprocessed as the spec says, to raw embeddings (N, D).

    Args:
        model: an encoder.

    Raises:
        ModelError: as `OnnxGraph`, or it does not take batches, or gives other embeddings than its spec says.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(read_graph(model), Path(model.path))
        self._try(model.spec)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, D)."""
        return super().forward(x).flatten(1)

    def _try(self, spec: ModelSpec) -> None:
        """Compute a batch of nothing, so that what only shapes tell is found when the file is opened."""
        values = self._start(torch.zeros(_TRIAL, 3, *spec.input_size))
        with torch.no_grad():
            for step in self._steps:
                try:
                    self._advance(step, values)
                except Exception as error:  # whatever PyTorch raises: a file is data, and any graph can come
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise self._refused(f"{step.label}: {reason}") from error
        shape = tuple(values[self._output].flatten(1).shape)
        if shape != (_TRIAL, spec.dimension):
            raise self._refused(f"{_TRIAL} chips give {shape}, expected {(_TRIAL, spec.dimension)}")


def _known_kind(values: Any) -> Any:
    """Floats of any precision as float32, as an array that PyTorch takes."""
    if values.dtype.kind in "iub":
        return np.array(values)
    return np.array(values, np.float32)


def _label(node: Any) -> str:
    return f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}'"
