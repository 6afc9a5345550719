"""The kernels of `engine/native/kernels.cu` as functions on arrays: shapes are checked, memory is taken, blocks are counted.

They put work into a `Lane` and return at once. The photos they are given must live until that work is done. Those that read a
detector's outputs are in `record`. `_native` has the CPU build of the same functions under the same
names, NumPy in, NumPy out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.canvas import GREY
from faceembed.engine.models.oneshot import REFINED_CHANNELS as REFINEMENTS
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.gpu.lane import BLOCK, MAX_BLOCKS, Argument, Lane
from faceembed.engine.runtimes.arrays import DeviceArray

TILE = 16  # sides of the part of a picture that a block makes
_IMAGE = np.dtype([("data", "<u8"), ("height", "<i4"), ("width", "<i4"), ("stride", "<i8")])  # `Image` in warp.h
LETTER = {np.dtype(np.float16): "f16", np.dtype(np.float32): "f32", np.dtype(np.uint8): "u8"}
_MAX_SIDE = 1 << 24
HALF = np.dtype(np.float16)


def paint(
    lane: Lane, photos: Sequence[DeviceArray], sizes: NDArray[np.integer[Any]], shape: tuple[int, int]
) -> DeviceArray:
    """Scale photos, antialiased, into the top-left corners of grey canvases; `canvas.paint` says what that means.

    Args:
        lane: where.
        photos: N of uint8 RGB (H, W, 3), any sizes.
        sizes: (N, 2) height and width of each copy.
        shape: height and width of the canvases.

    Returns:
        uint8 (N, height, width, 3).

    Raises:
        ValueError: a wrong shape or dtype, or a copy that does not fit.
    """
    sizes = np.asarray(sizes, np.int32).reshape(-1, 2)
    if len(sizes) != len(photos):
        raise ValueError(f"sizes must have {len(photos)} rows, one a photo, but has {len(sizes)}")
    if len(sizes) and not ((sizes >= 1).all() and (sizes <= np.array(shape)).all()):
        raise ValueError(f"sizes must be 1 to {shape}, the canvas, but are {sizes.min(0)} to {sizes.max(0)}")
    canvases = lane.empty((len(photos), *shape, 3), np.uint8)
    copies = np.column_stack([np.arange(len(sizes), dtype=np.int32), sizes])
    arguments: list[Argument] = [*_table(lane, photos), lane.put(copies)]
    arguments += [np.int32(shape[0]), np.int32(shape[1]), np.int32(GREY), canvases]
    lane.launch("fe_paint", _tiles(len(photos), *shape), arguments)
    return canvases


def gather(
    lane: Lane,
    photos: Sequence[DeviceArray],
    owner: NDArray[np.int32] | DeviceArray,
    matrices: NDArray[np.float64] | DeviceArray,
    spec: ModelSpec,
    *,
    size: tuple[int, int] | None = None,
    dtype: Any = HALF,
) -> DeviceArray:
    """Cut chips out of whole photos, antialiased, as a network takes them.

    The pixels are the 8-bit levels that `align.warp_chips` gives, before they are normalised. A face whose matrix is not
    finite, or whose owner is no photo, becomes a black chip.

    Args:
        lane: where.
        photos: uint8 RGB (H, W, 3), any sizes.
        owner: int32 (F,) each chip's photo.
        matrices: float64 (F, 2, 3) chip pixel to photo pixel, centres at whole numbers; of `fit` or `align`.
        spec: mean, scale and colour of the network.
        size: height and width of a chip; None: the network's.
        dtype: float16 or float32: normalised (F, 3, height, width); uint8: RGB pixels (F, height, width, 3).

    Raises:
        ValueError: a wrong shape or dtype.
    """
    height, width = size or spec.input_size
    dtype = np.dtype(dtype)
    if dtype not in LETTER:
        raise ValueError(f"dtype must be float16, float32 or uint8, but is {dtype}")
    matrices = _there(lane, matrices, np.float64, "matrices")
    owner = _there(lane, owner, np.int32, "owner")
    count = matrices.shape[0]
    check(matrices, np.float64, (count, 2, 3), "matrices")
    check(owner, np.int32, (count,), "owner")
    blocks = _tiles(count, height, width)
    chips = lane.empty((count, height, width, 3) if dtype == np.uint8 else (count, 3, height, width), dtype)
    arguments: list[Argument] = [*_table(lane, photos), owner, matrices, np.int32(height), np.int32(width)]
    arguments += [np.float32(value) for value in spec.mean]
    arguments += [np.float32(spec.scale), np.int32(spec.colour == "bgr"), chips]
    lane.launch(f"fe_gather_{LETTER[dtype]}", blocks, arguments)
    return chips


def fit(lane: Lane, landmarks: NDArray[np.float32] | DeviceArray, template: NDArray[np.float64]) -> DeviceArray:
    """The least-squares similarity from a template to each face, as `align.similarity_matrices`.

    Args:
        lane: where.
        landmarks: float32 (F, 5, 2) continuous pixels of the photo.
        template: (5, 2) pixels, centres at whole numbers.

    Returns:
        float64 (F, 2, 3); NaN where the points do not span a face.
    """
    landmarks = _there(lane, landmarks, np.float32, "landmarks")
    count = landmarks.shape[0]
    check(landmarks, np.float32, (count, 5, 2), "landmarks")
    matrices = lane.empty((count, 2, 3), np.float64)
    lane.launch("fe_fit", _blocks(count), [landmarks, lane.put(_goal(template)), np.int32(count), matrices])
    return matrices


def refine(
    lane: Lane,
    answers: DeviceArray,
    matrices: DeviceArray,
    template: NDArray[np.float64],
    *,
    scores: DeviceArray,
    landmarks: DeviceArray,
) -> None:
    """Move landmarks to where the refiner says, and lower scores to its own, in place; `detect.refine` says what it means.

    Args:
        lane: where.
        answers: float16 or float32 (F, 11) of the refiner.
        matrices: float64 (F, 2, 3), of `fit`.
        template: the refiner's, (5, 2).
        scores: float32 (F,).
        landmarks: float32 (F, 5, 2).
    """
    count = answers.shape[0]
    if answers.dtype not in (np.float16, np.float32):
        raise ValueError(f"answers must be float16 or float32, but their dtype is {answers.dtype}")
    check(answers, answers.dtype, (count, REFINEMENTS), "answers")
    check(matrices, np.float64, (count, 2, 3), "matrices")
    check(scores, np.float32, (count,), "scores")
    check(landmarks, np.float32, (count, 5, 2), "landmarks")
    arguments: list[Argument] = [answers, matrices, lane.put(_goal(template)), np.int32(count), scores, landmarks]
    lane.launch(f"fe_refine_{LETTER[answers.dtype]}", _blocks(count), arguments)


def _table(lane: Lane, photos: Sequence[DeviceArray]) -> tuple[DeviceArray, np.int32]:
    """Where the photos lie, as the kernels read it, and how many there are."""
    table = np.zeros(len(photos), _IMAGE)
    for index, photo in enumerate(photos):
        if photo.dtype != np.uint8 or len(photo.shape) != 3 or photo.shape[2] != 3 or photo.size == 0:
            raise ValueError(f"photos[{index}] must be uint8 (H, W, 3), but is {photo.dtype} {photo.shape}")
        height, width, _ = photo.shape
        if max(height, width) > _MAX_SIDE:
            raise ValueError(f"photos[{index}] must have at most {_MAX_SIDE} rows and columns, but is {photo.shape}")
        table[index] = (photo.pointer, height, width, 3 * width)
    return lane.put(table), np.int32(len(photos))


def check(array: DeviceArray, dtype: Any, shape: tuple[int, ...], name: str) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, but is {array.dtype} {array.shape}")


def _there(lane: Lane, array: NDArray[Any] | DeviceArray, dtype: Any, name: str) -> DeviceArray:
    """On the device; a host array is copied."""
    if isinstance(array, DeviceArray):
        return array
    if array.dtype != dtype:
        raise ValueError(f"{name} must be {np.dtype(dtype)}, but is {array.dtype}")
    return lane.put(array)


def _goal(template: NDArray[np.float64]) -> NDArray[np.float64]:
    goal = np.asarray(template, np.float64)
    if goal.shape != (5, 2):
        raise ValueError(f"template must have shape (5, 2), but has {goal.shape}")
    return goal


def _tiles(count: int, height: int, width: int) -> int:
    if height < 1 or width < 1:
        raise ValueError(f"a picture must have at least one row and column, but is {height} x {width}")
    return _limited(count * math.ceil(height / TILE) * math.ceil(width / TILE), count)


def _blocks(count: int) -> int:
    return _limited(math.ceil(count / BLOCK), count)


def _limited(blocks: int, count: int) -> int:
    if blocks > MAX_BLOCKS:
        raise ValueError(f"{count} items are too many for one launch ({blocks} blocks); split them")
    return blocks
