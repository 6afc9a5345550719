"""A gated encoder: two heads that do not disturb each other. Who is it, and is it a photo at all?

    embedding = [sqrt(p) e, sqrt(1 - p) e]

e (N, D) is the embedding of an identity network and p (N,) in (0, 1) the authenticity, of a small network that looks for the traces
of blending, warping and generation in the full chip. With unit u = e / |e|, the cosine of two faces a and b is

    (sqrt(pa pb) + sqrt((1 - pa) (1 - pb))) ua . ub

so two real photos keep the cosine that the identity network gives them, and so do two fakes, while a real photo and a fake are
orthogonal, whoever they show. The length of the embedding is that of e: still a measure of quality.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.errors import UsageError

LARGEST_LOGIT = 30.0
"""Beyond, 1 - p is no number above 0 in fp32, and the slope of its root none at all."""
_FILTERS = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ((0, 0, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, -2, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 0, 0)),
)


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return F.relu(x + self.norm(self.second(self.first(x))))


class FineDetail(nn.Module):
    """Pixels, and what their neighbours do not predict of them: noise, grain, and what resampling and blending do to them.

    Four fixed filters of steganalysis, where a network that has to find them by itself learns nothing for a thousand steps: the
    3x3 and 5x5 square and the horizontal and vertical second difference of brightness (Fridrich and Kodovsky 2012, Rich Models for
    Steganalysis, https://doi.org/10.1109/TIFS.2012.2190402). Beside them the colours as they are; of each 2x2 pixels, all four are
    channels, so that nothing fine is averaged away before a filter has seen it. Everything is normalised and cut off at three
    standard deviations: strong edges of the picture say nothing here. All of it is one convolution of whole numbers (exact in
    BF16), which runtimes merge with the normalisation.
    """

    CHANNELS = 4 * (3 + len(_FILTERS))
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", _folded())
        self.norm = nn.BatchNorm2d(self.CHANNELS, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), colours in any order and scale, H and W even, to (N, 28, H / 2, W / 2) in [-3, 3]."""
        return F.hardtanh(self.norm(F.conv2d(x, self.weight, stride=2, padding=2)), -3.0, 3.0)


def _folded() -> Tensor:
    """(28, 3, 6, 6): for each place in 2x2 pixels, the three colours there and the filters of their sum."""
    weight = torch.zeros(2, 2, FineDetail.CHANNELS // 4, 3, 6, 6)
    filters = torch.tensor(_FILTERS, dtype=torch.float32)[:, None]
    for y in range(2):
        for x in range(2):
            weight[y, x, range(3), range(3), y + 2, x + 2] = 1.0
            weight[y, x, 3:, :, y : y + 5, x : x + 5] = filters
    return weight.flatten(0, 2)


class Middle(nn.Module):
    """The middle of a square picture, where the face is.

    Args:
        wanted: side of what comes out, in pixels; an even number less than the picture's.
    """

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, side, side) to (N, C, wanted, wanted)."""
        first = (x.shape[-1] - self.wanted) // 2
        return x[:, :, first : first + self.wanted, first : first + self.wanted]


class TextureNet(nn.Module):
    """Chips to a logit of authenticity, from fine texture.

    It sees the chip's `FineDetail`. What is found anywhere counts: features are both averaged over the chip and taken where they are
    strongest.

    Args:
        widths: channels at a quarter, an eighth and a sixteenth of the side of what is looked at.
        middle: side of what is looked at, in pixels, where the chip is larger than is worth the time; None: all of it.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), *, middle: int | None = None) -> None:
        super().__init__()
        self.middle = Middle(middle) if middle else nn.Identity()
        first, second, third = widths
        self.features = nn.Sequential(
            FineDetail(),
            _convolution(FineDetail.CHANNELS, first, 5, 2),
            _Residual(first),
            _convolution(first, second, 3, 2),
            _Residual(second),
            _convolution(second, third, 3, 2),
            _Residual(third),
        )
        self.logit = nn.Linear(2 * third, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W), H and W even, to (N,)."""
        features = self.features(self.middle(x))
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.logit(pooled).squeeze(1)  # type: ignore[no-any-return]


class GatedEncoder(nn.Module):
    """An identity network and a `TextureNet`, as one encoder of twice the dimension.

    The identity network computes as in eval mode always: what it knows is not to change while the other learns.

    Args:
        identity: chips (N, 3, H, W) to raw embeddings (N, D).
        texture: chips to logits of authenticity (N,).
    """

    def __init__(self, identity: nn.Module, texture: TextureNet) -> None:
        super().__init__()
        self.identity = identity
        self.texture = texture
        self.identity.eval()

    def train(self, mode: bool = True) -> GatedEncoder:
        """As for any module, but that the identity network stays in eval mode."""
        super().train(mode)
        self.identity.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W), as both networks take it, to (N, 2 D)."""
        return gate(self.identity(x), self.texture(x))


def gate(embeddings: Tensor, logits: Tensor) -> Tensor:
    """``[sqrt(p) e, sqrt(1 - p) e]`` with p the sigmoid of the logits.

    Args:
        embeddings: (N, D).
        logits: (N,).

    Returns:
        (N, 2 D), of the same lengths as ``embeddings``.
    """
    logits = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)[:, None]
    return torch.cat([logits.sigmoid().sqrt() * embeddings, (-logits).sigmoid().sqrt() * embeddings], 1)


def build_gated(build: Callable[[int], nn.Module], texture: Callable[[], TextureNet], dimension: int) -> GatedEncoder:
    """A gated encoder with fresh weights.

    Args:
        build: the identity network of a dimension.
        texture: what makes the gate.
        dimension: of the whole embedding, twice the identity's.

    Raises:
        UsageError: an odd dimension.
    """
    if dimension % 2:
        raise UsageError(f"dimension is {dimension}; a gated encoder's is twice that of the identity, so even")
    return GatedEncoder(build(dimension // 2), texture())
