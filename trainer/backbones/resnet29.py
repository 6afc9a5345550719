"""`resnet29`: the network of dlib's face encoder (`anet_type` in its `dnn_face_recognition_ex.cpp`), made to be trained.

Four things differ from a usual residual network, and all are kept so that dlib's CC0 weights fit: strided convolutions have
no padding; the skip of a strided block is a 2x2 average; where the two summands differ in size, the smaller one counts as
zero-padded at the end of every axis (new channels of the skip are zeros, there is no projection); and the last layer has
no bias. dlib's `affine` layers are batch normalisations at rest, and are batch normalisations here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.engine.models import dlib_resnet
from faceembed.engine.models.dlib_resnet import Layer
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError

# Channels and whether the block halves the picture, from input to output.
_BLOCKS = (
    *((32, False),) * 3,
    *((64, True), *((64, False),) * 3),
    *((128, True), *((128, False),) * 2),
    *((256, True), *((256, False),) * 2),
    (256, True),
)

SPEC = ModelSpec(
    name="resnet29",
    task="encoder",
    input_size=(dlib_resnet.CHIP, dlib_resnet.CHIP),
    colour="rgb",
    mean=dlib_resnet.MEAN,
    scale=1 / 256,
    dimension=128,
    template=dlib_resnet.TEMPLATE,
)

SMALL_SIDE = 131  # pixels: the least that the four halvings take; 0.77 of the work of 150
SMALL_SPEC = dataclasses.replace(
    SPEC,
    name=f"resnet29-{SMALL_SIDE}",
    input_size=(SMALL_SIDE, SMALL_SIDE),
    dimension=256,
    template=tuple(
        ((x + 0.5) * SMALL_SIDE / dlib_resnet.CHIP - 0.5, (y + 0.5) * SMALL_SIDE / dlib_resnet.CHIP - 0.5)
        for x, y in dlib_resnet.TEMPLATE
    ),
)
"""The same framing in fewer pixels, for networks that learn from several teachers."""


class Block(nn.Module):
    """Two 3x3 convolutions beside a skip."""

    def __init__(self, inputs: int, outputs: int, *, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        stride, padding = (2, 0) if halve else (1, 1)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W), or about half of H and W."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.halve:
            x = F.avg_pool2d(x, 2)
        return F.relu(_padded(y, x) + _padded(x, y))


def _padded(x: Tensor, other: Tensor) -> Tensor:
    """``x`` with zeros at the end of every axis in which ``other`` is longer."""
    channels, rows, columns = (max(b - a, 0) for a, b in zip(x.shape[1:], other.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels)) if channels or rows or columns else x


class ResNet29(nn.Module):
    """29 layers: chips (N, 3, 150, 150) to embeddings (N, dimension), not normalised.

    Args:
        dimension: length of the embedding.
        width: channels of the first block; the others follow. 32 is dlib's.
        bias: whether the embedding layer adds a vector: dlib's does not, but an embedding whose mean lies at 0 wants it.
    """

    def __init__(self, dimension: int = 128, *, width: int = 32, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels, blocks = width, []
        for outputs, halve in _BLOCKS:
            blocks.append(Block(channels, outputs * width // 32, halve=halve))
            channels = outputs * width // 32
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, dimension, bias=bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W), H and W from 103 upward, to (N, dimension)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2)
        return self.fc(self.blocks(x).mean((2, 3)))  # type: ignore[no-any-return]


def small(dimension: int = 256) -> ResNet29:
    """The network of `SMALL_SPEC`: dlib's filters, and an embedding layer of its own that adds a vector."""
    return ResNet29(dimension, bias=True)


def load_dlib(model: ResNet29, layers: Sequence[Layer], *, last_too: bool = True) -> None:
    """Put dlib's weights into a `ResNet29(128)`; outputs in eval mode are dlib's.

    An affine layer ``gamma * x + beta`` becomes a batch normalisation with running mean 0 and variance 1 - eps. In training
    mode, batch statistics would make that another network: first `calibrate_batch_norm` or `freeze_batch_norm`.

    Args:
        model: the network.
        layers: from `engine.models.dlib_resnet`.
        last_too: whether the embedding layer gets dlib's weights; a network with another dimension keeps its own.

    Raises:
        ModelError: the layers are not those of this network.
    """
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = [(model.conv1, model.bn1)]
    for block in model.blocks:
        assert isinstance(block, Block)
        pairs += [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    convs = [layer for layer in layers if layer.kind == "con"]
    affines = [layer for layer in layers if layer.kind == "affine"]
    last = [layer for layer in layers if layer.kind == "fc"]
    if not len(convs) == len(affines) == len(pairs) or len(last) != 1:
        raise ModelError(f"dlib network with {len(convs)} convolutions; resnet29 has {len(pairs)}")
    try:
        for (conv, norm), con, affine in zip(pairs, convs, affines, strict=True):
            _load_pair(conv, norm, con, affine)
        outputs, inputs = last[0].settings
        if last_too:
            _copy(model.fc.weight, np.asarray(last[0].params).reshape(inputs, outputs).T)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"dlib network whose layers do not fit resnet29 ({error})") from error


def _load_pair(conv: nn.Conv2d, norm: nn.BatchNorm2d, con: Layer, affine: Layer) -> None:
    assert con.params is not None and affine.params is not None
    shape = con.settings[7:11]
    count = int(np.prod(shape))
    weight, bias = con.params[:count].reshape(shape), con.params[count:]
    gamma, beta = affine.params[: shape[0]], affine.params[shape[0] :]
    _copy(conv.weight, weight)
    _copy(norm.weight, gamma)
    _copy(norm.bias, gamma * bias + beta)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


@torch.no_grad()
def _copy(target: Tensor, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    if tuple(values.shape) != tuple(target.shape):
        raise ValueError(f"weights {tuple(values.shape)}, expected {tuple(target.shape)}")
    target.copy_(torch.from_numpy(np.array(values, np.float32)))
