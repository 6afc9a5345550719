"""Faces cut out of their photos as the middle third of a square, to be looked at once more: turned over (`upside_down`) or mirrored (`confirm`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceembed.engine.detect.boxes import paired_overlaps
from faceembed.engine.detect.detections import Detections

_SAME = 0.3  # intersection over union with the middle third, from which on it is that face


def cuts(faces: Detections, side: int, signs: ArrayLike) -> NDArray[np.float64]:
    """(F, 2, 3) from pixels of what is cut out to pixels of the photos, centres at whole numbers.

    Args:
        faces: in pixels of their photos.
        side: of what is cut out, in pixels.
        signs: (F, 2) or (2,): -1 where x or y is mirrored, else 1.
    """
    centres = (faces.boxes[:, :2].astype(np.float64) + faces.boxes[:, 2:]) / 2 - 0.5
    zoom = np.maximum(faces.sides().astype(np.float64), 1) * 3 / side
    matrices = np.zeros((len(faces), 2, 3))
    matrices[:, [0, 1], [0, 1]] = zoom[:, None] * np.asarray(signs)
    matrices[:, :, 2] = centres - matrices[:, :, :2].sum(axis=2) * (side - 1) / 2
    return matrices


def in_the_middle(boxes: NDArray[np.float32], side: int) -> NDArray[np.bool_]:
    """(F,) whether boxes (F, 4) found in what was cut out are of the face that it was cut for."""
    third = side / 3
    return paired_overlaps(boxes, np.array([third, third, 2 * third, 2 * third], np.float32)) > _SAME
