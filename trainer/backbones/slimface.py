"""`slimface`: SFace made slim, for encoders that are to be fast on processors.

SFace (MobileNet's first shape, 574 million multiply-adds) spends two thirds of its time on its first seven pairs of depthwise and 1x1
convolutions, at 112 and 56 pixels. Here a stem of stride 4 and two residual blocks stand in their place and are to give the map of
512 x 14 x 14 that SFace has there; then come three of its five pairs of 512 channels and half of the channels of its last two. A
leaky ReLU of one slope, which runtimes compute within a convolution, takes the place of a PReLU, which they may not.

All layers have biases and there is no batch normalisation: SFace's are folded into the weights that are taken over, and what is new
is taught map by map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.errors import ModelError

SPEC = ModelSpec(
    name="slimface",
    task="encoder",
    input_size=(112, 112),
    colour="rgb",
    mean=(127.5, 127.5, 127.5),
    scale=1 / 128,
    dimension=128,
    template=ARCFACE_TEMPLATE,
)
SLOPE = 0.1
_MAP = 512  # channels of SFace at 14 x 14 pixels
_KEPT = ("conv_8", "conv_10", "conv_12")  # of its five pairs there, conv_8 to conv_12
_SIDE = 7  # pixels of the last map

Folded = tuple[NDArray[np.float32], NDArray[np.float32]]


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, *, groups: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE, nonlinearity="leaky_relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _active(conv: nn.Conv2d) -> tuple[nn.Conv2d, nn.LeakyReLU]:
    return conv, nn.LeakyReLU(SLOPE, inplace=True)


def _pair(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """A depthwise 3x3 and a 1x1 convolution."""
    return *_active(_conv(inputs, inputs, 3, stride, groups=inputs)), *_active(_conv(inputs, outputs, 1))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip; at first the skip alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_active(_conv(channels, channels, 3)))
        self.second = _conv(channels, channels, 3)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return F.leaky_relu(x + self.second(self.first(x)), SLOPE)


class SlimFace(nn.Module):
    """Chips (N, 3, 112, 112) to embeddings (N, dimension), not normalised.

    Args:
        dimension: length of the embedding.
        widths: channels at 28 and at 14 pixels of what stands in place of SFace's first layers.
        last: channels of the last two pairs; SFace has 1024.
    """

    def __init__(self, dimension: int = 128, *, widths: tuple[int, int] = (64, 128), last: int = 512) -> None:
        super().__init__()
        wide, wider = widths
        self.front = nn.Sequential(
            *_active(_conv(3, wide, 7, 4)),
            Residual(wide),
            *_active(_conv(wide, wider, 3, 2)),
            Residual(wider),
            *_active(_conv(wider, _MAP, 1)),
        )
        self.middle = nn.Sequential(*(layer for _ in _KEPT for layer in _pair(_MAP, _MAP)))
        self.tail = nn.Sequential(*_pair(_MAP, last, 2), *_pair(last, last))
        self.fc = nn.Linear(last * _SIDE**2, dimension)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What SFace's maps teach: (N, 512, 14, 14) after the front, the same after the middle, (N, last, 7, 7) at the end."""
        front = self.front(x)
        middle = self.middle(front)
        return front, middle, self.tail(middle)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, 112, 112) to (N, dimension)."""
        return self.fc(self.maps(x)[2].flatten(1))  # type: ignore[no-any-return]


@torch.no_grad()
def load_sface(model: SlimFace, graph: Any) -> None:
    """Put what there is of SFace into a `SlimFace`: all but the front.

    Of the last two pairs, and of the last layer, the channels stay that most of what follows hangs on: by the norms of the weights that
    lead to a channel and away from it.

    Args:
        model: the network; its embedding has SFace's 128 numbers, or its last layer is left as it is.
        graph: SFace's ONNX ``ModelProto``, from `engine.models.sface.package_graph`.

    Raises:
        ModelError: another graph.
    """
    weights, ending = _parts(graph)
    try:
        _load(model, weights, ending)
    except (KeyError, ValueError) as error:
        raise _not_sface(error) from error
    lift, shift = first_lift(model, graph)
    if model.fc.out_features == len(ending.last):
        merge_ending(model, graph, lift, shift)


def first_lift(model: SlimFace, graph: Any) -> tuple[Tensor, Tensor]:
    """From the network's last map to all of SFace's channels, behind its normalisation: at first each kept one to itself.

    Returns:
        float32 (1024, last) and (1024,).
    """
    weights, ending = _parts(graph)
    count = model.fc.in_features // _SIDE**2
    ends = _ends(weights, ending, count)
    lift = torch.zeros(len(ending.scale), count)
    lift[ends, range(count)] = torch.from_numpy(ending.scale[ends])
    return lift, torch.from_numpy(ending.shift)


@torch.no_grad()
def merge_ending(model: SlimFace, graph: Any, lift: Tensor, shift: Tensor) -> None:
    """Make the embedding layer SFace's own behind a linear layer to its channels: two linear layers are one.

    Args:
        model: the network, of SFace's 128 numbers.
        graph: SFace's.
        lift: float32 (1024, last), of every place of the map.
        shift: float32 (1024,).
    """
    _, ending = _parts(graph)
    last = torch.from_numpy(ending.last)
    model.fc.weight.copy_(torch.einsum("ocp,cl->olp", last, lift.detach()).flatten(1))
    model.fc.bias.copy_(torch.from_numpy(ending.bias) + torch.einsum("ocp,c->o", last, shift.detach()))


def _load(model: SlimFace, weights: Mapping[str, Folded], ending: _Ending) -> None:
    middle = [layer for layer in model.middle if isinstance(layer, nn.Conv2d)]
    for number, name in enumerate(_KEPT):
        _put(middle[2 * number], *weights[f"{name}_dw_relu"])
        _put(middle[2 * number + 1], *weights[f"{name}_relu"])
    spread, into, again, onto = (layer for layer in model.tail if isinstance(layer, nn.Conv2d))
    count = into.out_channels
    wide, between, final = (weights[name][0] for name in ("conv_13_relu", "conv_14_dw_relu", "conv_14_relu"))
    kept = _strongest(_norms(wide, 0) * _norms(between, 0) * _norms(final, 1), count)
    ends = _ends(weights, ending, count)
    _put(spread, *weights["conv_13_dw_relu"])
    _put(into, wide[kept], weights["conv_13_relu"][1][kept])
    _put(again, between[kept], weights["conv_14_dw_relu"][1][kept])
    _put(onto, final[ends][:, kept], weights["conv_14_relu"][1][ends])


def _ends(weights: Mapping[str, Folded], ending: _Ending, count: int) -> NDArray[np.int64]:
    ahead = _norms(weights["conv_14_relu"][0], 0) * np.abs(ending.scale)
    return _strongest(ahead * np.linalg.norm(ending.last, axis=(0, 2)), count)


def _norms(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = np.linalg.norm(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1), axis=1)
    return norms


def _strongest(strength: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    return np.sort(np.argsort(-strength, kind="stable")[:count])


def _put(layer: nn.Conv2d | nn.Linear, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    if tuple(layer.weight.shape) != weight.shape:
        raise ValueError(f"weights {weight.shape}, expected {tuple(layer.weight.shape)}")
    layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight, np.float32)))
    assert layer.bias is not None
    layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))


@dataclasses.dataclass(frozen=True)
class _Ending:
    """What follows SFace's last PReLU."""

    scale: NDArray[np.float32]
    """(1024,), of its batch normalisation."""
    shift: NDArray[np.float32]
    last: NDArray[np.float32]
    """(128, 1024, 49): of the last layer with the normalisation behind it."""
    bias: NDArray[np.float32]


def _parts(graph: Any) -> tuple[dict[str, Folded], _Ending]:
    """Every convolution with its batch normalisation, by the name of the PReLU behind it; and the ending.

    Raises:
        ModelError: another graph.
    """
    from onnx import numpy_helper

    values = {item.name: np.asarray(numpy_helper.to_array(item), np.float32) for item in graph.graph.initializer}
    makers = {node.output[0]: node for node in graph.graph.node}

    def norm(node: Any) -> Folded:
        gamma, beta, mean, variance = (values[name] for name in node.input[1:5])
        epsilon = next(item.f for item in node.attribute if item.name == "epsilon")
        scale = gamma / np.sqrt(variance + epsilon)
        return scale, beta - mean * scale

    def biased(node: Any, scale: NDArray[np.float32], shift: NDArray[np.float32]) -> NDArray[np.float32]:
        return shift + values[node.input[2]] * scale if len(node.input) > 2 else shift

    found: dict[str, Folded] = {}
    try:
        for node in graph.graph.node:
            if node.op_type == "PRelu":
                behind = makers[node.input[0]]
                conv = makers[behind.input[0]]
                scale, shift = norm(behind)
                weight = values[conv.input[1]] * scale[:, None, None, None]
                found[node.output[0]] = weight, biased(conv, scale, shift)
        product = makers["pre_fc1"]
        turned = any(item.name == "transB" and item.i for item in product.attribute)
        rows = values[product.input[1]] if turned else values[product.input[1]].T
        scale, shift = norm(makers["fc1"])
        before = norm(makers["bn1"])
        last = (rows * scale[:, None]).reshape(len(rows), len(before[0]), _SIDE**2)
    except (KeyError, ValueError) as error:
        raise _not_sface(error) from error
    return found, _Ending(*before, last, biased(product, scale, shift))


def _not_sface(error: Exception) -> ModelError:
    return ModelError(f"not SFace's graph: its layers do not fit slimface ({error})")
