"""Faces that lie on their side or head: looked for where a photo shows no sure face as it is, in the photo turned by 90, 180 and 270 degrees.

Of the three the turn with the surest face is taken; what was found lies in the pixels of the photo as it is, and chips come out upright,
because landmarks say which way up a face is. On cards it is not done: photos without a face there stay without.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector

QUARTERS = (1, 2, 3)
"""Turns of a photo's pixels against the clock, in steps of 90 degrees."""
SIDE = 160
"""Longer side in pixels of the copies that are turned and looked at: what is found in them is made exact in the photo's own pixels. In copies
of the photo's size it cost three times as much."""
TAKEN = 0.75
"""Score from which on a face in a turned photo is taken."""
# Chosen with `faceembed-align` on 210 photos of training people of `people_wild` and 205 pictures of `no_faces`, training half: in a turned
# picture without a person 1 scores as much (2 score 0.7, 1 scores 0.8), and 97 % of faces do (98.5, 95). Upside down, 12 % of these faces
# score as sure upright ones: `upside_down` is for them.


def look_again(
    detector: Detector,
    photos: Sequence[NDArray[np.uint8]],
    smallest: Sequence[float],
    faces: Detections,
    *,
    only_largest: bool,
) -> Detections:
    """Look at the photos without a sure face once more, turned.

    Args:
        detector: finds upright faces.
        photos: uint8 RGB (H, W, 3), as they were looked at.
        smallest: for each the smallest face wanted, as a side in its pixels.
        faces: found in them as they are.
        only_largest: as for `Detector.detect`.

    Returns:
        The faces of all photos: of those where a turn shows a surer face, that turn's.
    """
    least = np.float32(max(TAKEN, detector.min_score))
    best = np.zeros(len(photos), np.float32)
    np.maximum.at(best, faces.photo, faces.scores)
    sure = (best >= np.float32(detector.min_score)) & (best > 0)
    if sure.all():
        return faces
    host = [index for index in np.flatnonzero(~sure).tolist() if isinstance(photos[index], np.ndarray)]
    looked = [(index, quarter) for index in host for quarter in QUARTERS]
    if not looked:
        return faces
    small = {index: _small(photos[index]) for index, _ in looked}
    turned = [np.ascontiguousarray(np.rot90(small[index], quarter)) for index, quarter in looked]
    sides = [smallest[index] * len(small[index]) / len(photos[index]) for index, _ in looked]
    seen = detector.glance(turned, sides, float(least))
    if only_largest and len(seen):
        seen = seen.largest(np.array([photo.shape[1::-1] for photo in turned], np.float64), detector.min_score)
    found: dict[int, Detections] = {}
    for place in np.unique(seen.photo).tolist():
        (index, quarter), mine = looked[place], seen.take(seen.photo == place)
        if mine.scores.max() > (found[index].scores.max() if index in found else 0):
            (height, width), photo = small[index].shape[:2], photos[index]
            mine = turned_back(mine, quarter, width, height, photo=0)
            zoom = np.array((photo.shape[1] / width, photo.shape[0] / height), np.float32)
            mine = Detections(
                mine.photo, mine.boxes * np.tile(zoom, 2), mine.landmarks * zoom, mine.scores, mine.beside
            )
            exact = detector.sharpened(photo, mine)
            found[index] = Detections(
                mine.photo + np.int32(index), mine.boxes, exact.landmarks, mine.scores, mine.beside
            )
    if not found:
        return faces
    return joined([faces.take(~np.isin(faces.photo, list(found))), *found.values()])


def _small(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo of no more than `SIDE` pixels."""
    height, width = photo.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return photo
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def turned_back(faces: Detections, quarter: int, width: int, height: int, *, photo: int) -> Detections:
    """Faces of a turned photo in pixels of the photo as it is.

    Args:
        faces: in pixels of ``np.rot90(pixels, quarter)``.
        quarter: 0 to 3.
        width, height: of the photo as it is.
        photo: its index.
    """
    corners = _points_back(faces.boxes.reshape(-1, 2, 2), quarter, width, height)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    landmarks = _points_back(faces.landmarks, quarter, width, height)
    return Detections(np.full(len(faces), photo, np.int32), boxes, landmarks, faces.scores, faces.beside)


def _points_back(points: NDArray[np.float32], quarter: int, width: int, height: int) -> NDArray[np.float32]:
    x, y = points[..., 0], points[..., 1]
    back = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[quarter % 4]
    return np.asarray(np.stack(back, axis=-1), np.float32)


def joined(parts: Sequence[Detections]) -> Detections:
    """All faces of ``parts``, by photo, with `Detections.beside` where all have it."""
    whole = Detections.concatenate(list(parts))
    besides = [part.beside for part in parts if part.beside is not None]
    beside = np.concatenate(besides) if len(besides) == len(parts) else None
    whole = Detections(whole.photo, whole.boxes, whole.landmarks, whole.scores, beside)
    return whole.take(np.lexsort((-whole.scores, whole.photo)))
