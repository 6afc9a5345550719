"""Boxes beside boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of (K, 4) with (F, 4) boxes, each x1, y1, x2, y2 in pixels: (K, F) float32."""
    return paired_overlaps(boxes[:, None], others[None])


def paired_overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of (..., 4) with (..., 4) boxes, each with its own partner: (...) float32."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1)
    area, other = ((b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (boxes, others))
    overlap: NDArray[np.float32] = shared / np.maximum(area + other - shared, 1e-6)
    return overlap
