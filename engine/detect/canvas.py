"""Photos on canvases of a few shapes, for networks that take any size that is a multiple of 32.

A photo is never enlarged. Its copy lies in the top-left corner of the smallest canvas that holds it, whose sides are rounded up
so that photos of a set share few shapes: a runtime prepares its kernels anew for every shape it meets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.native import _native

STEP = 32  # pixels
GREY = 128


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sides of a canvas in pixels."""

    height: int
    width: int


def shape_for(height: int, width: int, *, side: float, step: int = STEP) -> Shape:
    """The canvas for a photo shown with a longer side of ``side`` pixels: square, or 3/4 as high or as wide.

    The longer side is a multiple of ``step``, itself one of `STEP`.
    """
    longer = _up(side, step)
    shorter = _up(longer * 3 / 4, STEP)
    rows, columns = copy_size(height, width, side)
    return Shape(shorter if rows <= shorter else longer, shorter if columns <= shorter and rows > shorter else longer)


def square_for(side: float) -> Shape:
    """The square canvas for a photo shown with a longer side of ``side`` pixels, whatever its form: one shape for all photos of a set."""
    longer = _up(side, STEP)
    return Shape(longer, longer)


def paint(
    shape: Shape, photos: Sequence[NDArray[np.uint8]], sides: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Scale photos onto canvases.

    Args:
        shape: of the canvases.
        photos: uint8 RGB (H, W, 3) that fit it.
        sides: (N,) the longer side of each photo's copy in pixels.

    Returns:
        canvases: uint8 (N, height, width, 3).
        scales: float64 (N, 2) canvas pixels per photo pixel, x then y.
    """
    sizes = [
        copy_size(photo.shape[0], photo.shape[1], side) for photo, side in zip(photos, sides.tolist(), strict=True)
    ]
    copies = np.array(sizes, np.int32).reshape(-1, 2)
    canvases = _native.paint(list(photos), copies, shape.height, shape.width, grey=GREY, exact=False)
    whole = np.array([photo.shape[1::-1] for photo in photos], np.float64).reshape(-1, 2)
    return canvases, copies[:, ::-1] / whole


def copy_size(height: int, width: int, side: float) -> tuple[int, int]:
    factor = side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _up(side: float, step: int) -> int:
    return math.ceil(side / step - 1e-6) * step
