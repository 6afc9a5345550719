"""A doubtful face that stands on its head: box and landmarks in the photo's pixels, and no upright face is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.detect.oneshot import OneShotDetector
from faceembed.engine.detect.upside_down import DOUBT, SIDE, turned_over
from faceembed.engine.models.registry import resolve
from faceembed.engine.runtimes.base import RuntimeChoice

Pixels = NDArray[np.uint8]
EYES = np.array([(204.0, 102.0), (246.5, 103.0)])  # of the astronaut, in her 512 x 512 pixels
FACE = (224.0, 118.0, 95.0)  # centre and side


@pytest.fixture(scope="module")
def detector() -> OneShotDetector:
    choice = RuntimeChoice("openvino", "cpu", "fp32", "a test")
    found = open_detector(resolve("faceembed-align", task="aligner"), choice, threads=1)
    assert isinstance(found, OneShotDetector)
    found.min_score = 0.6
    return found


def face(x: float, y: float, side: float, score: float, photo: int = 0) -> Detections:
    box = np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]], np.float32)
    points = np.repeat(box[:, None, :2], 5, 1)
    return Detections(np.array([photo], np.int32), box, points, np.array([score], np.float32), np.array([2], np.int32))


@pytest.mark.parametrize("factor", [0.25, 1.0, 2.0])
def test_she_stands_on_her_head(detector: OneShotDetector, astronaut: Pixels, factor: float) -> None:
    upright = np.asarray(cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    over = np.ascontiguousarray(upright[::-1, ::-1])
    x, y, side = (value * factor for value in FACE)
    height, width = over.shape[:2]
    given = face(width - x, height - y, side, 0.7, photo=1)
    found = turned_over(detector, [upright, over], given)
    assert found.scores[0] > 0.8 and found.photo.tolist() == [1] and found.beside is not None
    eyes = np.array([(width, height)]) - EYES * factor
    assert np.abs(found.landmarks[0, :2] - eyes).max() <= max(1.0, 2.5 * factor)
    assert np.abs(found.boxes - given.boxes).max() < 0.35 * side


@pytest.mark.parametrize("score", [0.3, 0.7, DOUBT, 0.95])
def test_an_upright_face_stays_as_it_is(detector: OneShotDetector, astronaut: Pixels, score: float) -> None:
    given = face(*FACE, score)
    found = turned_over(detector, [astronaut], given)
    for name in ("boxes", "landmarks", "scores", "photo"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))


class Asked:
    """Says that it sees a face in the middle, and counts what it is shown."""

    min_score = 0.6

    def __init__(self, score: float) -> None:
        self.score, self.shown = score, 0

    def glance(self, photos: Sequence[Pixels], sides: Any, least: float) -> Detections:
        self.shown += len(photos)
        parts = [face(SIDE / 2, SIDE / 2, SIDE / 3, self.score, photo) for photo in range(len(photos))]
        faces = Detections.concatenate(parts)
        return faces.take(faces.scores >= np.float32(least))

    def sharpened(self, photo: Any, faces: Detections) -> Detections:
        return faces


@pytest.mark.parametrize(
    ("score", "there", "asked", "taken"),
    [
        (0.7, 0.9, 1, True),
        (0.7, 0.74, 1, False),  # not sure enough by itself
        (0.8, 0.84, 1, False),  # nor surer than as it is
        (DOUBT, 0.99, 0, False),
        (0.5, 0.99, 0, False),  # no face by the limit: the whole photo is looked at turned
    ],
)
def test_when_a_face_is_asked_and_taken(score: float, there: float, asked: int, taken: bool) -> None:
    detector: Any = Asked(there)
    found = turned_over(detector, [np.zeros((100, 100, 3), np.uint8)], face(40, 60, 30, score))
    assert detector.shown == asked
    assert float(found.scores[0]) == pytest.approx(there if taken else score)
    np.testing.assert_allclose(found.boxes, face(40, 60, 30, 0).boxes, atol=1e-3)  # the middle third is the face


@pytest.mark.parametrize("least", [0.2, 0.6, 0.9])
def test_a_glance_gives_what_a_whole_look_does(detector: OneShotDetector, astronaut: Pixels, least: float) -> None:
    small = np.asarray(cv2.resize(astronaut, (150, 150), interpolation=cv2.INTER_AREA), np.uint8)
    shown = [small, np.ascontiguousarray(small[::-1]), np.full((90, 90, 3), 99, np.uint8), astronaut]
    for photos in (shown[:3], shown):  # with the last, one look is not enough
        whole = detector.detect(photos, [20.0] * len(photos), only_largest=False)
        whole = whole.take(whole.scores >= np.float32(least))
        found = detector.glance(photos, [20.0] * len(photos), least)
        for name in ("photo", "boxes", "landmarks", "scores"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(dataclasses.replace(whole), name), atol=1e-3, rtol=1e-5
            )
