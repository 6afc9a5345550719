"""Where on a canvas photos are shown, and where their boxes come to lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def cut(side: int, cuts: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Cut a square into cells (top, left, bottom, right), each time the largest one, across its longer side."""
    cells = [(0, 0, side, side)]
    for _ in range(cuts):
        cells.sort(key=lambda cell: (cell[2] - cell[0]) * (cell[3] - cell[1]))
        top, left, bottom, right = cells.pop()
        share = rng.uniform(0.3, 0.7)
        if bottom - top >= right - left:
            middle = top + round(share * (bottom - top))
            cells += [(top, left, middle, right), (middle, left, bottom, right)]
        else:
            middle = left + round(share * (right - left))
            cells += [(top, left, bottom, middle), (top, middle, bottom, right)]
    return cells


def crop(side: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The part of a canvas that a tight crop takes (top, left, bottom, right): most often at its upper left, where photos are put."""
    height, width = np.round(side * np.exp(rng.uniform(np.log(0.35), 0, 1)) * np.exp(rng.uniform(-0.3, 0.3, 2)))
    height, width = (int(np.clip(part, 32, side)) for part in (height, width))
    top, left = (0, 0) if rng.random() < 0.5 else (int(rng.integers(side - part + 1)) for part in (height, width))
    return top, left, top + height, left + width


def map_boxes(boxes: Floats, matrix: NDArray[np.float64]) -> Floats:
    """Boxes after a similarity: the same sides about the mapped centre, so that a turned face's box does not grow."""
    if not len(boxes):
        return boxes.reshape(0, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    scale = np.linalg.norm(matrix[:, :2], axis=0)  # of x and of y
    half = (boxes[:, 2:] - boxes[:, :2]) * scale / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
