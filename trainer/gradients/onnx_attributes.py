"""What a node of an ONNX graph says beside its inputs, and how one that cannot be computed exactly is refused.

    attributes = Attributes({"axis": 1}, opset=18, inputs=1)
    axis = attributes.take("axis", 0)
    attributes.finish()

Knows no operator: those are in `onnx_ops` and `onnx_windows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Compute = Callable[..., Tensor]


class Refusal(Exception):
    """Why a node cannot be computed exactly."""


class Attributes:
    """A node's attributes, each of which must be asked for: one that nobody knows could change what is computed.

    Args:
        values: by name.
        opset: of the file.
        inputs: how many the node has, the empty ones among them.
    """

    def __init__(self, values: Mapping[str, Any], opset: int, inputs: int) -> None:
        self._values = dict(values)
        self.opset = opset
        self.inputs = inputs

    def take(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        value = self._values.pop(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def ignore(self, *names: str) -> None:
        """Attributes that change nothing here."""
        for name in names:
            self._values.pop(name, None)

    def need(self, name: str, value: Any) -> None:
        """Refuse an attribute that has another value than the usual one."""
        if (found := self.take(name, value)) != value:
            raise Refusal(f"attribute '{name}' is {found}; only {value} is known")

    def finish(self) -> None:
        """Refuse what nobody has asked for."""
        if self._values:
            raise Refusal(f"attribute '{min(self._values)}' is not known")
