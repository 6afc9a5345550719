"""IR-18, IR-50 and IR-101: the residual networks of AdaFace and CVLface, with the module names of both projects.

A state dict of either fits as it is, once its prefix is gone. Three things are easily mistaken: every block begins with a
batch normalisation, a stride sits in the block's second convolution, and a shortcut is a convolution only where the number
of channels changes, else every second pixel, or nothing. See `net.py` in https://github.com/mk-minchul/AdaFace.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec

STAGES: dict[str, tuple[int, int, int, int]] = {
    "ir18": (2, 2, 2, 2),
    "ir50": (3, 4, 14, 3),
    "ir101": (3, 13, 30, 3),
}
"""Blocks with 64, 128, 256 and 512 channels; each of the four stages halves the picture in its first block."""

SPEC = ModelSpec(name="ir", task="encoder", input_size=(112, 112), dimension=512, template=ARCFACE_TEMPLATE)
"""RGB in [-1, 1], as CVLface; the original AdaFace checkpoints take BGR."""


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return self.res_layer(x) + self.shortcut_layer(x)  # type: ignore[no-any-return]


class IResNet(nn.Module):
    """Chips (N, 3, 112, 112) to embeddings (N, dimension), not normalised.

    The official networks return this embedding divided by its length, and the length (AdaFace), or this (CVLface).

    Args:
        dimension: length of the embedding.
        stages: blocks in each of the four stages.
    """

    def __init__(self, dimension: int = 512, *, stages: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        channels, blocks = 64, []
        for outputs, count in zip((64, 128, 256, 512), stages, strict=True):
            for number in range(count):
                blocks.append(Block(channels, outputs, 1 if number else 2))
                channels = outputs
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(channels * 7 * 7, dimension),
            nn.BatchNorm1d(dimension, affine=False),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, 112, 112) to (N, dimension)."""
        return self.output_layer(self.body(self.input_layer(x)))  # type: ignore[no-any-return]


def spec(name: str) -> ModelSpec:
    """The input contract of one that is trained here."""
    return dataclasses.replace(SPEC, name=name)
