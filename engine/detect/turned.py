"""Faces that lie on their side or head: looked for where a photo shows no sure face as it is, in the photo turned by 90, 180 and 270 degrees.

Of the three the turn with the surest face is taken; what was found lies in the pixels of the photo as it is, and chips come out upright,
because landmarks say which way up a face is. Upside down a face often scores as a doubtful upright one, so that photos whose best face
is sure and doubtful are looked at upside down as well. On cards it is not done: photos without a face there stay without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector

QUARTERS = (1, 2, 3)
"""Turns of a photo's pixels against the clock, in steps of 90 degrees."""
DOUBTFUL = 0.8
"""Score below which a sure face may be one that stands on its head: the photo is looked at upside down as well."""
TAKEN = 0.75
"""Score from which on a face in a turned photo is taken."""
# Both chosen with `faceembed-align` on 210 photos of training people of `people_wild` and 205 pictures of `no_faces`, training half. Of
# the first, upside down, 12 % score as sure upright faces, most of them below 0.8; as they are, 4.8 % are looked at upside down for it, and
# none is taken for it. In a turned picture without a person 1 scores 0.75 (2 score 0.7, 1 scores 0.8); 97 % of faces do (98.5, 95).


def look_again(
    detector: Detector,
    photos: Sequence[NDArray[np.uint8]],
    smallest: Sequence[float],
    faces: Detections,
    *,
    only_largest: bool,
) -> Detections:
    """Look at the photos without a sure face once more, turned; and at those with a doubtful one, upside down.

    Args:
        detector: finds upright faces.
        photos: uint8 RGB (H, W, 3), as they were looked at.
        smallest: for each the smallest face wanted, as a side in its pixels.
        faces: found in them as they are.
        only_largest: as for `Detector.detect`.

    Returns:
        The faces of all photos: of those where a turn shows a surer face, that turn's.
    """
    least, doubtful = (np.float32(max(score, detector.min_score)) for score in (TAKEN, DOUBTFUL))
    best = np.zeros(len(photos), np.float32)
    np.maximum.at(best, faces.photo, faces.scores)
    if not (best < doubtful).any():
        return faces
    best[[not isinstance(photo, np.ndarray) for photo in photos]] = 1  # pixels on a card
    sure = (best >= np.float32(detector.min_score)) & (best > 0)
    found: dict[int, Detections] = {}
    for quarter in QUARTERS:
        looked = np.flatnonzero(best < doubtful if quarter == 2 else ~sure).tolist()
        if not looked:
            continue
        turned = [np.ascontiguousarray(np.rot90(photos[index], quarter)) for index in looked]
        seen = detector.detect(turned, [smallest[index] for index in looked], only_largest=only_largest)
        seen = seen.take(seen.scores >= least)
        for place in np.unique(seen.photo).tolist():
            index, mine = looked[place], seen.take(seen.photo == place)
            if mine.scores.max() > (found[index].scores.max() if index in found else best[index]):
                height, width = photos[index].shape[:2]
                found[index] = turned_back(mine, quarter, width, height, photo=index)
    if not found:
        return faces
    return joined([faces.take(~np.isin(faces.photo, list(found))), *found.values()])


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
