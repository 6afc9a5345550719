"""Labels of several teachers: two that are sure make a face, one alone a doubtful box, and weights say how steady they were."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from faceembed.engine.detect.detections import Detections
from faceembed.trainer.aligner.labels import LabelledPhoto
from faceembed.trainer.aligner.teacher import TeacherSettings
from faceembed.trainer.aligner.teachers import Agreement, Seen, agree, eye_distance, label_by_agreement

from .conftest import FACE
from .test_teacher_labels import DotDetector

SURE = TeacherSettings(score=0.9)
BOX = np.array([10, 10, 90, 90], np.float32)
POINTS = (FACE * 80 + 10).astype(np.float32)


def seen(
    views: int = 6, *, of: int = 6, score: float = 0.99, shift: float = 0.0, shake: float = 0.0, places: bool = True
) -> Seen:
    """One face in so many views, its nose tip shaken to and fro."""
    landmarks = np.repeat(POINTS[None], views, axis=0) + np.float32(shift)
    landmarks[:, 2, 0] += shake * (-1.0) ** np.arange(views)
    return Seen(
        np.repeat(BOX[None] + np.float32(shift), views, axis=0),
        landmarks,
        np.full(views, score, np.float32),
        np.arange(views),
        of,
        SURE,
        places,
    )


@pytest.mark.parametrize(
    ("teachers", "faces", "doubtful"),
    [
        ([seen(), seen()], 1, 0),
        ([seen(), seen(shift=3)], 1, 0),
        ([seen()], 0, 1),  # one alone
        ([seen(), seen(3)], 0, 1),  # half of the second one's views
        ([seen(), seen(score=0.8)], 0, 1),
        ([seen(), seen(0)], 0, 1),
        ([seen(), seen(shift=60)], 0, 2),  # two places
        ([seen(), seen(3), seen(4, of=4)], 1, 0),  # two of three
        ([seen(), seen(places=False)], 1, 0),
        ([seen(places=False), seen(places=False)], 0, 1),  # nobody says where its landmarks are
        ([seen(shake=40), seen()], 0, 1),  # landmarks scattered: not sure
        ([seen(0), seen(0)], 0, 0),
    ],
)
def test_two_must_be_sure(teachers: list[Seen], faces: int, doubtful: int) -> None:
    found = agree("p", "g", teachers, Agreement())
    assert (len(found.boxes), len(found.doubtful)) == (faces, doubtful)
    assert found.weights.shape == (faces, 5)


def test_teachers_count_alike_and_only_those_that_place() -> None:
    """However many views each has; a third that only says that there is a face moves nothing."""
    found = agree("p", "g", [seen(6), seen(4, of=4, shift=4), seen(shift=9, places=False)], Agreement())
    np.testing.assert_allclose(found.landmarks[0], POINTS + 2, atol=1e-4)
    np.testing.assert_allclose(found.boxes[0], BOX + 2, atol=1e-4)


def test_a_landmark_weighs_less_where_views_differ() -> None:
    eyes = eye_distance(POINTS)
    found = agree("p", "g", [seen(), seen(shake=0.2 * eyes)], Agreement(steady=0.03))
    np.testing.assert_allclose(found.weights[0], [1, 1, 0.3, 1, 1], atol=1e-3)  # 0.1 on the average of both
    least = agree("p", "g", [seen(), seen(shake=0.4 * eyes)], Agreement(steady=0.001, least=0.25)).weights[0]
    assert least[2] == 0.25


def test_the_eye_distance_of_a_profile_is_that_of_its_size() -> None:
    from faceembed.engine.models.spec import ARCFACE_TEMPLATE

    front = np.array(ARCFACE_TEMPLATE, np.float32)
    middle = front[:2].mean(axis=0)
    assert eye_distance(front) == pytest.approx(float(front[1, 0] - front[0, 0]), rel=0.01)
    front[:2] = middle  # turned by 90 degrees
    assert eye_distance(front) == pytest.approx(35.24, rel=0.01)


def test_photos_are_labelled_by_two_detectors(dotted: Callable[..., LabelledPhoto]) -> None:
    photo = dotted("two", 200, 150, 40, 60, 70)
    pixels = np.ascontiguousarray(cv2.imread(photo.path)[..., ::-1])
    blind = DotDetector(lambda view, found: Detections.none())
    for detectors, faces in (([DotDetector(), DotDetector()], 1), ([DotDetector(), blind], 0)):
        (found,) = label_by_agreement(
            detectors, [photo.path], [pixels], group="g", settings=TeacherSettings(), agreement=Agreement()
        )
        assert len(found.boxes) == faces and len(found.doubtful) == 1 - faces and found.group == "g"
        if faces:
            np.testing.assert_allclose(found.landmarks, photo.landmarks, atol=1.0)
            assert (found.weights > 0.5).all()
