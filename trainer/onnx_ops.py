"""What each ONNX operator means, in PyTorch: a table from an operator's name to what makes its function.

    compute = OPERATORS["Relu"](Attributes({}, opset=18, inputs=1))
    compute(x)

Each maker takes a node's attributes and gives a function of its inputs (None: an optional one that is not given). It raises
`Refusal` for what it cannot do exactly. The operators are those of https://onnx.ai/onnx/operators, opset 7 and later, inference only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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


def _plain(function: Compute) -> Callable[[Attributes], Compute]:
    """An operator without attributes."""
    return lambda attributes: function


# ------------------------------------------------------------------------------------------------ windows over the picture


class _Windows:
    """What convolutions and pools share: how a picture is padded, and where the windows stand on it."""

    def __init__(self, attributes: Attributes) -> None:
        self.size = attributes.take("kernel_shape")
        sides = len(self.size) if self.size else 2
        if sides != 2:
            raise Refusal(f"windows over {sides} axes; only pictures, with 2, are known")
        self.strides = attributes.take("strides", [1, 1])
        self.dilations = attributes.take("dilations", [1, 1])
        self._pads = attributes.take("pads", [0, 0, 0, 0])  # top, left, bottom, right
        self._auto = attributes.take("auto_pad", "NOTSET")
        self.ceil = bool(attributes.take("ceil_mode", 0))
        if self._auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise Refusal(f"attribute 'auto_pad' is {self._auto}")
        if self.ceil and self._auto != "NOTSET":
            raise Refusal(f"attribute 'ceil_mode' with auto_pad {self._auto}")

    def pad(self, x: Tensor, size: list[int], value: float = 0.0) -> Tensor:
        """(N, C, H, W) with its margins, of ``value``."""
        (top, bottom), (left, right) = (self._margins(x.shape[2 + axis], size[axis], axis) for axis in (0, 1))
        return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x

    def _margins(self, side: int, window: int, axis: int) -> tuple[int, int]:
        stride, reach = self.strides[axis], self.dilations[axis] * (window - 1) + 1
        if self._auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max((math.ceil(side / stride) - 1) * stride + reach - side, 0)
            less, more = total // 2, total - total // 2
            return (less, more) if self._auto == "SAME_UPPER" else (more, less)
        if self._auto == "VALID":
            return 0, 0
        before, after = self._pads[axis], self._pads[2 + axis]
        if self.ceil:
            count = math.ceil((side + before + after - reach) / stride) + 1
            if (count - 1) * stride >= side + before:  # a window that would start in the margin is left out
                count -= 1
            after = max(after, (count - 1) * stride + reach - side - before)
        return before, after


def _conv(attributes: Attributes) -> Compute:
    windows, groups = _Windows(attributes), attributes.take("group", 1)

    def compute(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        size = list(weight.shape[2:])
        if len(size) != 2 or windows.size not in (None, size):
            raise Refusal(f"a weight of shape {tuple(weight.shape)} with kernel_shape {windows.size}")
        return F.conv2d(windows.pad(x, size), weight, bias, windows.strides, 0, windows.dilations, groups)

    return compute


def _max_pool(attributes: Attributes) -> Compute:
    attributes.need("storage_order", 0)
    windows = _Windows(attributes)

    def compute(x: Tensor) -> Tensor:
        padded = windows.pad(x, windows.size, -math.inf)
        return F.max_pool2d(padded, windows.size, windows.strides, 0, windows.dilations)

    return compute


def _average_pool(attributes: Attributes) -> Compute:
    attributes.need("ceil_mode", 0)
    attributes.need("dilations", [1, 1])
    windows, whole = _Windows(attributes), bool(attributes.take("count_include_pad", 0))

    def compute(x: Tensor) -> Tensor:
        mean = F.avg_pool2d(windows.pad(x, windows.size), windows.size, windows.strides)
        if whole:
            return mean
        inside = windows.pad(torch.ones_like(x[:1, :1]), windows.size)
        return mean / F.avg_pool2d(inside, windows.size, windows.strides)

    return compute


def _batch_normalization(attributes: Attributes) -> Compute:
    attributes.need("spatial", 1)
    attributes.need("training_mode", 0)
    attributes.ignore("momentum")
    epsilon = attributes.take("epsilon", 1e-5)
    return lambda x, scale, bias, mean, variance: F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


# ------------------------------------------------------------------------------------------------------------ element by element


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _clip(attributes: Attributes) -> Compute:
    below, above = attributes.take("min"), attributes.take("max")

    def compute(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        lows, highs = (below, above) if attributes.opset < 11 else (low, high)
        return x if lows is None and highs is None else torch.clamp(x, lows, highs)

    return compute


def _cast(attributes: Attributes) -> Compute:
    from onnx import TensorProto

    to = attributes.take("to")
    attributes.ignore("saturate", "round_mode")  # of 8-bit floats, which are refused
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    whole = {TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64}
    if to not in floats and to not in whole:
        raise Refusal(f"a cast to {TensorProto.DataType.Name(to).lower()}")

    def compute(x: Tensor) -> Tensor:
        if x.is_floating_point() != (to in floats):
            raise Refusal("a cast between whole numbers and floats")
        return x if to in floats else x.to(whole[to])

    return compute


def _dropout(attributes: Attributes) -> Compute:
    attributes.ignore("ratio", "seed")
    if attributes.inputs > 2:
        raise Refusal("input 'training_mode' is given")
    return lambda x, ratio=None: x


# ---------------------------------------------------------------------------------------------------------------- sums and products


def _gemm(attributes: Attributes) -> Compute:
    alpha, beta = attributes.take("alpha", 1.0), attributes.take("beta", 1.0)
    turn_a, turn_b = attributes.take("transA", 0), attributes.take("transB", 0)

    def compute(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product: Tensor = alpha * ((a.T if turn_a else a) @ (b.T if turn_b else b))
        return product if c is None else product + beta * c

    return compute


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[Attributes], Compute]:
    """A reduction, whose axes are an attribute in older opsets and an input in newer ones."""

    def make(attributes: Attributes) -> Compute:
        keep, given = bool(attributes.take("keepdims", 1)), attributes.take("axes")
        idle = bool(attributes.take("noop_with_empty_axes", 0))

        def compute(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = _numbers(axes) if axes is not None else given
            if not chosen and idle:
                raise Refusal("attribute 'noop_with_empty_axes' is 1 and there are no axes")
            return function(x, chosen or list(range(x.dim())), keep)

        return compute

    return make


def _pool_all(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[Attributes], Compute]:
    return _plain(lambda x: function(x, list(range(2, x.dim())), True))


# -------------------------------------------------------------------------------------------------------------------------- shapes


def _numbers(values: Tensor) -> list[int]:
    """The whole numbers of a one-dimensional input, such as axes."""
    return [int(value) for value in values.tolist()]


def _pad(attributes: Attributes) -> Compute:
    mode, given, filling = attributes.take("mode", "constant"), attributes.take("pads"), attributes.take("value", 0.0)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    if mode not in modes:
        raise Refusal(f"attribute 'mode' is {mode}")

    def compute(
        x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        sizes = _numbers(pads) if pads is not None else given
        chosen = _numbers(axes) if axes is not None else list(range(x.dim()))
        margins = [(0, 0)] * x.dim()
        for axis, margin in zip(chosen, zip(sizes[: len(chosen)], sizes[len(chosen) :], strict=True), strict=True):
            margins[axis] = margin
        flat = [side for margin in reversed(margins) for side in margin]  # PyTorch counts from the last axis
        if mode == "constant":
            return F.pad(x, flat, value=float(value) if value is not None else filling)
        if x.dim() != 4 or any(flat[4:]) or min(flat) < 0:
            raise Refusal(f"mode '{mode}' with pads {sizes}; only a picture's sides are known, and no cutting")
        return F.pad(x, flat[:4], mode=modes[mode])

    return compute


def _reshape(attributes: Attributes) -> Compute:
    literal = bool(attributes.take("allowzero", 0))

    def compute(x: Tensor, shape: Tensor) -> Tensor:
        sides = _numbers(shape)
        return x.reshape([x.shape[axis] if side == 0 and not literal else side for axis, side in enumerate(sides)])

    return compute


def _flatten(attributes: Attributes) -> Compute:
    axis = attributes.take("axis", 1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(attributes: Attributes) -> Compute:
    order = attributes.take("perm")
    return lambda x: x.permute(order if order is not None else list(reversed(range(x.dim()))))


def _concat(attributes: Attributes) -> Compute:
    axis = attributes.take("axis")
    return lambda *parts: torch.cat(parts, axis)


def _squeeze(attributes: Attributes) -> Compute:
    given = attributes.take("axes")

    def compute(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = _numbers(axes) if axes is not None else given
        if chosen is None:
            raise Refusal("without axes, which would take a batch of one apart")
        if wide := [axis for axis in chosen if x.shape[axis] != 1]:
            raise Refusal(f"axis {wide[0]} has {x.shape[wide[0]]} entries, not one")
        return x.squeeze(tuple(chosen))

    return compute


def _unsqueeze(attributes: Attributes) -> Compute:
    given = attributes.take("axes")

    def compute(x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = _numbers(axes) if axes is not None else given
        for axis in sorted(axis % (x.dim() + len(chosen)) for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return compute


def _slice(attributes: Attributes) -> Compute:
    given = [attributes.take(name) for name in ("starts", "ends", "axes")]

    def compute(x: Tensor, *inputs: Tensor | None) -> Tensor:
        parts = [None if values is None else _numbers(values) for values in inputs] if inputs else given
        starts, ends, axes, steps = (*parts, None, None, None, None)[:4]
        assert starts is not None and ends is not None
        axes, steps = axes or range(len(starts)), steps or [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            places = list(range(*slice(start, end, step).indices(x.shape[axis])))  # clamps as ONNX does
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
        return x

    return compute


def _gather(attributes: Attributes) -> Compute:
    axis = attributes.take("axis", 0)

    def compute(x: Tensor, places: Tensor) -> Tensor:
        at = axis % x.dim()
        found = x.index_select(at, (places.flatten() % x.shape[at]).to(x.device))
        return found.reshape((*x.shape[:at], *places.shape, *x.shape[at + 1 :]))

    return compute


def _shape(attributes: Attributes) -> Compute:
    start, end = attributes.take("start", 0), attributes.take("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, _numbers(shape)))  # type: ignore[no-untyped-call]


def _hard_sigmoid(attributes: Attributes) -> Compute:
    slope, middle = attributes.take("alpha", 0.2), attributes.take("beta", 0.5)
    return lambda x: (slope * x + middle).clamp(0, 1)


OPERATORS: Mapping[str, Callable[[Attributes], Compute]] = {
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _plain(_divide),
    "Dropout": _dropout,
    "Expand": _plain(_expand),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool_all(torch.mean),
    "GlobalMaxPool": _pool_all(torch.amax),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _plain(lambda x: x),
    "MatMul": _plain(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "PRelu": _plain(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "Pad": _pad,
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX's name."""
