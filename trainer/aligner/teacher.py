"""Face labels from a detector that exists: what it finds in several views of a photo, alike, is a face.

Each photo is shown smaller, as it is and larger, each time also mirrored. Detections of all views that lie on one another are
one candidate; one that most views agree on is a face, whose box and landmarks are the means of what the views say (a single
view's landmarks are off by 1 to 2 % of the eyes' distance; means are closer). Any other candidate is doubtful.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.boxes import overlaps
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.native import _native
from faceembed.trainer.aligner.labels import LabelledPhoto

Photo = NDArray[np.uint8]
MIRRORED = np.array([1, 0, 2, 4, 3])  # the landmarks of a mirrored face, in the order of an upright one


@dataclasses.dataclass(frozen=True)
class TeacherSettings:
    """How the views are made and how far they must agree."""

    scales: tuple[float, ...] = (0.7, 1.0, 1.4)
    """Of the views; each is also shown mirrored."""
    agree: float = 0.66
    """Share of the views that must show a face."""
    score: float = 0.9
    """Least mean score of a face."""
    spread: float = 0.1
    """Most that a view's landmarks may be off the mean, on the average over views, in units of the eyes' distance."""
    overlap: float = 0.4
    """Intersection over union of boxes that are one candidate."""
    min_face: float = 14.0
    """Smallest face looked for, as a side in pixels."""


def label(
    detector: Detector, paths: Sequence[str], photos: Sequence[Photo], *, group: str, settings: TeacherSettings
) -> list[LabelledPhoto]:
    """Label photos.

    Args:
        detector: the teacher.
        paths: of the photos, for the labels.
        photos: uint8 RGB (H, W, 3).
        group: the set they belong to.
        settings: views and thresholds.
    """
    everything, view, count = views(detector, photos, settings)
    labels = []
    for index, path in enumerate(paths):
        mine = np.flatnonzero(everything.photo == index)
        labels.append(_agree(path, group, everything.take(mine), view[mine], count, settings))
    return labels


def views(
    detector: Detector, photos: Sequence[Photo], settings: TeacherSettings
) -> tuple[Detections, NDArray[np.int64], int]:
    """What a detector finds in all views: the detections, which view each is of, and how many views there were."""
    seen = [
        _look(detector, photos, scale, mirrored, settings.min_face)
        for scale in settings.scales
        for mirrored in (False, True)
    ]
    return Detections.concatenate(seen), np.repeat(np.arange(len(seen)), [len(found) for found in seen]), len(seen)


def _look(detector: Detector, photos: Sequence[Photo], scale: float, mirrored: bool, min_face: float) -> Detections:
    """One view of each photo; the detections lie where they would in the photos themselves."""
    shown = []
    for photo in photos:
        height, width = photo.shape[:2]
        if scale != 1:
            photo = _native.resize(photo, max(round(height * scale), 1), max(round(width * scale), 1))
        shown.append(np.ascontiguousarray(photo[:, ::-1]) if mirrored else photo)
    found = detector.detect(shown, [min_face * scale] * len(photos), only_largest=False)
    size = np.array([photo.shape[1::-1] for photo in photos], np.float32)[found.photo].reshape(-1, 2)
    seen = np.array([photo.shape[1::-1] for photo in shown], np.float32)[found.photo].reshape(-1, 2)
    boxes = found.boxes * np.tile(size / seen, 2)
    landmarks = found.landmarks * (size / seen)[:, None]
    if mirrored:
        boxes[:, [0, 2]] = size[:, :1] - boxes[:, [2, 0]]
        landmarks = landmarks[:, MIRRORED]
        landmarks[..., 0] = size[:, :1] - landmarks[..., 0]
    return Detections(found.photo, boxes, landmarks, found.scores)


def _agree(
    path: str, group: str, found: Detections, view: NDArray[np.int64], views: int, settings: TeacherSettings
) -> LabelledPhoto:
    """Sort one photo's detections into faces and doubtful boxes."""
    faces: list[NDArray[np.float32]] = []
    points: list[NDArray[np.float32]] = []
    doubtful: list[NDArray[np.float32]] = []
    left = np.argsort(-found.scores, kind="stable")
    while len(left):
        near = overlaps(found.boxes[left[0]][None], found.boxes[left])[0] >= settings.overlap
        near[0] = True
        members = left[near]
        left = left[~near]
        _, first = np.unique(view[members], return_index=True)  # a view's best detection alone counts
        members = members[first]
        landmarks = found.landmarks[members]
        middle = landmarks.mean(axis=0)
        eyes = max(float(np.linalg.norm(middle[0] - middle[1])), 1e-6)
        spread = float(np.linalg.norm(landmarks - middle, axis=2).mean()) / eyes
        box = found.boxes[members].mean(axis=0)
        sure = (
            len(members) >= settings.agree * views
            and float(found.scores[members].mean()) >= settings.score
            and spread <= settings.spread
        )
        if sure:
            faces.append(box)
            points.append(middle)
        else:
            doubtful.append(box)
    return LabelledPhoto(
        path,
        group,
        np.array(faces, np.float32).reshape(-1, 4),
        np.array(points, np.float32).reshape(-1, 5, 2),
        np.array(doubtful, np.float32).reshape(-1, 4),
    )
