"""A second look at what was found: each face is cut out upright, at one size, for a small network.

The network's output `refined` (N, 11) says whether the crop shows a face, as a logit, and how far, in pixels of the crop, each
landmark lies from where `TEMPLATE` has it: x and y of left eye, right eye, nose tip, left and right mouth corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.models.oneshot import REFINED_SIDE
from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.engine.native import _native
from faceembed.engine.runtimes.base import Session
from faceembed.engine.runtimes.batching import run_in_chunks

EYES = 15.0  # distance of the template's eyes in pixels, which leaves room around the face for landmarks that are off


def _template() -> NDArray[np.float64]:
    points: NDArray[np.float64] = np.array(ARCFACE_TEMPLATE)
    points = points - points.mean(axis=0)
    placed: NDArray[np.float64] = points * (EYES / (points[1, 0] - points[0, 0])) + (REFINED_SIDE - 1) / 2
    return placed


TEMPLATE = _template()
"""(5, 2) where the landmarks lie in a crop, pixel centres at whole numbers: ArcFace's template, smaller and in the middle."""


def refine(session: Session, photos: Sequence[NDArray[np.uint8]], faces: Detections) -> Detections:
    """The same faces with exact landmarks, and scores that are the lower of theirs and the network's.

    Args:
        session: the network.
        photos: uint8 RGB (H, W, 3) that the faces were found in.
        faces: landmarks good to a tenth of the eyes' distance.
    """
    points = np.ascontiguousarray(faces.landmarks, np.float64) - 0.5
    matrices = _native.fit_similarity(points, TEMPLATE)
    sound = np.flatnonzero(np.isfinite(matrices).all(axis=(1, 2)))
    if len(sound) == 0:
        return Detections(faces.photo, faces.boxes, faces.landmarks, np.zeros(len(faces), np.float32))
    matrices = np.ascontiguousarray(matrices[sound])
    crops = _native.warp_many(
        list(photos), np.ascontiguousarray(faces.photo[sound]), matrices, REFINED_SIDE, REFINED_SIDE, exact=False
    )
    (answers,) = run_in_chunks(session, crops, chunk=64, step=8)
    exact = TEMPLATE + answers[:, 1:].reshape(-1, 5, 2)  # crop pixels
    placed = exact @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]
    landmarks = faces.landmarks.copy()
    landmarks[sound] = placed + 0.5
    scores = np.zeros(len(faces), np.float32)  # landmarks that span no face are none
    scores[sound] = np.minimum(faces.scores[sound], 1 / (1 + np.exp(-np.clip(answers[:, 0], -80, 80))))
    return Detections(faces.photo, faces.boxes, landmarks, scores)
