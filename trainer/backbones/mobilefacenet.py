"""MobileFaceNet: about a million parameters, made for phones. Table 1 of https://arxiv.org/abs/1804.07573."""

from __future__ import annotations

from torch import Tensor, nn

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec

# Expansion, channels, repetitions, stride of the first.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))

SPEC = ModelSpec(name="mobilefacenet", task="encoder", input_size=(112, 112), dimension=128, template=ARCFACE_TEMPLATE)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> list[nn.Module]:
    """A convolution with its batch normalisation; a depthwise one keeps every channel to itself."""
    groups = inputs if depthwise else 1
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Bottleneck(nn.Module):
    """1x1 up, 3x3 depthwise, 1x1 down without activation; beside a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.skip = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *conv(inputs, inner, 1),
            nn.PReLU(inner),
            *conv(inner, inner, 3, stride, depthwise=True),
            nn.PReLU(inner),
            *conv(inner, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


class MobileFaceNet(nn.Module):
    """Chips (N, 3, 112, 112) to embeddings (N, dimension), not normalised."""

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv(3, 64, 3, 2), nn.PReLU(64), *conv(64, 64, 3, depthwise=True), nn.PReLU(64))
        channels, blocks = 64, []
        for expansion, outputs, count, stride in _BOTTLENECKS:
            for number in range(count):
                blocks.append(Bottleneck(channels, outputs, expansion=expansion, stride=1 if number else stride))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            *conv(channels, 512, 1),
            nn.PReLU(512),
            nn.Conv2d(512, 512, 7, groups=512, bias=False),  # one weight for each place of each channel
            nn.BatchNorm2d(512),
            nn.Flatten(),
        )
        self.fc = nn.Linear(512, dimension, bias=False)
        self.bn = nn.BatchNorm1d(dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, 112, 112) to (N, dimension)."""
        return self.bn(self.fc(self.head(self.blocks(self.stem(x)))))  # type: ignore[no-any-return]
