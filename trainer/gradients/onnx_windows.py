"""ONNX's operators that move a window over a picture, in PyTorch: convolutions and pools.

Each function takes a node's attributes and gives a function of its inputs, as `onnx_ops` has it, whose table they are in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from faceembed.trainer.gradients.onnx_attributes import Attributes, Compute, Refusal


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


def conv(attributes: Attributes) -> Compute:
    windows, groups = _Windows(attributes), attributes.take("group", 1)

    def compute(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        size = list(weight.shape[2:])
        if len(size) != 2 or windows.size not in (None, size):
            raise Refusal(f"a weight of shape {tuple(weight.shape)} with kernel_shape {windows.size}")
        return F.conv2d(windows.pad(x, size), weight, bias, windows.strides, 0, windows.dilations, groups)

    return compute


def max_pool(attributes: Attributes) -> Compute:
    attributes.need("storage_order", 0)
    windows = _Windows(attributes)

    def compute(x: Tensor) -> Tensor:
        padded = windows.pad(x, windows.size, -math.inf)
        return F.max_pool2d(padded, windows.size, windows.strides, 0, windows.dilations)

    return compute


def average_pool(attributes: Attributes) -> Compute:
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
