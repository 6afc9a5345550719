"""YuNet beside OpenCV's own FaceDetectorYN, which runs the same file, and its decoder's arithmetic."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.yunet import YunetDetector, YunetSettings, decode
from faceembed.engine.models import yunet
from faceembed.engine.models.oneshot import OUTPUTS, STRIDES
from faceembed.engine.models.packages import ACCURATE, package_file
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.native import _native
from faceembed.engine.photos.decode import decode as decode_photo
from faceembed.engine.photos.reading import read_file
from faceembed.engine.runtimes.base import RuntimeChoice, Session
from faceembed.engine.runtimes.sessions import open_session

OVERLAP = 0.3  # OpenCV's default
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> Model:
    return resolve("yunet", task="aligner")


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def session(request: pytest.FixtureRequest, model: Model) -> Session:
    choice = RuntimeChoice(request.param, "cpu", "fp32", "a test")
    return open_session(model, choice, outputs=OUTPUTS, threads=2)


def ours(session: Session, photo: Pixels, score: float) -> Detections:
    """The faces of a photo in its own size, on black up to a multiple of 32, as OpenCV sees it."""
    height, width = photo.shape[:2]
    canvas = np.zeros((1, -(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    canvas[0, :height, :width] = photo
    found = decode(session.run(canvas), score)
    return found.take(_native.nms(found.boxes, found.scores, found.photo, OVERLAP, "union"))


def opencvs(photo: Pixels, score: float) -> Detections:
    path = package_file(yunet.PACKAGE, yunet._FILE, extra=ACCURATE)
    theirs = cv2.FaceDetectorYN.create(str(path), "", photo.shape[1::-1], score, OVERLAP)
    _, rows = theirs.detect(np.ascontiguousarray(photo[:, :, ::-1]))
    rows = np.zeros((0, 15), np.float32) if rows is None else rows
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
    return Detections(np.zeros(len(rows), np.int32), boxes, rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])


def assert_alike(mine: Detections, theirs: Detections) -> None:
    """Each face has its twin: the box within 1 pixel, the points within half of one, the score within 0.01."""
    assert len(mine) == len(theirs)
    for index in range(len(theirs)):
        near = int(np.abs(mine.boxes - theirs.boxes[index]).max(1).argmin())
        np.testing.assert_allclose(mine.boxes[near], theirs.boxes[index], atol=1)
        np.testing.assert_allclose(mine.landmarks[near], theirs.landmarks[index], atol=0.5)
        assert mine.scores[near] == pytest.approx(theirs.scores[index], abs=0.01)


@pytest.mark.parametrize("size", [(512, 512), (300, 200), (97, 133), (640, 640), (450, 960)])
def test_the_astronaut_is_where_opencv_sees_her(session: Session, astronaut: Pixels, size: tuple[int, int]) -> None:
    photo = cv2.resize(astronaut, size[::-1], interpolation=cv2.INTER_AREA)
    theirs = opencvs(photo, 0.6)
    assert len(theirs) == 1
    assert_alike(ours(session, photo, 0.6), theirs)


@pytest.mark.data
def test_people_are_where_opencv_sees_them(session: Session, wild: list[Path]) -> None:
    found = 0
    for path in wild[::3]:
        photo = decode_photo(read_file(path)).pixels
        mine, theirs = ours(session, photo, 0.5), opencvs(photo, 0.5)
        # What lies within 0.01 of the score, or overlaps by just about as much as is suppressed, may be in one of both alone.
        sure = [faces.take(faces.scores >= 0.6) for faces in (mine, theirs)]
        assert_alike(*sure)
        found += len(sure[1])
    assert found >= 40


def test_batches_and_canvases_do_not_matter(model: Model, astronaut: Pixels) -> None:
    session = open_session(model, RuntimeChoice("onnxruntime", "cpu", "fp32", "a test"), outputs=OUTPUTS, threads=1)
    small = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    alone = ours(session, small, 0.6)
    canvases = np.zeros((3, 192, 320, 3), np.uint8)
    canvases[1, :160, 32:192] = small  # a whole number of the coarsest stride
    canvases[2] = 128
    found = decode(session.run(canvases), 0.6)
    found = found.take(_native.nms(found.boxes, found.scores, found.photo, OVERLAP, "union"))
    assert found.photo.tolist() == [1]
    np.testing.assert_allclose(found.boxes - np.array([32, 0, 32, 0]), alone.boxes, atol=1.5)
    np.testing.assert_allclose(found.landmarks - np.array([32, 0]), alone.landmarks, atol=0.5)


def test_decode_reads_the_channels_as_documented() -> None:
    levels = [np.full((2, yunet.CHANNELS, 64 // stride, 96 // stride), -9.0, np.float32) for stride in STRIDES]
    points = np.arange(10) / 4 - 1
    levels[1][1, :, 2, 3] = np.concatenate([[0.5, 1.5], [0.25, -0.5], np.log([2.0, 4.0]), points])
    found = decode(levels, 0.5)
    assert found.photo.tolist() == [1]
    x, y = 3.25 * 16, 1.5 * 16
    np.testing.assert_allclose(found.boxes[0], [x - 16, y - 32, x + 16, y + 32], rtol=1e-5)
    np.testing.assert_allclose(found.landmarks[0], (points.reshape(5, 2) + np.array([3, 2])) * 16, rtol=1e-5)
    score = np.sqrt(1 / (1 + np.exp(-0.5)) / (1 + np.exp(-1.5)))
    np.testing.assert_allclose(found.scores, score, rtol=1e-5)
    assert len(decode(levels, float(score) + 1e-4)) == 0
    assert len(decode(levels, float(score) - 1e-4)) == 1


@pytest.mark.parametrize("seed", range(12))
def test_decode_is_the_formula_cell_by_cell(seed: int) -> None:
    """OpenCV's `postProcess`, written out again without arrays, in any batch and shape."""
    random = np.random.default_rng(seed)
    count, rows, columns = random.integers(1, 4, 3).tolist()
    score = float(random.uniform(0.05, 0.9))
    shapes = [(count, yunet.CHANNELS, rows * 32 // stride, columns * 32 // stride) for stride in STRIDES]
    levels = [random.normal(0, 1, shape).astype(np.float32) for shape in shapes]
    wanted = []
    for stride, level in zip(STRIDES, levels, strict=True):
        for image, row, column in np.ndindex(level.shape[0], *level.shape[2:]):
            cell = level[image, :, row, column].astype(float)
            value = math.sqrt(1 / (1 + math.exp(-cell[0])) / (1 + math.exp(-cell[1])))
            if value >= score:
                x, y = (column + cell[2]) * stride, (row + cell[3]) * stride
                width, height = math.exp(cell[4]) * stride, math.exp(cell[5]) * stride
                box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                points = [(([column, row][i % 2]) + cell[6 + i]) * stride for i in range(10)]
                wanted.append([image, value, *box, *points])
    found = decode(levels, score)
    mine = np.concatenate(
        [found.photo[:, None], found.scores[:, None], found.boxes, found.landmarks.reshape(-1, 10)], axis=1
    )
    np.testing.assert_allclose(mine, np.array(wanted).reshape(-1, 16), rtol=1e-4, atol=1e-3)


def test_decode_survives_absurd_answers() -> None:
    for value in (200.0, -200.0):
        levels = [np.full((1, yunet.CHANNELS, 1, 1), value, np.float32) for _ in STRIDES]
        with np.errstate(all="raise", under="ignore"):
            assert np.isfinite(decode(levels, 0.5).boxes).all()
            assert len(decode(levels, 0.5)) == (3 if value > 0 else 0)


def test_what_detect_finds_is_what_the_network_says(model: Model, astronaut: Pixels) -> None:
    """The whole detector, on a photo that one look shows in its own size."""
    choice = RuntimeChoice("openvino", "cpu", "fp32", "a test")
    photo = np.ascontiguousarray(cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA))
    theirs = opencvs(photo, 0.6)
    unrefined = YunetDetector(model, choice, threads=1, settings=YunetSettings(passes=0), min_score=0.6)
    faces = unrefined.detect([photo], [10.0], only_largest=True)
    assert len(faces) == 1
    np.testing.assert_allclose(faces.boxes, theirs.boxes, atol=2)  # answers for one face are averaged
    np.testing.assert_allclose(faces.landmarks, theirs.landmarks, atol=1.5)
    np.testing.assert_allclose(faces.scores, theirs.scores, atol=0.01)


def test_the_refiner_makes_landmarks_exact_and_leaves_scores(model: Model, astronaut: Pixels) -> None:
    """Against what is read off the picture by eye."""
    choice = RuntimeChoice("openvino", "cpu", "fp32", "a test")
    truth = np.array([[204.4, 101.3], [245.6, 102.5], [224.5, 129.3], [201.3, 140.3], [245.5, 141.3]])
    off, scores = [], []
    for passes in (0, 2):
        ours = YunetDetector(model, choice, threads=1, settings=YunetSettings(passes=passes))
        faces = ours.detect([astronaut], [20.0], only_largest=True)
        off.append(np.linalg.norm(faces.landmarks[0] - truth, axis=1).mean() / 41.2)
        scores.append(faces.scores[0])
    assert off[1] < 0.05 and off[0] > 0.07
    assert scores[0] == scores[1]


def test_points_that_span_no_face_stay(model: Model) -> None:
    """The pipeline's next step gives the photo a row that says so."""
    flat = Detections(
        np.zeros(1, np.int32),
        np.array([[2, 2, 30, 30]], np.float32),
        np.full((1, 5, 2), 9, np.float32),
        np.ones(1, np.float32),
    )
    ours = YunetDetector(model, RuntimeChoice("openvino", "cpu", "fp32", "a test"), threads=1)
    kept = ours.sharpened(np.full((40, 40, 3), 90, np.uint8), flat)
    assert kept.scores.tolist() == [1] and (kept.landmarks == 9).all()


def test_no_photo_no_face(model: Model) -> None:
    ours = YunetDetector(model, RuntimeChoice("openvino", "cpu", "fp32", "a test"), threads=1)
    assert len(ours.detect([], [], only_largest=True)) == 0
    assert len(ours.detect([np.zeros((40, 40, 3), np.uint8)], [20], only_largest=True)) == 0
