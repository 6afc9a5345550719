"""Several encoders behind one chip, as one graph with one embedding.

Each encoder gets its own picture cut out of a chip that holds them all. The embedding is the concatenation of each encoder's unit
vector times a factor f_i, so that its cosine is sum_i f_i^2 s_i / sum_i f_i^2, s_i being the encoders' own cosines: with f_i^2 =
w_i / d_i, d_i the standard deviation of strangers' cosines, it is the weighted sum of standardised similarities, up to a line.

    data = join("pair", (192, 192), [Part(dlib, rows=..., columns=..., factor=...), Part(sface, ...)])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.graph import GraphWriter

_TINY = 1e-6  # the least length that a vector is divided by: an encoder that gives zeros adds zeros


@dataclasses.dataclass(frozen=True)
class Part:
    """One encoder of a joint one, and its picture within the chip."""

    proto: Any
    """Its ONNX ``ModelProto``: one input (N, 3, h, w), one output (N, D). It stays as it is."""
    rows: tuple[int, int] | NDArray[np.float32]
    """First and last-but-one row of the chip; or a matrix (h, H) that makes the picture's rows of the chip's."""
    columns: tuple[int, int] | NDArray[np.float32]
    """The same for columns."""
    factor: float
    """Length of its part of the embedding."""
    dimension: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted per channel, RGB."""
    scale: float = 1.0
    """Then multiplied."""
    mirror: bool = False
    """Whether it also sees the picture mirrored; its vector is then the mean of both unit vectors, at unit length again."""


def resampling(count: int, *, of: int, scale: float, offset: float) -> NDArray[np.float32]:
    """A matrix that samples a line of pixels more coarsely, with the tent of our own warp (`engine/native/warp.h`).

    Args:
        count: samples wanted.
        of: pixels there are.
        scale: pixels from one sample to the next, at least 1; it is half the tent's width too.
        offset: where the first sample lies, centres at whole numbers.

    Returns:
        float32 (count, of), rows of sum 1.
    """
    centres = offset + scale * np.arange(count)
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(of)[None] - centres[:, None]) / max(scale, 1.0))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def join(name: str, size: tuple[int, int], parts: Sequence[Part]) -> bytes:
    """The joint encoder: input ``chips`` (N, 3, height, width), RGB, 0 to 255; output ``embedding`` (N, sum of dimensions).

    Args:
        name: of the graph.
        size: the chip's height and width in pixels.
        parts: the encoders, in the order in which their vectors stand in the embedding.
    """
    writer = GraphWriter(name)
    chips = writer.input("chips", ["N", 3, *size])
    vectors = [_vector(writer, chips, part, f"part{number}.") for number, part in enumerate(parts)]
    joint = writer.node("Concat", vectors, axis=1)
    writer.output(joint, "embedding", ["N", sum(part.dimension for part in parts)])
    return writer.serialise()


def _vector(writer: GraphWriter, chips: str, part: Part, prefix: str) -> str:
    picture = _columns(writer, _rows(writer, chips, part.rows), part.columns)
    mean = np.array(part.mean, np.float32).reshape(1, 3, 1, 1)
    if mean.any():
        picture = writer.node("Sub", [picture, writer.constant(mean)])
    if part.scale != 1.0:
        picture = writer.node("Mul", [picture, writer.constant(np.array(part.scale, np.float32))])
    if not part.mirror:
        return _scaled(writer, _unit(writer, writer.include(part.proto, prefix, picture)), part.factor)
    # Both pictures go through as one batch, the mirrored ones behind: (2N, D), then (2, N, D).
    width = part.columns[1] - part.columns[0] if isinstance(part.columns, tuple) else len(part.columns)
    mirrored = writer.node("Gather", [picture, writer.constant(np.arange(width - 1, -1, -1))], axis=3)
    both = _unit(writer, writer.include(part.proto, prefix, writer.node("Concat", [picture, mirrored], axis=0)))
    pairs = writer.node("Reshape", [both, writer.constant(np.array([2, -1, part.dimension]))])
    mean_vector = writer.node("ReduceMean", [pairs], axes=[0], keepdims=0)
    return _scaled(writer, _unit(writer, mean_vector), part.factor)


def _rows(writer: GraphWriter, x: str, rows: tuple[int, int] | NDArray[np.float32]) -> str:
    if isinstance(rows, tuple):
        return _slice(writer, x, rows, axis=2)
    # A matrix from the right is what runtimes are fast at, so rows are made columns and back.
    turned = writer.node("Transpose", [x], perm=[0, 1, 3, 2])
    return writer.node("Transpose", [writer.node("MatMul", [turned, writer.constant(rows.T)])], perm=[0, 1, 3, 2])


def _columns(writer: GraphWriter, x: str, columns: tuple[int, int] | NDArray[np.float32]) -> str:
    if isinstance(columns, tuple):
        return _slice(writer, x, columns, axis=3)
    return writer.node("MatMul", [x, writer.constant(columns.T)])


def _slice(writer: GraphWriter, x: str, span: tuple[int, int], *, axis: int) -> str:
    return writer.node("Slice", [x, *(writer.constant(np.array([value])) for value in (*span, axis))])


def _unit(writer: GraphWriter, x: str) -> str:
    length = writer.node("ReduceL2", [x], axes=[1], keepdims=1)
    return writer.node("Div", [x, writer.node("Clip", [length, writer.constant(np.array(_TINY, np.float32))])])


def _scaled(writer: GraphWriter, x: str, factor: float) -> str:
    return writer.node("Mul", [x, writer.constant(np.array(factor, np.float32))])
