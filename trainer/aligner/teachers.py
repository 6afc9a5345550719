"""Face labels from several detectors: what two of them are sure of, each by itself, is a face.

Each teacher sees a photo in views, as `teacher` shows them, and is sure of what most of its own views have. A face that one
teacher alone is sure of is doubtful, and so is what few views show. Box and landmarks are the means over the teachers that are
sure and place points well; a landmark weighs less the further their views lie apart.

Against AFLW's points set by hand (their own offset taken away; median, 205 photos in profile), `mtcnn` is 7.5 % of the eyes'
distance off, `yunet` with its refiner 8.0 %, their mean 7.5 %; from the front (1,400) 5.1, 4.8 and 4.8 %. YuNet's own points and
RetinaFace's are 10 to 14 % off: such a teacher says whether and not where (``places``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.boxes import overlaps
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.refine import EYES, TEMPLATE
from faceembed.trainer.aligner.labels import LabelledPhoto
from faceembed.trainer.aligner.teacher import Photo, TeacherSettings, views

_UPRIGHT = float(np.linalg.norm(TEMPLATE[:2].mean(axis=0) - TEMPLATE[3:].mean(axis=0))) / EYES
"""From the eyes' middle to the mouth's, in eyes' distances, from the front."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """When teachers agree."""

    sure: int = 2
    """Teachers that must be sure of a face."""
    overlap: float = 0.35
    """Intersection over union of boxes that are one candidate; teachers' boxes differ by 4 % of a side."""
    steady: float = 0.03
    """How far views may differ on a landmark for it to weigh 1, in eyes' distances; it weighs less in proportion beyond."""
    least: float = 0.1
    """Least weight of a landmark."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one teacher's views of one photo have."""

    boxes: NDArray[np.float32]
    """(D, 4)."""
    landmarks: NDArray[np.float32]
    """(D, 5, 2)."""
    scores: NDArray[np.float32]
    """(D,)."""
    view: NDArray[np.int64]
    """(D,) which view each is of."""
    views: int
    """How many there were."""
    settings: TeacherSettings
    """When the teacher is sure."""
    places: bool = True
    """Whether its landmarks are taken."""


def label_by_agreement(
    detectors: Sequence[Detector],
    paths: Sequence[str],
    photos: Sequence[Photo],
    *,
    group: str,
    settings: TeacherSettings,
    agreement: Agreement,
) -> list[LabelledPhoto]:
    """Label photos.

    Args:
        detectors: the teachers, all of whose landmarks are taken.
        paths: of the photos, for the labels.
        photos: uint8 RGB (H, W, 3).
        group: the set they belong to.
        settings: views, and when a teacher is sure: a detector with a least score of its own by that one.
        agreement: when they agree.
    """
    seen: list[list[Seen]] = [[] for _ in photos]
    for detector in detectors:
        found, view, count = views(detector, photos, settings)
        own = detector.min_score
        sure = dataclasses.replace(settings, score=own) if own > 0 else settings
        for index, mine in enumerate(seen):
            at = np.flatnonzero(found.photo == index)
            taken: Detections = found.take(at)
            mine.append(Seen(taken.boxes, taken.landmarks, taken.scores, view[at], count, sure))
    return [agree(path, group, mine, agreement) for path, mine in zip(paths, seen, strict=True)]


def agree(path: str, group: str, teachers: Sequence[Seen], agreement: Agreement) -> LabelledPhoto:
    """Sort what teachers saw in one photo into faces and doubtful boxes; a teacher that was not asked is left out."""
    boxes, landmarks, scores, view = (
        np.concatenate([getattr(seen, name) for seen in teachers]) for name in ("boxes", "landmarks", "scores", "view")
    )
    teacher = np.repeat(np.arange(len(teachers)), [len(seen.boxes) for seen in teachers])
    rank = np.concatenate([_rank(seen.scores) for seen in teachers])  # scores of two teachers do not compare
    faces: list[NDArray[np.float32]] = []
    points: list[NDArray[np.float32]] = []
    weights: list[NDArray[np.float32]] = []
    doubtful: list[NDArray[np.float32]] = []
    left = np.argsort(rank, kind="stable")
    while len(left):
        near = overlaps(boxes[left[0]][None], boxes[left])[0] >= agreement.overlap
        near[0] = True
        members, left = left[near], left[~near]
        _, first = np.unique(np.stack([teacher[members], view[members]]), axis=1, return_index=True)  # the best of each
        members = members[first]
        sure = [
            number
            for number, seen in enumerate(teachers)
            if _sure(landmarks[mine := members[teacher[members] == number]], scores[mine], seen)
        ]
        placing = [number for number in sure if teachers[number].places]
        if len(sure) < agreement.sure or not placing:
            doubtful.append(boxes[members].mean(axis=0))
            continue
        by_teacher = [members[teacher[members] == number] for number in placing]
        place = np.mean([landmarks[mine].mean(axis=0) for mine in by_teacher], axis=0)
        everyone = np.concatenate(by_teacher)
        spread = np.linalg.norm(landmarks[everyone] - place, axis=2).mean(axis=0) / eye_distance(place)
        faces.append(np.mean([boxes[mine].mean(axis=0) for mine in by_teacher], axis=0))
        points.append(place)
        weights.append(np.clip(agreement.steady / np.maximum(spread, 1e-6), agreement.least, 1.0))
    return LabelledPhoto(
        path,
        group,
        np.array(faces, np.float32).reshape(-1, 4),
        np.array(points, np.float32).reshape(-1, 5, 2),
        np.array(doubtful, np.float32).reshape(-1, 4),
        np.array(weights, np.float32).reshape(-1, 5),
    )


def eye_distance(landmarks: NDArray[np.float32]) -> float:
    """How far the eyes of a face (5, 2) of that size are apart from the front, by how far they are from its mouth."""
    apart = landmarks[:2].mean(axis=0) - landmarks[3:].mean(axis=0)
    return max(float(np.linalg.norm(apart)) / _UPRIGHT, 1e-6)


def _rank(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """0 for the highest."""
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return ranks


def _sure(landmarks: NDArray[np.float32], scores: NDArray[np.float32], seen: Seen) -> bool:
    s = seen.settings
    if not len(scores) or len(scores) < s.agree * seen.views or float(scores.mean()) < s.score:
        return False
    if not seen.places:
        return True
    middle = landmarks.mean(axis=0)
    return float(np.linalg.norm(landmarks - middle, axis=2).mean()) / eye_distance(middle) <= s.spread
