"""Heads that are tilted or thrown back: looked for where neither a photo as it is nor its quarter turns show a sure face, in the photo tilted a little.

What was found lies in the photo's own pixels, and chips come out upright, as for `turned`. Of the photos of `people_wild` in which nothing
sure was found, most show a head laid on a shoulder or seen from the side; both look more like faces when they are brought upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.confirm import confirmed
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.turned import joined

TILTS = (30, -30)
"""Degrees against the clock."""
SIDE = 320
"""Side in pixels of the square in which a copy is tilted."""
MARGIN = 1.2
"""How often the copy's longer side goes into that: its corners leave the square where it is large and square itself."""
TAKEN = 0.7
"""Score from which on a face in a tilted photo is asked for once more, as doubtful ones of all faces are (`confirm`); taken if it stays sure."""
# Chosen with `faceembed-align` on the 24 photos of training people of `people_wild` without a sure face after quarter turns, and 191 pictures of
# `no_faces`, training half: 5 found and nothing in pictures without people; unasked from 0.75 on 7, and in 1 picture. Unasked, tilts of 20 and 40
# degrees find 5 and 6, a margin of 1 finds 4. Of the 5 photos of other people that were left 4 are found,
# and nothing in 202 other pictures without people. A photo that is looked at costs 13 ms, and 1.2 % of `people_wild` are.
_GREY = (128, 128, 128)


def look_tilted(
    detector: Detector,
    photos: Sequence[NDArray[np.uint8]],
    smallest: Sequence[float],
    faces: Detections,
    *,
    only_largest: bool,
) -> Detections:
    """Look at the photos without a sure face once more, tilted; arguments and result as for `turned.look_again`."""
    best = np.zeros(len(photos), np.float32)
    np.maximum.at(best, faces.photo, faces.scores)
    unsure = (best < np.float32(detector.min_score)) | (best == 0)
    looked = [
        (index, tilt)
        for index in np.flatnonzero(unsure).tolist()
        if isinstance(photos[index], np.ndarray)
        for tilt in TILTS
    ]
    if not looked:
        return faces
    matrices = [_matrix(photos[index], tilt) for index, tilt in looked]
    shown = [_shown(photos[index], matrix) for (index, _), matrix in zip(looked, matrices, strict=True)]
    sides = [smallest[index] * _zoom(matrix) for (index, _), matrix in zip(looked, matrices, strict=True)]
    seen = detector.glance(shown, sides, max(TAKEN, detector.min_score))
    seen = confirmed(detector, shown, seen)
    seen = seen.take(seen.scores >= np.float32(detector.min_score))
    if only_largest and len(seen):
        seen = seen.largest(np.array([picture.shape[1::-1] for picture in shown], np.float64), detector.min_score)
    found: dict[int, Detections] = {}
    for place in np.unique(seen.photo).tolist():
        index, mine = looked[place][0], seen.take(seen.photo == place)
        if mine.scores.max() > (found[index].scores.max() if index in found else 0):
            mine = _back(mine, matrices[place])
            exact = detector.sharpened(photos[index], mine)
            found[index] = Detections(
                mine.photo + np.int32(index), mine.boxes, exact.landmarks, mine.scores, mine.beside
            )
    if not found:
        return faces
    return joined([faces.take(~np.isin(faces.photo, list(found))), *found.values()])


def _matrix(photo: NDArray[np.uint8], tilt: float) -> NDArray[np.float64]:
    """(2, 3) from pixels of the photo to those of the tilted copy, centres at whole numbers; the middle stays the middle."""
    height, width = photo.shape[:2]
    longer = max(height, width)
    side = min(SIDE, longer)
    zoom = side / (MARGIN * longer)
    matrix = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), tilt, zoom), np.float64)
    matrix[:, 2] += (side - 1) / 2 - np.array([(width - 1) / 2, (height - 1) / 2])
    return matrix


def _zoom(matrix: NDArray[np.float64]) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _shown(photo: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The tilted copy, a square. A photo that is made much smaller is averaged first, as a warp takes single pixels."""
    side = min(SIDE, max(photo.shape[:2]))
    factor = int(MARGIN * max(photo.shape[:2]) // side)
    if factor > 1:
        height, width = (max(1, length // factor) for length in photo.shape[:2])
        small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        zoom = np.array([photo.shape[1] / width, photo.shape[0] / height])
        # A pixel's centre at a whole number: x of the photo is (x of the copy + 0.5) * zoom - 0.5.
        matrix = np.concatenate(
            [matrix[:, :2] * zoom, matrix[:, 2:] + matrix[:, :2] @ ((zoom - 1) / 2)[:, None]], axis=1
        )
        photo = np.asarray(small, np.uint8)
    tilted = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=_GREY)
    return np.asarray(tilted, np.uint8)


def _back(faces: Detections, matrix: NDArray[np.float64]) -> Detections:
    """Faces of a tilted copy in the photo's pixels, all of its only photo. Boxes keep their middle and their sides: they are not tilted."""
    inverse = np.linalg.inv(matrix[:, :2])

    def back(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        placed: NDArray[np.float64] = (points - 0.5 - matrix[:, 2]) @ inverse.T + 0.5
        return placed

    middles = back((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2)
    halves = (faces.boxes[:, 2:] - faces.boxes[:, :2]) / (2 * _zoom(matrix))
    boxes = np.concatenate([middles - halves, middles + halves], axis=1)
    return Detections(
        np.zeros(len(faces), np.int32),
        boxes.astype(np.float32),
        back(faces.landmarks).astype(np.float32),
        faces.scores,
        faces.beside,
    )
