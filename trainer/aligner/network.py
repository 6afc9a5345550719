"""The aligner's network: plain convolutions down to strides 8, 16 and 32, a top-down path, and one small head a stride.

Every output cell answers for one point of the image, its centre: is there a face around it, how far are that face's sides,
where are its landmarks. `faceembed.engine.detect.oneshot` reads the answers; the channels are described there.

Rates decided the shape (OpenVINO, one core of an AVX2 machine, 128x128): a stem of 4x4 patches costs 47 us where two 3x3
convolutions of stride 2 cost 215 us, and 32 channels at stride 8 a quarter of what 64 do.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceembed.engine.models.oneshot import CHANNELS, STRIDES

PRIOR = (
    0.01  # the score of every cell before training, so that background does not swamp the first steps (RetinaNet, 4.1)
)


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Widths and depths."""

    stem: int = 32
    """Channels after the 4x4 patches."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Channels at strides 8, 16 and 32."""
    depths: tuple[int, ...] = (1, 1, 1)
    """Residual blocks of two 3x3 convolutions at each stride."""
    neck: int = 32
    """Channels of the top-down path and of the heads."""


class AlignerNet(nn.Module):
    """float32 (N, 3, H, W) in [-1, 1], H and W multiples of 32, to one (N, 15, H/stride, W/stride) a stride."""

    def __init__(self, settings: NetworkSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or NetworkSettings()
        widths, neck = self.settings.widths, self.settings.neck
        self.stem = nn.Sequential(*_conv(3, self.settings.stem, size=4, stride=4, padding=0), nn.ReLU())
        inputs = (self.settings.stem, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*_conv(before, width, stride=2), nn.ReLU(), *(_Residual(width) for _ in range(depth)))
            for before, width, depth in zip(inputs, widths, self.settings.depths, strict=True)
        )
        self.laterals = nn.ModuleList(nn.Sequential(*_conv(width, neck, size=1, padding=0)) for width in widths)
        self.heads = nn.ModuleList(nn.Sequential(*_conv(neck, neck), nn.ReLU(), _last(neck)) for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        maps = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            maps.append(lateral(x))
        for finer in range(len(maps) - 2, -1, -1):
            maps[finer] = maps[finer] + F.interpolate(maps[finer + 1], scale_factor=2.0)
        return tuple(head(F.relu(level)) for head, level in zip(self.heads, maps, strict=True))


def _last(neck: int) -> nn.Conv2d:
    """The convolution that gives a head's answers."""
    last = nn.Conv2d(neck, CHANNELS, 1)
    assert last.bias is not None
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        last.bias[0] = torch.logit(torch.tensor(PRIOR))
    return last


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(width, width), nn.ReLU(), *_conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _conv(before: int, after: int, *, size: int = 3, stride: int = 1, padding: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution and its batch normalisation, which the export folds into it."""
    return nn.Conv2d(before, after, size, stride, padding, bias=False), nn.BatchNorm2d(after)
