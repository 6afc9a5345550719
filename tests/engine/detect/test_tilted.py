"""Heads that are tilted: where a photo shows no sure face, it is looked at tilted."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.detect.tilted import TILTS, look_tilted
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import min_face_of
from faceembed.engine.pipeline import finder
from faceembed.engine.runtimes.base import RuntimeChoice

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = resolve("faceembed-align", task="aligner")
    return open_detector(model, RuntimeChoice("openvino", "cpu", "fp32", "a test"), threads=1, min_score=0.6)


def least(photo: Pixels) -> float:
    return min_face_of(photo.shape[1], photo.shape[0], 0)


def tilted(photo: Pixels, degrees: float) -> tuple[Pixels, NDArray[np.float64]]:
    """A photo tilted around its middle, on a larger grey picture, and the matrix that did it."""
    height, width = photo.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), np.float64)
    matrix[:, 2] += (width * 0.2, height * 0.1)
    size = (round(width * 1.4), round(height * 1.2))
    return np.asarray(cv2.warpAffine(photo, matrix, size, borderValue=(128, 128, 128)), np.uint8), matrix


@pytest.mark.parametrize("degrees", [25, 45, -30, -50])
@pytest.mark.parametrize("side", [200, 300, 1400], ids=["small", "as it is", "large"])
def test_landmarks_lie_in_the_photos_own_pixels(detector: Detector, astronaut: Pixels, side: int, degrees: int) -> None:
    photo = cv2.resize(astronaut[:300, 60:360], (side, side), interpolation=cv2.INTER_AREA)
    expected = detector.detect([photo], [least(photo)], only_largest=True)
    picture, matrix = tilted(np.asarray(photo, np.uint8), degrees)
    found = look_tilted(detector, [picture], [least(picture)], Detections.none(), only_largest=True)
    assert len(found) == 1 and found.scores[0] >= 0.6
    points = expected.landmarks[0] @ matrix[:, :2].T + matrix[:, 2]
    eyes = float(np.linalg.norm(points[1] - points[0]))
    assert np.abs(found.landmarks[0] - points).max() < 0.1 * eyes
    middle = found.boxes[0].reshape(2, 2).mean(axis=0)
    assert np.abs(middle - points.mean(axis=0)).max() < 0.5 * eyes
    assert found.sides()[0] == pytest.approx(expected.sides()[0], rel=0.2)


def test_photos_with_a_sure_face_are_not_asked(detector: Detector, astronaut: Pixels) -> None:
    """Of three photos the second has none as it is; the other two keep what they have, in order."""
    sure = detector.detect([astronaut], [least(astronaut)], only_largest=True)
    picture, _ = tilted(astronaut, 40)
    faces = Detections(np.array([0, 2], np.int32), *(np.repeat(v, 2, 0) for v in (sure.boxes, sure.landmarks, sure.scores)))  # fmt: skip
    photos = [astronaut, picture, astronaut]
    found = look_tilted(detector, photos, [least(x) for x in photos], faces, only_largest=True)
    assert found.photo.tolist() == [0, 1, 2]
    assert (found.landmarks[[0, 2]] == sure.landmarks[0]).all()


def test_what_is_no_face_stays_none(detector: Detector) -> None:
    photos = [np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8) for seed in range(3)]
    doubtful = Detections(np.array([1], np.int32), np.ones((1, 4), np.float32), np.ones((1, 5, 2), np.float32), np.array([0.3], np.float32))  # fmt: skip
    found = look_tilted(detector, photos, [3.0] * 3, doubtful, only_largest=True)
    assert found.scores.tolist() == pytest.approx([0.3])  # kept for the reason that its photo is given


def test_the_product_looks(monkeypatch: pytest.MonkeyPatch, pipeline: Any, astronaut: Pixels) -> None:
    """Where all else finds nothing: what stands before it is made blind."""
    from faceembed.engine.pipeline.serving import Embedder
    from tests.engine.photos import odd

    def blind(detector: Any, photos: Any, smallest: Any, faces: Detections, *, only_largest: bool) -> Detections:
        return Detections.none()

    monkeypatch.setattr(finder, "look_again", blind)
    picture, _ = tilted(astronaut, TILTS[1])
    embedder = Embedder.of(pipeline)
    photo, upright = embedder.embed([embedder.take(odd.encoded(x, "PNG")) for x in (picture, astronaut)])
    assert photo.chosen is not None and upright.chosen is not None, photo.reason
    assert float(photo.faces[photo.chosen].embedding @ upright.faces[upright.chosen].embedding) >= 0.95
