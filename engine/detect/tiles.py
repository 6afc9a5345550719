"""Every face of a photo, the small ones too: large photos are looked at whole for large faces, and in tiles for small ones.

+-----------+--+            a tile reaches into its neighbours by `OVERLAP`, so that a face of up to that size is whole in
|           |  |            one of them; the tile answers for the faces whose centre is nearest to its own middle part
+--------+--+--+---
|        |  |
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector, Photos
from faceembed.engine.native import _native

TILE = 1024
"""Longest side of a tile, in decoded pixels; a photo that is no longer is looked at whole."""
OVERLAP = 128
"""Pixels that neighbours share; the largest face that is taken from a tile."""
COARSE = 0.6
"""Of `OVERLAP`: the smallest face that is looked for in a photo as a whole, so that both looks see those of about that size."""
FINER = 0.75
"""Of the smallest side wanted: what is looked for in its place, as detectors miss some of the smallest faces that they can find.

Chosen on 40 group photos, people of LFW outside of its pair list on training pictures of no_faces: of 940 faces of 40 px and more 1.0
misses 22, 0.75 and 0.6 miss 5, with 21, 22 and 28 false ones, in 0.15, 0.19 and 0.19 s a photo.
"""
_SAME = 0.45  # intersection over union of boxes that are one face
_WITHIN = 0.9  # of a box's area that lies in one four times as large or more: no face, but a part of that one


def detect_every(detector: Detector, photos: Photos, smallest: Sequence[float]) -> Detections:
    """All faces, from the smallest wanted.

    Args:
        detector: of any kind.
        photos: uint8 RGB (H, W, 3), any sizes.
        smallest: for each photo the smallest face wanted, as a side in its pixels.

    Returns:
        The faces, in pixels of ``photos``; of each photo by falling score.
    """
    wanted = np.asarray(smallest, np.float32)
    large = [max(photo.shape[:2]) > TILE and wanted[index] < OVERLAP for index, photo in enumerate(photos)]
    coarse = np.where(large, np.maximum(wanted, COARSE * OVERLAP), wanted)
    parts = [detector.detect(photos, (FINER * coarse).tolist(), only_largest=False)]
    for index in np.flatnonzero(large).tolist():
        parts.append(_small_faces(detector, photos[index], float(wanted[index]), index))
    faces = Detections.concatenate(parts)
    if len(parts) > 1:
        faces = faces.take(_native.nms(faces.boxes, faces.scores, faces.photo, _SAME, "union"))
        faces = faces.take(~_parts_of_others(faces))
    faces = faces.take(faces.sides() >= wanted[faces.photo])
    return faces.take(np.lexsort((-faces.scores, faces.photo)))


def _small_faces(detector: Detector, photo: NDArray[np.uint8], smallest: float, index: int) -> Detections:
    """The faces of up to `OVERLAP` pixels of one photo, which is number ``index``."""
    height, width = photo.shape[:2]
    parts = []
    for top, bottom in spans(height):
        for left, right in spans(width):
            tile = np.ascontiguousarray(photo[top:bottom, left:right])
            found = detector.detect([tile], [FINER * smallest], only_largest=False)
            shift = np.array([left, top], np.float32)
            boxes, landmarks = found.boxes + np.tile(shift, 2), found.landmarks + shift
            x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
            half = OVERLAP / 2
            mine = (x >= left + half * (left > 0)) & (x < right - half * (right < width))
            mine &= (y >= top + half * (top > 0)) & (y < bottom - half * (bottom < height))
            mine &= found.sides() <= OVERLAP
            parts.append(Detections(found.photo + np.int32(index), boxes, landmarks, found.scores).take(mine))
    return Detections.concatenate(parts)


def spans(length: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along a side, as even as they can be."""
    count = max(1, math.ceil((length - OVERLAP) / (TILE - OVERLAP)))
    size = math.ceil((length + (count - 1) * OVERLAP) / count)
    starts = [round(at * (length - size) / max(1, count - 1)) for at in range(count)]
    return [(start, start + size) for start in starts]


def _parts_of_others(faces: Detections) -> NDArray[np.bool_]:
    """(F,) whether a face lies in another that is much larger and as sure: an eye, or a mouth, that a tile showed alone."""
    dropped = np.zeros(len(faces), np.bool_)
    for photo in np.unique(faces.photo):
        mine = np.flatnonzero(faces.photo == photo)
        boxes, areas = faces.boxes[mine], faces.sides()[mine] ** 2
        big = np.flatnonzero(areas >= OVERLAP**2)
        for one in big.tolist():
            low = np.maximum(boxes[:, :2], boxes[one, :2])
            high = np.minimum(boxes[:, 2:], boxes[one, 2:])
            shared = np.maximum(high - low, 0).prod(axis=1)
            inside = (
                (shared >= _WITHIN * areas)
                & (areas * 4 <= areas[one])
                & (faces.scores[mine] <= faces.scores[mine][one])
            )
            dropped[mine[inside]] = True
    return dropped
