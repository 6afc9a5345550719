"""Convolutions whose weights' gradient is one matrix product, where PyTorch's own is slow: 3x3, many channels, few pixels, BF16 on a CPU.

With 256 channels on maps of 3x3 pixels, batches of 128 and AMX, oneDNN (PyTorch 2.13) takes five times as long for that gradient as
one product of the output's gradient with the input's windows laid out as rows (`im2col`; Chellapilla, Puri, Simard 2006, High
Performance Convolutional Neural Networks for Document Processing). A whole training step of `resnet29-131` rose from 99 to 135
crops/s of one core.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST_CHANNELS = 256  # of the input; with 128 and fewer, whose maps are larger, nothing is gained


def faster_on_small_maps(body: nn.Module) -> int:
    """Have a network's convolutions of that kind computed so in training under BF16 autocast on a CPU; elsewhere as before.

    Names, weights and outputs stay what they are.

    Returns:
        How many there are.
    """
    found = 0
    for module in body.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = SmallMapConv2d
            found += 1
    return found


def _fits(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.in_channels >= _LEAST_CHANNELS
        and conv.bias is None
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding in ((0, 0), (1, 1))
        and conv.padding_mode == "zeros"
    )


class SmallMapConv2d(nn.Conv2d):
    """A 3x3 convolution without bias; see the module."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H', W')."""
        fast = (
            torch.is_grad_enabled()
            and self.weight.requires_grad
            and input.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
        )
        if not fast:
            return super().forward(input)
        stride, padding = int(self.stride[0]), int(self.padding[0])
        given = input.to(torch.bfloat16), self.weight.to(torch.bfloat16), stride, padding
        found: Tensor = _Convolution.apply(*given)  # type: ignore[no-untyped-call]
        return found


class _Convolution(torch.autograd.Function):
    """The convolution, with both gradients; the input's is oneDNN's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        towards_x = None
        if ctx.needs_input_grad[0]:
            towards_x = torch.ops.aten.convolution_backward(
                gradient,
                x,
                weight,
                None,
                [ctx.stride, ctx.stride],
                [ctx.padding, ctx.padding],
                [1, 1],
                False,
                [0, 0],
                1,
                [True, False, False],
            )[0]
        outputs, inputs = weight.shape[:2]
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)
        towards_weight = (rows.t() @ _windows(x, ctx.stride, ctx.padding)).view(outputs, 3, 3, inputs)
        return towards_x, towards_weight.permute(0, 3, 1, 2), None, None


def _windows(x: Tensor, stride: int, padding: int) -> Tensor:
    """(N, C, H, W) to (N H' W', 9 C): what each output pixel sees, ordered by row, column, channel."""
    x = x.permute(0, 2, 3, 1)
    if padding:
        x = F.pad(x, (0, 0, padding, padding, padding, padding))
    x = x.contiguous()
    count, height, width, channels = x.shape
    high, wide = (height - 3) // stride + 1, (width - 3) // stride + 1
    image, row, column, _ = x.stride()
    shape = (count, high, wide, 3, 3 * channels)  # three pixels of a row lie behind each other
    return x.as_strided(shape, (image, row * stride, column * stride, row, 1)).reshape(count * high * wide, -1)
