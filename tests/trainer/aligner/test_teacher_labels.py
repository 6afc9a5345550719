"""Labels: what most views say alike is a face, anything else is doubtful; and the file keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.errors import DataError
from faceembed.trainer.aligner.labels import LabelledPhoto, read_labels, write_labels, yaw
from faceembed.trainer.aligner.teacher import TeacherSettings, label

from .conftest import DOTS, centre_of

Look = Callable[[int, NDArray[np.uint8]], list[tuple[NDArray[np.float64], float]]]


class DotDetector(Detector):
    """Finds the five dots of a photo by their colours; ``change`` may spoil what a view says."""

    def __init__(self, change: Callable[[int, Detections], Detections] = lambda view, found: found) -> None:
        self.change = change
        self.min_faces: list[float] = []
        self.calls = 0

    def exact(self) -> Detector:
        return self

    def detect(
        self, photos: Sequence[NDArray[np.uint8]], min_faces: Sequence[float], *, only_largest: bool
    ) -> Detections:
        assert not only_largest
        self.min_faces += min_faces
        found = []
        for index, pixels in enumerate(photos):
            points = np.array([centre_of(pixels, colour) for colour in DOTS])
            order = [1, 0, 2, 4, 3] if points[0, 0] > points[1, 0] else list(range(5))  # left as seen in the image
            points = points[order]
            low, high = points.min(axis=0), points.max(axis=0)
            box = np.concatenate([low, high])[None].astype(np.float32)
            found.append(
                Detections(
                    np.array([index], np.int32), box, points[None].astype(np.float32), np.array([0.99], np.float32)
                )
            )
        self.calls += 1
        return self.change(self.calls - 1, Detections.concatenate(found))


def run(photo: LabelledPhoto, detector: Detector) -> LabelledPhoto:
    import cv2

    pixels = np.ascontiguousarray(cv2.imread(photo.path)[..., ::-1])
    return label(detector, [photo.path], [pixels], group="g", settings=TeacherSettings())[0]


def test_views_come_back_to_the_photo(dotted: Callable[..., LabelledPhoto]) -> None:
    """Shrunk, enlarged, mirrored: the mean landmarks are the photo's own."""
    photo = dotted("one", 200, 150, 40, 60, 70)
    detector = DotDetector()
    found = run(photo, detector)
    assert detector.calls == 6 and detector.min_faces == pytest.approx([9.8, 9.8, 14, 14, 19.6, 19.6])
    assert len(found.boxes) == 1 and len(found.doubtful) == 0 and found.group == "g"
    np.testing.assert_allclose(found.landmarks, photo.landmarks, atol=1.0)


def test_a_face_that_few_views_show_is_doubtful(dotted: Callable[..., LabelledPhoto]) -> None:
    photo = dotted("one", 200, 150, 40, 60, 70)
    none = run(photo, DotDetector(lambda view, found: Detections.none()))
    assert (len(none.boxes), len(none.doubtful)) == (0, 0)
    few = run(photo, DotDetector(lambda view, found: found if view < 3 else Detections.none()))
    assert (len(few.boxes), len(few.doubtful)) == (0, 1)
    most = run(photo, DotDetector(lambda view, found: found if view < 4 else Detections.none()))
    assert (len(most.boxes), len(most.doubtful)) == (1, 0)


def test_unsure_scores_and_scattered_landmarks_are_doubtful(dotted: Callable[..., LabelledPhoto]) -> None:
    photo = dotted("one", 200, 150, 40, 60, 70)

    def unsure(view: int, found: Detections) -> Detections:
        return Detections(found.photo, found.boxes, found.landmarks, found.scores * np.float32(0.85))

    def scattered(view: int, found: Detections) -> Detections:
        away = np.float32(6 * (-1) ** (view // 2))
        return Detections(found.photo, found.boxes, found.landmarks + away, found.scores)

    for change in (unsure, scattered):
        found = run(photo, DotDetector(change))
        assert (len(found.boxes), len(found.doubtful)) == (0, 1)


def test_a_view_counts_once(dotted: Callable[..., LabelledPhoto]) -> None:
    """Two boxes on one face in three views are not six views."""
    photo = dotted("one", 200, 150, 40, 60, 70)
    twice = DotDetector(lambda view, found: Detections.concatenate([found, found]) if view < 3 else Detections.none())
    found = run(photo, twice)
    assert (len(found.boxes), len(found.doubtful)) == (0, 1)


def test_file_keeps_everything(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos = [
        LabelledPhoto(
            f"/p/{faces}\udcff.jpg",
            "g",
            rng.random((faces, 4)).astype(np.float32),
            rng.random((faces, 5, 2)).astype(np.float32),
            rng.random((doubtful, 4)).astype(np.float32),
            *weights,
        )
        for faces, doubtful, *weights in ((0, 0), (1, 2), (3, 0), (2, 1, rng.random((2, 5)).astype(np.float32)))
    ]
    write_labels(tmp_path / "l.parquet", photos)
    for before, after in zip(photos, read_labels(tmp_path / "l.parquet"), strict=True):
        assert (before.path, before.group) == (after.path, after.group)
        for name in ("boxes", "landmarks", "doubtful", "weights"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_a_file_of_before_weighs_all_landmarks_alike(tmp_path: Path, some: list[LabelledPhoto]) -> None:
    write_labels(tmp_path / "l.parquet", some)
    table = pq.read_table(tmp_path / "l.parquet")
    pq.write_table(table.drop_columns(["weights"]), tmp_path / "old.parquet")
    for photo in read_labels(tmp_path / "old.parquet"):
        np.testing.assert_array_equal(photo.weights, np.ones((1, 5), np.float32))
    with pytest.raises(ValueError, match="for 1 faces"):
        dataclasses.replace(some[0], weights=np.ones((2, 5), np.float32))


@pytest.mark.parametrize(("nose", "expected"), [((50, 60), 0.0), ((70, 60), 0.5), ((10, 50), -1.0)])
def test_yaw_goes_along_the_eyes(nose: tuple[float, float], expected: float) -> None:
    """Whatever the face's turn and size."""
    points = np.array([(30, 35), (70, 35), nose, (35, 80), (65, 80)], np.float32)
    turn = np.array([(0.6, -0.8), (0.8, 0.6)], np.float32) * 3
    np.testing.assert_allclose(yaw(np.stack([points, points @ turn])), expected, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"not parquet"])
def test_what_is_no_label_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "l.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"l\.parquet is not a file of face labels .* faceembed data faces") as error:
        read_labels(path)
    assert "\n" not in str(error.value)
