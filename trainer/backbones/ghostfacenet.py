"""GhostFaceNet V1: half of the channels are computed, the other half are cheap depthwise "ghosts" of them.

GhostNet (https://arxiv.org/abs/1911.11907, table 1) with PReLU and, in place of pooling, a weight for each place of each
channel (https://doi.org/10.1109/ACCESS.2023.3266068). The authors publish widths 1 and 1.3, each with stride 1 or 2 in the
first convolution; width 1.3 with stride 1 is their best. Their weights are Keras files, which cannot be read here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec

# Depthwise kernel, inner channels, channels out, whether squeezed and excited, stride; channels at width 1.
_BOTTLENECKS = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 512, 160, True, 1),
)
_LAST = 512

SPEC = ModelSpec(name="ghostfacenet", task="encoder", input_size=(112, 112), dimension=512, template=ARCFACE_TEMPLATE)


def _scaled(channels: int, width: float) -> int:
    """``channels * width``, rounded to a multiple of 4 but never more than a tenth down."""
    wanted = channels * width
    rounded = max(4, int(wanted + 2) // 4 * 4)
    return rounded + 4 if rounded < 0.9 * wanted else rounded


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> list[nn.Module]:
    groups = inputs if depthwise else 1
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Ghost(nn.Module):
    """A 1x1 convolution to half of the channels; the other half are 3x3 depthwise convolutions of it."""

    def __init__(self, inputs: int, outputs: int, *, activate: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.primary = nn.Sequential(*_conv(inputs, half, 1), *([nn.PReLU(half)] if activate else []))
        self.cheap = nn.Sequential(*_conv(half, half, 3, depthwise=True), *([nn.PReLU(half)] if activate else []))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], 1)


class SqueezeExcite(nn.Module):
    """Each channel times a number in [0, 1] that the means of all channels decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _scaled(channels, 0.25)
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.PReLU(inner),
            nn.Conv2d(inner, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        return x * self.layers(x)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """Ghost up, depthwise where it strides, squeeze-and-excite, ghost down; beside a shortcut."""

    def __init__(self, inputs: int, inner: int, outputs: int, *, kernel: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [Ghost(inputs, inner, activate=True)]
        if stride > 1:
            layers += _conv(inner, inner, kernel, stride, depthwise=True)
        if squeeze:
            layers.append(SqueezeExcite(inner))
        self.layers = nn.Sequential(*layers, Ghost(inner, outputs, activate=False))
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                *_conv(inputs, inputs, kernel, stride, depthwise=True), *_conv(inputs, outputs, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride), halves rounded up."""
        return self.layers(x) + self.shortcut(x)  # type: ignore[no-any-return]


class GhostFaceNet(nn.Module):
    """Chips (N, 3, 112, 112) to embeddings (N, dimension), not normalised.

    Args:
        dimension: length of the embedding.
        width: factor of all channels; 1 and 1.3 are published.
        stride: of the first convolution, 1 or 2; 2 takes a quarter of the work.
    """

    def __init__(self, dimension: int = 512, *, width: float = 1.3, stride: int = 1) -> None:
        super().__init__()
        channels = _scaled(16, width)
        self.stem = nn.Sequential(*_conv(3, channels, 3, stride), nn.PReLU(channels))
        blocks = []
        for kernel, inner, outputs, squeeze, step in _BOTTLENECKS:
            inner, outputs = _scaled(inner, width), _scaled(outputs, width)
            blocks.append(Bottleneck(channels, inner, outputs, kernel=kernel, stride=step, squeeze=squeeze))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        last, side = _scaled(_LAST, width), 7 if stride == 1 else 4
        self.head = nn.Sequential(
            *_conv(channels, last, 1),
            nn.PReLU(last),
            nn.Conv2d(last, last, side, groups=last, bias=False),  # one weight for each place of each channel
            nn.BatchNorm2d(last),
            nn.Flatten(),
        )
        self.fc = nn.Linear(last, dimension, bias=False)
        self.bn = nn.BatchNorm1d(dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, 112, 112) to (N, dimension)."""
        return self.bn(self.fc(self.head(self.blocks(self.stem(x)))))  # type: ignore[no-any-return]
