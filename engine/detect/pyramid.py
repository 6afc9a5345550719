"""Packs scaled copies of photos onto canvases of a few fixed sizes, so that a whole batch runs as one shape.

A 12x12 window on a copy whose longer side is S pixels sees faces of 12/S of the photo's longer side. Level k has
S = 96 * 2^(k/2). The levels that find faces from a quarter of the photo up to ones larger than it share one mosaic, the
next two another; each finer level has canvases of its own. Around every copy is a grey margin, into which faces may hang
over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.native import _native

WINDOW = 12  # side of PNet's window in pixels
STRIDE = 2  # pixels between windows
GREY = 128
MARGIN = 4  # pixels around each copy; even, so that windows of all copies lie on one grid
BASE = 96
MOSAICS = ((-2, -3, -4, -5, -6, -7), (0, -1))
"""The levels of the first two rounds, each finest first; they always run."""


def level_side(level: int) -> int:
    """The longer side, in pixels, of a photo's copy at a level."""
    return round(BASE * 2 ** (level / 2))


def finest_level(longer_side: float, min_face: float) -> int:
    """The level that finds faces of ``min_face`` pixels in a photo of ``longer_side`` pixels; at least 0."""
    return max(0, math.ceil(2 * math.log2(WINDOW * longer_side / (min_face * BASE)) - 1e-6))


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one level's copy lies on a canvas: top-left corner and the space reserved, in pixels."""

    level: int
    y: int
    x: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """A canvas and its slots."""

    height: int
    width: int
    slots: tuple[Slot, ...]

    def slot_of_window(self) -> NDArray[np.int8]:
        """(rows, columns) of PNet's output: the slot that holds a window's centre, or -1."""
        rows, columns = ((side - WINDOW) // STRIDE + 1 for side in (self.height, self.width))
        centre_y = np.arange(rows)[:, None] * STRIDE + WINDOW / 2
        centre_x = np.arange(columns)[None, :] * STRIDE + WINDOW / 2
        owner = np.full((rows, columns), -1, np.int8)
        for index, slot in enumerate(self.slots):
            inside_y = (centre_y >= slot.y) & (centre_y < slot.y + slot.height)
            inside_x = (centre_x >= slot.x) & (centre_x < slot.x + slot.width)
            owner[inside_y & inside_x] = index
        return owner


def largest_of_level(level: int, longer_side: float) -> float:
    """The largest face left to a level, as a side in pixels of the photo: half a step above its window.

    Larger ones lie nearer to the window of the next coarser level.
    """
    return 2**0.25 * WINDOW * longer_side / level_side(level)


def mosaic(levels: tuple[int, ...]) -> Layout:
    """Several levels, finest first, on one canvas: the largest at the left, the others stacked in columns beside it."""
    slots: list[Slot] = []
    x, y, column, bottom = MARGIN, MARGIN, 0, MARGIN + _even(level_side(levels[0])) + MARGIN
    for level in levels:
        side = _even(level_side(level))
        if y + side + MARGIN > bottom:
            x, y, column = x + column + MARGIN, MARGIN, 0
        slots.append(Slot(level, y, x, side, side))
        column = max(column, side)
        y += side + MARGIN
    return Layout(bottom, x + column + MARGIN, tuple(slots))


def single(level: int, height: int, width: int) -> Layout:
    """One level on a canvas of its own, in the smallest of three shapes (4:4, 3:4, 4:3) that the photo fits."""
    side = level_side(level)
    short = -(-side * 3 // 4)
    rows = side if height * 4 > width * 3 else short
    columns = side if width * 4 > height * 3 else short
    slot = Slot(level, MARGIN, MARGIN, _even(rows), _even(columns))
    return Layout(slot.height + 2 * MARGIN, slot.width + 2 * MARGIN, (slot,))


def paint(layout: Layout, photos: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Scale photos onto canvases.

    Args:
        layout: where each level goes.
        photos: uint8 RGB (H, W, 3), any sizes that fit the layout's shape.

    Returns:
        canvases: uint8 (N, height, width, 3).
        scales: float64 (N, slots, 2) canvas pixels per photo pixel, x then y.
    """
    canvases = np.full((len(photos), layout.height, layout.width, 3), GREY, np.uint8)
    scales = np.empty((len(photos), len(layout.slots), 2))
    for index, photo in enumerate(photos):
        height, width = photo.shape[:2]
        source = photo
        for number, slot in enumerate(layout.slots):
            factor = level_side(slot.level) / max(height, width)
            rows = min(max(1, round(height * factor)), slot.height)
            columns = min(max(1, round(width * factor)), slot.width)
            _native.resize_into(source, canvases[index], slot.y, slot.x, rows, columns)
            scales[index, number] = columns / width, rows / height
            # the next, smaller copy is made from this one: 2^(1/2) a step, so nothing aliases and little blurs
            source = canvases[index, slot.y : slot.y + rows, slot.x : slot.x + columns]
            source = np.ascontiguousarray(source)
    return canvases, scales


def _even(side: int) -> int:
    return side + side % 2
