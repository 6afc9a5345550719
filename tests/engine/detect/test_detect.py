"""Finding the astronaut's face at every size and place, alone and among others, and nothing where there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.reading import read_file
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.runtimes.base import RuntimeChoice

# Read off the picture by eye: the box that MTCNN's training data would have, and the five points, to a pixel or so.
BOX = np.array([177.0, 60, 268, 174])
POINTS = np.array([[204.4, 101.3], [245.6, 102.5], [224.5, 129.3], [201.3, 140.3], [245.5, 141.3]])
EYES = float(np.linalg.norm(POINTS[1] - POINTS[0]))
FACE_SIDE = float(np.sqrt((BOX[2] - BOX[0]) * (BOX[3] - BOX[1])))


LEAST_SCORE = {
    "mtcnn": 0.8,
    "faceembed-align": 0.6,
    "yunet": 0.6,
}  # of a plain frontal face; theirs are no probabilities
SMALLEST = {"yunet": 24}  # it is shown them with 16 pixels, and does not find all of less
DOUBTFUL = {"yunet": 1}  # faces in things, below their least score: a cup of coffee


@pytest.fixture(scope="module", params=sorted(LEAST_SCORE))
def detector(request: pytest.FixtureRequest) -> Detector:
    """Each aligner that comes with faceembed or its extra, in fp32."""
    exact = RuntimeChoice("openvino", "cpu", "fp32", "a test")
    return open_detector(resolve(request.param, task="aligner"), exact, threads=2)


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    height, width = (round(side * factor) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def paste(picture: np.ndarray, height: int, width: int, y: int, x: int) -> np.ndarray:
    """The picture on a wall of soft grey gradients."""
    ramp = np.linspace(90, 170, width)[None, :] + np.linspace(-20, 20, height)[:, None]
    canvas = np.repeat(ramp[:, :, None], 3, 2).astype(np.uint8)
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner))


def only(faces: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Box and landmarks of the one face there is."""
    assert len(faces) == 1
    return faces.boxes[0], faces.landmarks[0]


@pytest.mark.parametrize("side", [20, 24, 30, 45, 70, 110, 200, 400])
@pytest.mark.parametrize("only_largest", [True, False])
def test_every_size_in_a_larger_picture(
    detector: Detector, astronaut: np.ndarray, side: int, only_largest: bool
) -> None:
    factor = side / FACE_SIDE
    head = scaled(astronaut[20:240, 110:330], factor)
    height, width = max(300, head.shape[0] + 60), max(420, head.shape[1] + 80)
    y, x = (height - head.shape[0]) // 3, (width - head.shape[1]) // 2
    faces = detector.detect([paste(head, height, width, y, x)], [18.0], only_largest=only_largest)
    if side < SMALLEST.get(detector.model.spec.name, 0):
        assert len(faces) == 0
        return
    box, points = only(faces)
    shift = np.array([x - 110 * factor, y - 20 * factor])
    assert overlap(box, BOX * factor + np.tile(shift, 2)) > 0.6
    error = np.linalg.norm(points - (POINTS * factor + shift), axis=1) / (EYES * factor)
    assert error.max() < (0.15 if side < 40 else 0.1)
    assert faces.scores[0] > LEAST_SCORE[detector.model.spec.name]


@pytest.mark.parametrize("margin", [40, 20, 8, 0, -8])
def test_faces_that_fill_and_exceed_the_frame(detector: Detector, astronaut: np.ndarray, margin: int) -> None:
    """From a portrait down to one that cuts off chin and hair."""
    x1, y1, x2, y2 = (BOX + np.array([-margin, -margin, margin, margin])).astype(int)
    for factor in (0.6, 1, 5):
        view = scaled(astronaut[y1:y2, x1:x2], factor)
        faces = detector.detect([view], [20.0], only_largest=True)
        box, points = only(faces)
        error = np.linalg.norm(points - (POINTS - (x1, y1)) * factor, axis=1) / (EYES * factor)
        assert error.max() < 0.15, (margin, factor)
        assert overlap(box, (BOX - (x1, y1, x1, y1)) * factor) > 0.6


def test_landmarks_agree_across_scales_and_places(detector: Detector, astronaut: np.ndarray) -> None:
    head = astronaut[20:240, 110:330]
    found = []
    for factor in (0.3, 0.45, 0.7, 1.0, 1.5, 2.2):
        for y, x in ((10, 15), (33, 52)):
            view = scaled(head, factor)
            photo = paste(view, view.shape[0] + 80, view.shape[1] + 120, y, x)
            _, points = only(detector.detect([photo], [20.0], only_largest=True))
            found.append((points - (x, y)) / factor + (110, 20))
    spread = np.linalg.norm(found - np.mean(found, 0), axis=2) / EYES
    assert spread.max() < 0.12
    assert spread.mean() < 0.04


def test_mirrored_photo_has_mirrored_landmarks(detector: Detector, astronaut: np.ndarray) -> None:
    _, points = only(detector.detect([astronaut], [20.0], only_largest=True))
    _, mirrored = only(detector.detect([np.ascontiguousarray(astronaut[:, ::-1])], [20.0], only_largest=True))
    assert points[0, 0] < points[1, 0]  # left as seen in the picture
    assert mirrored[0, 0] < mirrored[1, 0]
    swapped = mirrored[[1, 0, 2, 4, 3]]
    swapped[:, 0] = 512 - swapped[:, 0]
    assert np.linalg.norm(swapped - points, axis=1).max() / EYES < 0.06


def two_faces(astronaut: np.ndarray) -> np.ndarray:
    """A face of about 48 px at the left, and one of about 126 px at the right."""
    photo = paste(scaled(astronaut[20:240, 110:330], 1.25), 340, 640, 40, 330)
    small = scaled(astronaut[20:240, 110:330], 0.48)
    photo[120 : 120 + small.shape[0], 60 : 60 + small.shape[1]] = small
    return photo


def test_all_finds_both_and_largest_the_right_one(detector: Detector, astronaut: np.ndarray) -> None:
    photo = two_faces(astronaut)
    both = detector.detect([photo], [20.0], only_largest=False)
    assert len(both) == 2
    centres = sorted(((box[0] + box[2]) / 2, box[2] - box[0]) for box in both.boxes.tolist())
    assert 60 < centres[0][0] < 166
    assert 330 < centres[1][0] < 605
    assert centres[1][1] > 2 * centres[0][1]
    box, _ = only(detector.detect([photo], [20.0], only_largest=True))
    assert 330 < (box[0] + box[2]) / 2 < 605
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    box, _ = only(detector.detect([mirrored], [20.0], only_largest=True))
    assert 35 < (box[0] + box[2]) / 2 < 310


def test_min_face_leaves_smaller_ones_out(detector: Detector, astronaut: np.ndarray) -> None:
    photo = two_faces(astronaut)
    assert len(detector.detect([photo], [80.0], only_largest=False)) == 1
    assert len(detector.detect([photo], [300.0], only_largest=False)) == 0


def test_alone_or_in_a_batch_of_mixed_sizes(detector: Detector, astronaut: np.ndarray) -> None:
    photos = [
        astronaut,
        scaled(astronaut, 0.4),
        np.full((90, 400, 3), 120, np.uint8),
        two_faces(astronaut),
        np.ascontiguousarray(astronaut[:400, 100:300]),
        np.ascontiguousarray(astronaut[30:230, 60:400]),
        np.full((1, 1, 3), 7, np.uint8),
        scaled(astronaut, 1.7),
    ]
    smallest = [20.0] * 7 + [34.0]
    for only_largest in (True, False):
        together = detector.detect(photos, smallest, only_largest=only_largest)
        assert sorted(set(together.photo.tolist())) == [0, 1, 3, 4, 5, 7]
        for index, (photo, least) in enumerate(zip(photos, smallest, strict=True)):
            alone = detector.detect([photo], [least], only_largest=only_largest)
            mine = together.take(together.photo == index)
            assert len(mine) == len(alone)
            one, other = (f.take(np.argsort(f.boxes[:, 0], kind="stable")) for f in (mine, alone))
            np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)


def test_no_face_in_textures(detector: Detector) -> None:
    data = pytest.importorskip("skimage.data")
    rng = np.random.default_rng(3)
    photos = [
        np.repeat(picture[:, :, None], 3, 2) for picture in (data.brick(), data.grass(), data.gravel(), data.coins())
    ]
    photos += [np.ascontiguousarray(data.coffee()), rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)]
    photos += [np.full((200, 200, 3), value, np.uint8) for value in (0, 128, 255)]
    faces = detector.detect(photos, [20.0] * len(photos), only_largest=True)
    sure = faces.take(faces.scores >= detector.min_score)
    assert len(sure) == 0
    assert len(faces) == DOUBTFUL.get(detector.model.spec.name, 0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (11, 13), (12, 12), (5, 900), (900, 5), (1, 800), (300, 1500)])
def test_odd_shapes_are_no_problem(detector: Detector, shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert len(detector.detect([photo], [20.0], only_largest=True)) == 0


def test_a_face_in_a_very_wide_photo(detector: Detector, astronaut: np.ndarray) -> None:
    head = scaled(astronaut[20:240, 110:330], 1.0)
    faces = detector.detect([paste(head, 240, 2400, 10, 1700)], [60.0], only_largest=True)
    box, _ = only(faces)
    assert overlap(box, BOX + np.tile([1700 - 110, 10 - 20], 2)) > 0.6


@pytest.mark.data
def test_faces_are_found_in_photos_of_people(pipeline: Pipeline, wild: list[Path]) -> None:
    photos = [PhotoFile(str(path), path.stat().st_size, 0) for path in wild]
    outcomes = list(pipeline.run(photos))
    found = sum(len(outcome.faces.photo) for outcome in outcomes)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    assert found + len(failures) == len(wild)
    assert found / len(wild) >= 0.97


# --- the arithmetic of detections -----------------------------------------------------------------------------------


def detections(boxes: list[list[float]], photo: list[int]) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(photo, np.int32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(count * 10, dtype=np.float32).reshape(-1, 5, 2),
        np.linspace(1, 0.5, count, dtype=np.float32),
    )


def test_largest_counts_what_is_visible_and_central() -> None:
    sizes = np.array([[100.0, 100], [100, 100]])
    faces = detections(
        [
            [-60, 20, 20, 100],
            [35, 35, 70, 70],
            [0, 0, 10, 10],
            [45, 45, 55, 55],
        ],  # mostly outside; central; corner; central
        [0, 0, 1, 1],
    )
    faces = dataclasses.replace(faces, scores=np.ones(4, np.float32))
    chosen = faces.largest(sizes)
    np.testing.assert_array_equal(chosen.boxes, faces.boxes[[1, 3]])
    np.testing.assert_array_equal(chosen.landmarks, faces.landmarks[[1, 3]])
    np.testing.assert_array_equal(chosen.photo, [0, 1])


def test_prominence_is_as_defined() -> None:
    faces = detections([[40, 40, 60, 60], [0, 0, 20, 20], [-10, 40, 10, 60]], [0, 0, 0])
    prominence = faces.prominence(np.array([[100.0, 100]]))
    assert prominence[0] == pytest.approx(20)
    assert prominence[1] == pytest.approx(20 * (1 - np.hypot(40, 40) / np.hypot(100, 100)))
    assert prominence[2] == pytest.approx(np.sqrt(10 * 20) * (1 - 50 / np.hypot(100, 100)) * (0.5 / 0.75) ** 3)


def test_a_doubtful_larger_face_does_not_hide_a_sure_one() -> None:
    faces = dataclasses.replace(
        detections([[20, 40, 80, 100], [35, 0, 65, 30]], [0, 0]), scores=np.array([0.5, 0.95], np.float32)
    )
    np.testing.assert_array_equal(faces.largest(np.array([[100.0, 100]])).boxes, faces.boxes[[1]])


@pytest.mark.data
def test_hands_prints_and_backdrops_do_not_hide_a_face(data: Path) -> None:
    """Six photos in which something larger than the face was taken for one, with scores from 0.2 to 0.54."""
    names = (
        "07228/112944",
        "07427/099137",
        "07331/122832",
        "07356/000711",
        "07306/187456",
        "07375/116491",
    )
    photos = [decode(read_file(data / "people_wild" / f"{name}.jpg")).pixels for name in names]
    exact = RuntimeChoice("openvino", "cpu", "fp32", "a test")
    detector = open_detector(resolve("faceembed-align", task="aligner"), exact, threads=2)
    found = detector.detect(photos, [20] * len(photos), only_largest=True)
    assert found.photo.tolist() == list(range(len(photos)))
    assert found.scores.min() > 0.85


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 2**31))
def test_largest_is_one_a_photo(photo: list[int], seed: int) -> None:
    corners = np.random.default_rng(seed).uniform(-20, 100, (len(photo), 2, 2))
    faces = detections(np.concatenate([corners.min(1), corners.max(1)], 1).tolist(), photo)
    sizes = np.full((5, 2), 90.0)
    chosen = faces.largest(sizes)
    assert chosen.photo.tolist() == sorted(set(photo))
    prominence, best = faces.prominence(sizes), chosen.prominence(sizes)
    for index, value in zip(chosen.photo.tolist(), best, strict=True):
        assert value == prominence[faces.photo == index].max()


def test_none_and_concatenate() -> None:
    assert len(Detections.none()) == len(Detections.concatenate([])) == 0
    both = Detections.concatenate([detections([[0, 0, 1, 2]], [0]), Detections.none(), detections([[3, 3, 3, 9]], [4])])
    assert both.photo.tolist() == [0, 4]
    np.testing.assert_allclose(both.sides(), [np.sqrt(2), 0])
