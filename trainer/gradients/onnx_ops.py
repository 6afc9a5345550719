"""What each ONNX operator means, in PyTorch: a table from an operator's name to what makes its function.

    compute = OPERATORS["Relu"](Attributes({}, opset=18, inputs=1))
    compute(x)

Each maker takes a node's attributes and gives a function of its inputs (None: an optional one that is not given). It raises
`Refusal` for what it cannot do exactly. The operators are those of https://onnx.ai/onnx/operators, opset 7 and later, inference only;
those with windows are in `onnx_windows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from faceembed.trainer.gradients.onnx_attributes import Attributes, Compute, Refusal
from faceembed.trainer.gradients.onnx_windows import average_pool, conv, max_pool


def _plain(function: Compute) -> Callable[[Attributes], Compute]:
    """An operator without attributes."""
    return lambda attributes: function


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


def _batch_normalization(attributes: Attributes) -> Compute:
    attributes.need("spatial", 1)
    attributes.need("training_mode", 0)
    attributes.ignore("momentum")
    epsilon = attributes.take("epsilon", 1e-5)
    return lambda x, scale, bias, mean, variance: F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


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


def _softmax(attributes: Attributes) -> Compute:
    if attributes.opset < 13:  # before, it flattened all axes behind the one named
        raise Refusal("a Softmax of an operator set before 13")
    axis = attributes.take("axis", -1)
    return lambda x: torch.softmax(x, axis)


def _layer_normalization(attributes: Attributes) -> Compute:
    axis, epsilon = attributes.take("axis", -1), attributes.take("epsilon", 1e-5)
    attributes.ignore("stash_type")  # the type of the sums: float32 is ours

    def compute(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), bias, epsilon)

    return compute


OPERATORS: Mapping[str, Callable[[Attributes], Compute]] = {
    "Add": _plain(torch.add),
    "AveragePool": average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": conv,
    "Div": _plain(_divide),
    "Dropout": _dropout,
    "Erf": _plain(torch.erf),
    "Expand": _plain(_expand),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool_all(torch.mean),
    "GlobalMaxPool": _pool_all(torch.amax),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _plain(lambda x: x),
    "LayerNormalization": _layer_normalization,
    "MatMul": _plain(torch.matmul),
    "MaxPool": max_pool,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "PRelu": _plain(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "Pad": _pad,
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX's name."""
