"""Doubtful faces are looked at once more, each cut out and shown large: what was no face seldom looks like one then, and faces do.

Of every face of a photo, small ones are asked for, and what has the size of a face by chance is many times as frequent as faces of that size.
Each doubtful one is shown as it is and mirrored, `SIDE` pixels with the face as the middle third.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector, Photos
from faceembed.engine.detect.middle_third import cuts, in_the_middle
from faceembed.engine.native import _native

SIDE = 160
"""Pixels of what is cut out: the side of the first look, so that it is shown as it is."""
DOUBT = 0.83
"""Score below which a face is looked at again."""
LESS = 0.1
"""What a face must score more in the second look, in the mean of both sides, than in the first: large and in the middle it is easy to see.

Both chosen with `faceembed-align` on 40 group photos, people of LFW outside of its pair list on training pictures of no_faces (1,315 faces
found, 245 of them below 0.83; 22 false ones): at least 0.7 in the second look lost no face, and 20 of those that were none. 0.75 lost one;
without the mirrored look, or shown at half the size, 2 to 4 more stayed or went. On 100 other photos of test pictures: 11 of 1,856 faces missed as before, 1 false one in place of 30, for 7 % of detection's time."""


def confirmed(detector: Detector, photos: Photos, faces: Detections) -> Detections:
    """The same faces, in the same order, with the scores of doubtful ones lowered where a second look is less sure.

    Args:
        detector: that found them.
        photos: uint8 RGB (H, W, 3), in which they were found.
        faces: in pixels of ``photos``.
    """
    scores = faces.scores
    doubtful = np.flatnonzero((scores < np.float32(DOUBT)) & (scores >= np.float32(detector.min_score)))
    if not len(doubtful):
        return faces
    both = faces.take(np.repeat(doubtful, 2))
    signs = np.tile([(1, 1), (-1, 1)], (len(doubtful), 1))  # every second one is mirrored
    shown = _native.warp_many(
        list(photos), both.photo, cuts(both, SIDE, signs), SIDE, SIDE, border="constant", threads=1, exact=True
    )
    seen = detector.detect(list(shown), [SIDE / 6] * len(shown), only_largest=False)
    seen = seen.take(in_the_middle(seen.boxes, SIDE))
    again = np.zeros(len(both), np.float32)
    np.maximum.at(again, seen.photo, seen.scores)
    lowered = scores.copy()
    lowered[doubtful] = np.minimum(
        scores[doubtful], np.maximum(again.reshape(-1, 2).mean(axis=1) - np.float32(LESS), 0)
    )
    return dataclasses.replace(faces, scores=lowered)
