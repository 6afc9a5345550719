"""Encoders `edgeface-xs` and `edgeface-xxs`: EdgeFace's published weights, written as a graph that runtimes are fast at.

    data, spec = build("edgeface_xs_q.pt", "edgeface-xs")

The network is EdgeNeXt (https://arxiv.org/abs/2206.10589) with an embedding of 512 numbers in place of its classes (EdgeFace,
https://arxiv.org/abs/2307.01838): four stages of blocks, each a depthwise convolution and a two-layer perceptron; the last block of
stages 2 to 4 mixes channels by attention across them. The graph computes the same function, to 3e-6, in another form:
positional encodings are constants, the affine half of each norm and every layer scale lie in the linear layer beside it, and the
perceptrons are 1x1 convolutions, so that nothing but the batch is left to find out when it runs.

Which licence holds is not settled: the repository that publishes the weights is BSD-3-Clause, their authors' model cards say CC
BY-NC-SA 4.0. They are never shipped with faceembed, nor does anything that is shipped start or learn from them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.edgeface_shapes import ARCHITECTURES, LICENCE, Shape
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.models.torch_file import read_state
from faceembed.errors import ModelError

Array = NDArray[np.float32]
_SIDE, _DIMENSION, _HEADS = 112, 512, 4
_EPS = 1e-6  # of every layer norm
_TINY = 1e-24  # under the root of an attention's norms: PyTorch divides by max(length, 1e-12)


def build(path: str | Path, arch: str) -> tuple[bytes, ModelSpec]:
    """Rewrite a checkpoint.

    Args:
        path: EdgeFace's ``.pt``: plain, quantised dynamically (``_q``), or with linear layers of low rank (``_gamma_06``).
        arch: one of `ARCHITECTURES`.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty), named ``arch``.

    Raises:
        ModelError: unreadable, or not the weights of this network; one line that says why.
    """
    weights = Weights(path, read_state(path))
    shape = ARCHITECTURES[arch]
    if (stem := weights.get("stem.0.weight").shape[0]) != shape.channels[0]:
        fits = [name for name, other in ARCHITECTURES.items() if other.channels[0] == stem]
        advice = f"it is '{fits[0]}': give --arch {fits[0]}" if fits else "no size of EdgeFace here has so many"
        raise ModelError(
            f"{path} does not hold '{arch}' ({stem} channels at first, expected {shape.channels[0]}); {advice}"
        )
    data = _write(weights, shape)
    if left := weights.unread():
        raise ModelError(f"{path} holds {len(left)} weights that '{arch}' has not, such as '{left[0]}'")
    spec = ModelSpec(
        name=arch,
        task="encoder",
        input_size=(_SIDE, _SIDE),
        colour="rgb",
        mean=(127.5, 127.5, 127.5),
        scale=1 / 127.5,
        dimension=_DIMENSION,
        template=ARCFACE_TEMPLATE,
        threshold=shape.threshold,
        threshold_source=shape.threshold_source,
        spread=shape.spread,
        spread_source="180 training people of people_wild, FP32",
        licence=LICENCE,
        source="https://github.com/otroshi/edgeface",
    )
    return data, spec


class Weights:
    """The tensors of a checkpoint by the names of the network, and which of them were read."""

    def __init__(self, path: str | Path, state: dict[str, NDArray[np.generic]]) -> None:
        self._path = path
        self._state = {name.removeprefix("model."): np.asarray(value, np.float32) for name, value in state.items()}
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._state

    def get(self, name: str) -> Array:
        """One tensor.

        Raises:
            ModelError: there is none of that name.
        """
        if name not in self._state:
            raise ModelError(f"{self._path} does not hold this network: '{name}' is missing")
        self._read.add(name)
        return self._state[name]

    def linear(self, name: str) -> tuple[Array, Array]:
        """Weight (out, in) and bias (out,) of a linear layer; one of low rank is the product of its two."""
        if self.has(f"{name}.linear1.weight"):
            weight = self.get(f"{name}.linear2.weight") @ self.get(f"{name}.linear1.weight")
            bias = f"{name}.linear2.bias"
        else:
            weight, bias = self.get(f"{name}.weight"), f"{name}.bias"
        return weight, self.get(bias) if self.has(bias) else np.zeros(len(weight), np.float32)

    def unread(self) -> list[str]:
        """Names that nobody asked for."""
        return sorted(set(self._state) - self._read)


def _write(weights: Weights, shape: Shape) -> bytes:
    writer = GraphWriter("edgeface")
    try:
        x = writer.input("input", ["N", 3, _SIDE, _SIDE])
        x = writer.conv(x, weights.get("stem.0.weight"), weights.get("stem.0.bias"), stride=4)
        norm = weights.get("stem.1.weight"), weights.get("stem.1.bias")
        x = _affine(writer, _norm_channels(writer, x), *norm)
        side = _SIDE // 4
        for number, (channels, depth) in enumerate(zip(shape.channels, shape.depths, strict=True)):
            stage = f"stages.{number}"
            if number:
                x, side = _down(writer, weights, f"{stage}.downsample", x), side // 2
            for place in range(depth):
                block = f"{stage}.blocks.{place}"
                if number and place == depth - 1:
                    x = _split_block(writer, weights, block, x, channels=channels, side=side)
                else:
                    x = _conv_block(writer, weights, block, x, channels=channels)
        x = writer.node("ReduceMean", [x], axes=[2, 3], keepdims=0)
        weight, bias = _with_norm(*weights.linear("head.fc"), weights, "head.norm")
        x = _dense(writer, _norm_last(writer, x, shape.channels[-1]), weight, bias)
        writer.output(x, "embedding", ["N", _DIMENSION])
        return writer.serialise()
    except (ValueError, IndexError) as error:
        raise ModelError(f"the weights do not fit together: {error}") from error


def _with_norm(weight: Array, bias: Array, weights: Weights, norm: str) -> tuple[Array, Array]:
    """A linear layer that the affine half of the layer norm before it is folded into."""
    return weight * weights.get(f"{norm}.weight"), bias + weight @ weights.get(f"{norm}.bias")


def _down(writer: GraphWriter, weights: Weights, name: str, x: str) -> str:
    """A norm over channels, folded, and a 2x2 convolution of stride 2 without padding."""
    weight, bias = weights.get(f"{name}.1.weight"), weights.get(f"{name}.1.bias")
    scale, shift = weights.get(f"{name}.0.weight"), weights.get(f"{name}.0.bias")
    bias = bias + np.einsum("oihw,i->o", weight, shift)
    return writer.conv(_norm_channels(writer, x), weight * scale[:, None, None], bias, stride=2)


def _conv_block(writer: GraphWriter, weights: Weights, name: str, x: str, *, channels: int) -> str:
    kernel = weights.get(f"{name}.conv_dw.weight")
    mixed = _depthwise(writer, x, kernel, weights.get(f"{name}.conv_dw.bias"))
    return writer.node("Add", [x, _perceptron(writer, weights, name, mixed)])


def _split_block(writer: GraphWriter, weights: Weights, name: str, x: str, *, channels: int, side: int) -> str:
    """Groups of channels convolved one into the next, then attention between channels, then the perceptron."""
    count = sum(weights.has(f"{name}.convs.{number}.weight") for number in range(channels))
    width = -(-channels // (count + 1))
    groups = [_slice(writer, x, start, min(start + width, channels)) for start in range(0, channels, width)]
    parts, last = [], groups[0]
    for number in range(count):
        last = writer.node("Add", [last, groups[number]]) if number else last
        kernel = weights.get(f"{name}.convs.{number}.weight")
        last = _depthwise(writer, last, kernel, weights.get(f"{name}.convs.{number}.bias"))
        parts.append(last)
    y = writer.node("Concat", [*parts, groups[-1]], axis=1)
    y = writer.node("Reshape", [y, _shape(writer, 0, channels, side * side)])
    y = writer.node("Transpose", [y], perm=[0, 2, 1])
    if weights.has(f"{name}.pos_embd.token_projection.weight"):
        y = writer.node("Add", [y, writer.constant(_positions(weights, f"{name}.pos_embd.token_projection", side))])
    y = writer.node("Add", [y, _attention(writer, weights, name, y, channels=channels, tokens=side * side)])
    y = writer.node("Reshape", [writer.node("Transpose", [y], perm=[0, 2, 1]), _shape(writer, 0, channels, side, side)])
    return writer.node("Add", [x, _perceptron(writer, weights, name, y)])


def _attention(writer: GraphWriter, weights: Weights, name: str, x: str, *, channels: int, tokens: int) -> str:
    """Cross-covariance attention (https://arxiv.org/abs/2106.09681, equation 4): softmax(t norm(q) norm(k)^T) v over channels."""
    depth = channels // _HEADS
    weight, bias = _with_norm(*weights.linear(f"{name}.xca.qkv"), weights, f"{name}.norm_xca")
    y = _dense(writer, _norm_last(writer, x, channels), weight, bias)
    y = writer.node("Reshape", [y, _shape(writer, 0, tokens, 3 * _HEADS, depth)])
    y = writer.node("Transpose", [y], perm=[0, 2, 3, 1])  # (N, 3 heads, channels of a head, tokens)
    query, key, value = (_slice(writer, y, part * _HEADS, (part + 1) * _HEADS) for part in range(3))
    key = writer.node("Transpose", [_unit_last(writer, key)], perm=[0, 1, 3, 2])
    likeness = writer.node("MatMul", [_unit_last(writer, query), key])
    likeness = writer.node("Mul", [likeness, writer.constant(weights.get(f"{name}.xca.temperature"))])
    y = writer.node("MatMul", [writer.node("Softmax", [likeness], axis=-1), value])
    y = writer.node("Transpose", [y], perm=[0, 3, 1, 2])
    y = writer.node("Reshape", [y, _shape(writer, 0, tokens, channels)])
    gamma = weights.get(f"{name}.gamma_xca")
    weight, bias = weights.linear(f"{name}.xca.proj")
    return _dense(writer, y, weight * gamma[:, None], bias * gamma)


def _perceptron(writer: GraphWriter, weights: Weights, name: str, x: str) -> str:
    """Norm, linear, GELU, linear, scale; as two 1x1 convolutions."""
    first = _with_norm(*weights.linear(f"{name}.mlp.fc1"), weights, f"{name}.norm")
    gamma = weights.get(f"{name}.gamma")
    weight, bias = weights.linear(f"{name}.mlp.fc2")
    x = writer.conv(_norm_channels(writer, x), first[0][:, :, None, None], first[1])
    return writer.conv(_gelu(writer, x), (weight * gamma[:, None])[:, :, None, None], bias * gamma)


def _gelu(writer: GraphWriter, x: str) -> str:
    """x (1 + erf(x / sqrt 2)) / 2, in the order of nodes that runtimes know as one (https://arxiv.org/abs/1606.08415)."""
    erf = writer.node("Erf", [writer.node("Div", [x, _number(writer, math.sqrt(2))])])
    return writer.node(
        "Mul", [writer.node("Mul", [x, writer.node("Add", [erf, _number(writer, 1)])]), _number(writer, 0.5)]
    )


def _depthwise(writer: GraphWriter, x: str, kernel: Array, bias: Array) -> str:
    inputs = [x, writer.constant(kernel), writer.constant(bias)]
    sides = list(kernel.shape[2:])
    return writer.node("Conv", inputs, kernel_shape=sides, pads=[side // 2 for side in sides] * 2, group=len(kernel))


def _norm_channels(writer: GraphWriter, x: str) -> str:
    """Layer norm over the channels of (N, C, H, W), without its affine half."""
    centred = writer.node("Sub", [x, writer.node("ReduceMean", [x], axes=[1], keepdims=1)])
    variance = writer.node("ReduceMean", [writer.node("Mul", [centred, centred])], axes=[1], keepdims=1)
    deviation = writer.node("Sqrt", [writer.node("Add", [variance, _number(writer, _EPS)])])
    return writer.node("Mul", [centred, writer.node("Reciprocal", [deviation])])


def _norm_last(writer: GraphWriter, x: str, channels: int) -> str:
    """The same over the last axis."""
    return writer.node("LayerNormalization", [x, writer.constant(np.ones(channels, np.float32))], axis=-1, epsilon=_EPS)


def _unit_last(writer: GraphWriter, x: str) -> str:
    squares = writer.node("ReduceSum", [writer.node("Mul", [x, x]), writer.constant(np.array([-1]))], keepdims=1)
    length = writer.node("Sqrt", [writer.node("Add", [squares, _number(writer, _TINY)])])
    return writer.node("Mul", [x, writer.node("Reciprocal", [length])])


def _affine(writer: GraphWriter, x: str, scale: Array, shift: Array) -> str:
    scaled = writer.node("Mul", [x, writer.constant(scale[:, None, None])])
    return writer.node("Add", [scaled, writer.constant(shift[:, None, None])])


def _dense(writer: GraphWriter, x: str, weight: Array, bias: Array) -> str:
    product = writer.node("MatMul", [x, writer.constant(weight.T.astype(np.float32))])
    return writer.node("Add", [product, writer.constant(bias.astype(np.float32))])


def _slice(writer: GraphWriter, x: str, start: int, end: int) -> str:
    return writer.node("Slice", [x, *(writer.constant(np.array([value])) for value in (start, end, 1))])


def _shape(writer: GraphWriter, *sides: int) -> str:
    return writer.constant(np.array(sides, np.int64))


def _number(writer: GraphWriter, value: float) -> str:
    return writer.constant(np.array(value, np.float32))


def _positions(weights: Weights, name: str, side: int) -> Array:
    """The Fourier encoding of a square's places (https://arxiv.org/abs/1706.03762, section 3.5, in two dimensions), projected.

    Returns:
        float32 (1, side * side, C).
    """
    weight, bias = weights.get(f"{name}.weight")[:, :, 0, 0], weights.get(f"{name}.bias")
    half = weight.shape[1] // 2
    places = np.arange(1, side + 1) / (side + 1e-6) * 2 * np.pi
    waves = 10000.0 ** (2 * (np.arange(half) // 2) / half)
    angles = places[:, None] / waves
    line = np.where(np.arange(half) % 2 == 0, np.sin(angles), np.cos(angles))  # (side, half)
    grid = np.concatenate([np.repeat(line, side, 0), np.tile(line, (side, 1))], 1)  # rows first, then columns
    return np.asarray(grid @ weight.T.astype(np.float64) + bias, np.float32)[None]
