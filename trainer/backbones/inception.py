"""Inception-ResNet-v1 at 160x160, with the module names of facenet-pytorch (https://github.com/timesler/facenet-pytorch).

Its published weights (VGGFace2, CASIA-WebFace) were trained on the boxes of MTCNN, stretched to a square, not on aligned
faces. `TEMPLATE` puts the landmarks where they lie in such a box on average, so an aligned chip shows about the same cut; but
it keeps a face's proportions, where stretching makes it a third wider. Fine-tuning takes that up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.engine.models.spec import ModelSpec

SIDE = 160

# Where MTCNN's landmarks lie on average in its own boxes, stretched to 160x160 (their width is 0.75 of their height), made
# left-right symmetric: 588 photos of 180 training people of `people_wild`. (x, y) in pixels.
TEMPLATE = ((43.48, 62.36), (115.52, 62.36), (79.50, 96.16), (47.41, 120.20), (111.59, 120.20))

SPEC = ModelSpec(
    name="inception-resnet-v1",
    task="encoder",
    input_size=(SIDE, SIDE),
    scale=1 / 128,  # facenet-pytorch `fixed_image_standardization`: (x - 127.5) / 128
    dimension=512,
    template=TEMPLATE,
)

_Size = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution, batch normalisation (eps as in TensorFlow), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: _Size, stride: int = 1, padding: _Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H', W')."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, their outputs joined along the channels.

    Args:
        branches: each a module, called ``branch0``, ``branch1``, ...
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, sum of the branches' channels, H', W')."""
        return torch.cat([getattr(self, name)(x) for name in self.names], 1)


class Residual(Mixed):
    """Branches, a 1x1 convolution over all of them, scaled, beside the identity.

    Args:
        branches: as for `Mixed`.
        joined: channels of all branches together.
        channels: channels in and out.
        scale: of the branches' sum.
        activate: whether a ReLU follows.
    """

    def __init__(self, *branches: nn.Module, joined: int, channels: int, scale: float, activate: bool = True) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        x = self.conv2d(super().forward(x)) * self.scale + x
        return F.relu(x) if self.activate else x


def _block35() -> Residual:
    return Residual(
        Conv(256, 32, 1),
        nn.Sequential(Conv(256, 32, 1), Conv(32, 32, 3, padding=1)),
        nn.Sequential(Conv(256, 32, 1), Conv(32, 32, 3, padding=1), Conv(32, 32, 3, padding=1)),
        joined=96,
        channels=256,
        scale=0.17,
    )


def _block17() -> Residual:
    return Residual(
        Conv(896, 128, 1),
        nn.Sequential(
            Conv(896, 128, 1), Conv(128, 128, (1, 7), padding=(0, 3)), Conv(128, 128, (7, 1), padding=(3, 0))
        ),
        joined=256,
        channels=896,
        scale=0.1,
    )


def _block8(*, scale: float = 0.2, activate: bool = True) -> Residual:
    return Residual(
        Conv(1792, 192, 1),
        nn.Sequential(
            Conv(1792, 192, 1), Conv(192, 192, (1, 3), padding=(0, 1)), Conv(192, 192, (3, 1), padding=(1, 0))
        ),
        joined=384,
        channels=1792,
        scale=scale,
        activate=activate,
    )


class InceptionResNetV1(nn.Module):
    """Chips (N, 3, 160, 160) to embeddings (N, dimension), not normalised (facenet-pytorch returns them normalised)."""

    def __init__(self, dimension: int = 512) -> None:
        super().__init__()
        self.conv2d_1a = Conv(3, 32, 3, 2)
        self.conv2d_2a = Conv(32, 32, 3)
        self.conv2d_2b = Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = Conv(64, 80, 1)
        self.conv2d_4a = Conv(80, 192, 3)
        self.conv2d_4b = Conv(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Mixed(
            Conv(256, 384, 3, 2),
            nn.Sequential(Conv(256, 192, 1), Conv(192, 192, 3, padding=1), Conv(192, 256, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Mixed(
            nn.Sequential(Conv(896, 256, 1), Conv(256, 384, 3, 2)),
            nn.Sequential(Conv(896, 256, 1), Conv(256, 256, 3, 2)),
            nn.Sequential(Conv(896, 256, 1), Conv(256, 256, 3, padding=1), Conv(256, 256, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(scale=1.0, activate=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.6)
        self.last_linear = nn.Linear(1792, dimension, bias=False)
        self.last_bn = nn.BatchNorm1d(dimension, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W), 160x160 in use, to (N, dimension)."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x))))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        x = self.dropout(self.avgpool_1a(x)).flatten(1)
        return self.last_bn(self.last_linear(x))  # type: ignore[no-any-return]
