"""Doubtful faces are looked at once more: what is shown then, which scores change, and that what is no face goes and faces stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.confirm import DOUBT, LESS, SIDE, confirmed
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.detect.oneshot import OneShotDetector
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import Photo
from faceembed.engine.pipeline.finder import Finder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice

Pixels = NDArray[np.uint8]
CPU = RuntimeChoice("openvino", "cpu", "fp32", "a test")


def faces(*rows: tuple[int, float, float, float, float]) -> Detections:
    """Square faces: photo, centre x and y, side, score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    half = table[:, 3:4] / 2
    boxes = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], 1)
    return Detections(table[:, 0].astype(np.int32), boxes, np.repeat(boxes[:, None, :2], 5, 1), table[:, 4].copy())


class Brightness:
    """Sees a face in the middle of what it is shown, as sure as the mean of the middle third is bright; and one beside it, which is surer."""

    min_score = 0.6

    def __init__(self) -> None:
        self.shown: list[Pixels] = []

    def detect(self, photos: Sequence[Pixels], min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        self.shown += photos
        third = SIDE / 3
        middle = [photo[54:106, 54:106].mean() / 255 for photo in photos]
        seen = [(n, SIDE / 2 + 3, SIDE / 2 - 3, third, score) for n, score in enumerate(middle)]
        beside = [(n, third / 2, third / 2, third, 0.99) for n in range(len(photos))]
        return faces(*seen, *beside)


def test_which_scores_change() -> None:
    photo = np.zeros((400, 600, 3), np.uint8)
    for x, level in ((100, 255), (300, 191), (500, 20)):
        photo[70:130, x - 30 : x + 30] = level
    found = faces(
        (0, 100, 100, 60, 0.7),  # sure in the second look
        (0, 300, 100, 60, 0.7),  # 0.75 there
        (0, 500, 100, 60, 0.7),  # not
        (0, 500, 100, 60, DOUBT),  # as sure as nobody doubts
        (0, 500, 100, 60, 0.5),  # nor takes
    )
    detector: Any = Brightness()
    again = confirmed(detector, [photo], found)
    expected = [0.7, 191 / 255 - LESS, 0.0, DOUBT, 0.5]
    np.testing.assert_allclose(again.scores, expected, atol=0.005)
    assert (again.boxes == found.boxes).all() and (again.photo == found.photo).all()
    assert len(detector.shown) == 6
    np.testing.assert_allclose(found.scores, [0.7, 0.7, 0.7, DOUBT, 0.5], atol=1e-6)  # as they were given


def test_nobody_is_doubtful() -> None:
    detector: Any = Brightness()
    found = faces((0, 10, 10, 8, 0.9), (0, 10, 10, 8, 0.3))
    assert confirmed(detector, [np.zeros((20, 20, 3), np.uint8)], found) is found
    assert confirmed(detector, [], faces()) is not None and not detector.shown


def test_what_is_shown(astronaut: Pixels) -> None:
    """The face as the middle third, as it is and mirrored, of the right one of several photos, black beyond the edge."""
    detector: Any = Brightness()
    photos = [np.full((50, 70, 3), 9, np.uint8), astronaut]
    confirmed(detector, photos, faces((1, 224, 128, SIDE / 3, 0.7), (1, 0, 512, 2 * SIDE / 3, 0.7)))
    plain, mirrored, corner, _ = detector.shown
    assert plain.shape == mirrored.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(plain, astronaut[128 - 80 : 128 + 80, 224 - 80 : 224 + 80])
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    assert not corner[:, : SIDE // 2 - 1].any() and not corner[SIDE // 2 + 1 :].any() and corner.any()
    half = cv2.resize(astronaut[-160:, :160], (80, 80), interpolation=cv2.INTER_AREA)
    assert np.abs(corner[2:78, 82:158].astype(int) - half[2:78, 2:78]).mean() < 6


@pytest.fixture(scope="module")
def detector() -> OneShotDetector:
    found = open_detector(resolve("faceembed-align", task="aligner"), CPU, threads=1)
    assert isinstance(found, OneShotDetector)
    found.min_score = 0.6
    return found


@pytest.mark.parametrize("side", [24, 40, 95, 180])
def test_a_face_is_confirmed_and_what_is_none_is_not(detector: OneShotDetector, astronaut: Pixels, side: int) -> None:
    """Her face, and her suit's badge and sleeve, all said to be doubtful faces."""
    factor = side / 95
    photo = np.asarray(cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    places = [(224, 128, 95), (330, 330, 60), (120, 400, 95)]
    found = faces(*((0, x * factor, y * factor, size * factor, 0.7) for x, y, size in places))
    again = confirmed(detector, [photo], found)
    assert again.scores[0] == np.float32(0.7)
    assert (again.scores[1:] < 0.6).all()


@pytest.mark.parametrize(("which", "kept"), [("all", 0), ("largest", 1)])
def test_only_where_every_face_is_wanted(
    detector: OneShotDetector, monkeypatch: pytest.MonkeyPatch, which: str, kept: int
) -> None:
    """A doubtful face of a grey photo; the aligner is asked again for all faces alone, which keep their speed for one."""
    grey = np.full((300, 300, 3), 120, np.uint8)
    doubtful = faces((0, 150, 150, 60, 0.7))
    real = OneShotDetector.detect

    def seen(self: OneShotDetector, photos: Any, sides: Any, *, only_largest: bool) -> Detections:
        if len(photos) == 1 and photos[0] is grey:
            return dataclasses.replace(doubtful, beside=np.zeros(1, np.int32)) if only_largest else doubtful
        return real(self, photos, sides, only_largest=only_largest)

    monkeypatch.setattr(OneShotDetector, "detect", seen)
    finder = Finder(EmbedSettings(faces=which), detector, resolve("faceembed-r29", task="encoder").spec)
    found, without = finder.find([Photo(grey, 300, 300)])
    assert len(found) == kept
    assert ("no sure face: the best, of 60 px" in without.get(0, "")) == (not kept)
