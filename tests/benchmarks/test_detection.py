"""The arithmetic of `benchmarks/detection.py`: what is missed, another face, false, and how far landmarks are off."""

from __future__ import annotations

from pathlib import Path

import detection
import detection_matches
import detection_sets
import numpy as np
import pytest
from common import BenchmarkError

from faceembed.engine.detect.detections import Detections

FACE = np.array([(-10, -10), (10, -10), (0, 0), (-8, 10), (8, 10)], np.float32)  # eyes 20 pixels apart


def faces(*given: tuple[int, float, float]) -> Detections:
    """Faces of 40 pixels: (photo, x, y of the middle)."""
    middle = np.array([place[1:] for place in given], np.float32).reshape(-1, 2)
    return Detections(
        np.array([place[0] for place in given], np.int32),
        np.concatenate([middle - 20, middle + 20], axis=1),
        middle[:, None] + FACE,
        np.ones(len(given), np.float32),
    )


def test_landmarks_are_compared_with_the_reference() -> None:
    wanted = faces((0, 50, 50), (1, 50, 50), (2, 50, 50), (3, 50, 50))
    found = faces((0, 50.4, 50), (1, 50, 51), (3, 200, 50))  # 2 % and 5 % of the eyes' distance, one missed, one other
    result = detection_matches.compare(found, wanted)
    assert result["landmark_error"] == pytest.approx(0.035, rel=1e-4)
    assert result["landmark_error_90"] == pytest.approx(0.047, rel=1e-4)
    assert (result["missed"], result["other_face"]) == (0.25, 0.25)


def test_nothing_found_is_all_missed() -> None:
    result = detection_matches.compare(faces(), faces((0, 50, 50)))
    assert result["missed"] == 1 and np.isnan(result["landmark_error"])


def test_false_is_what_the_reference_does_not_touch_in_the_same_photo() -> None:
    supported = faces((1, 50, 50), (0, 150, 50), (1, 300, 50))
    found = faces((0, 50, 50), (0, 150, 60), (1, 50, 70), (1, 300, 90), (2, 50, 50))
    # overlaps: none in photo 0 at 50; 0.6; 1/3; 0; photo 2 has nothing
    assert detection_matches.unsupported(found, supported) == 3
    assert detection_matches.unsupported(faces(), supported) == 0
    assert detection_matches.unsupported(found, faces()) == 5


@pytest.mark.parametrize("index", range(5))
def test_a_turned_face_lies_where_its_photo_was_turned_to(index: int) -> None:
    upright = np.zeros((60, 90, 3), np.uint8)
    upright[10:30, 50:60] = 255
    photos = [upright] * 5
    boxes = np.array([[50, 10, 60, 30]] * 5, np.float32)
    given = Detections(np.arange(5, dtype=np.int32), boxes, np.zeros((5, 5, 2), np.float32), np.ones(5, np.float32))
    seen = detection_sets.turned(photos)[index]
    rows, columns = np.nonzero(seen[:, :, 0])
    there = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(detection_sets.turned_boxes(given, photos).boxes[index], there)


@pytest.mark.parametrize(("nose", "pose"), [(10, 0), (12, 0), (13.5, 1), (18, 1), (20, 2), (0, 2)])
def test_a_pose_is_read_off_the_nose(nose: float, pose: int) -> None:
    points = np.array([(0, 0), (20, 0), (nose, 12), (3, 20), (17, 20)], float)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert detection_sets.pose(points) == pose
    assert detection_sets.pose(points @ turn.T + 7) == pose


def test_group_photos_are_read_with_their_faces(tmp_path: Path) -> None:
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "truth.csv").write_text("picture,x,y,w,h,person\nb.jpg,1,2,30,40,Anna\na.jpg,5,6,7,8,Bob\n")
    paths, found = detection_sets.groups(tmp_path)
    assert [Path(path).name for path in paths] == ["a.jpg", "b.jpg"]
    assert found.photo.tolist() == [1, 0]
    assert found.boxes.tolist() == [[1, 2, 31, 42], [5, 6, 12, 14]]
    with pytest.raises(BenchmarkError, match=r"no .*truth\.csv; make it with"):
        detection_sets.groups(tmp_path / "none")


class Sees:
    """A detector of what it was told of each photo, by its width; one face is sure, the next is not."""

    min_score = 0.5
    confirms = False

    def detect(self, photos: list[np.ndarray], smallest: list[float], *, only_largest: bool) -> Detections:
        found = faces(*((index, photo.shape[1] / 2, 50) for index, photo in enumerate(photos) if photo.shape[1] >= 100))
        scores = np.where(np.arange(len(found)) % 2 == 0, 0.9, 0.4).astype(np.float32)
        return Detections(found.photo, found.boxes, found.landmarks, scores)


def test_what_is_not_sure_is_not_found() -> None:
    photos = [np.zeros((100, width, 3), np.uint8) for width in (100, 120, 60, 140)]
    row = detection._measure_found({"one": Sees()}, photos, 1, 1, every=False)["one"]  # type: ignore[dict-item]
    assert (row["detection_rate"], row["faces_per_photo"]) == (0.5, 0.5)
    row = detection._measure_found({"one": Sees()}, photos, 1, 1, every=True)["one"]  # type: ignore[dict-item]
    assert row["false_photos"] == 0.5


def test_group_photos_count_large_faces_and_false_ones(tmp_path: Path) -> None:
    import cv2

    paths = [str(tmp_path / f"{width}.png") for width in (100, 200)]
    for path, width in zip(paths, (100, 200), strict=True):
        cv2.imwrite(path, np.zeros((100, width, 3), np.uint8))
    truth = faces((0, 50, 50), (1, 20, 50), (1, 100, 52))
    small = Detections(
        np.zeros(1, np.int32), np.array([[0, 0, 20, 20]], np.float32), FACE[None], np.ones(1, np.float32)
    )
    row = detection._measure_groups({"one": Sees()}, paths, Detections.concatenate([truth, small]), 1)  # type: ignore[dict-item]
    assert row["faces"] == 3  # the one of 20 pixels is not asked for
    assert row["one"]["detection_rate"] == pytest.approx(2 / 3)
    assert row["one"]["false_per_photo"] == 0
    row = detection._measure_groups({"one": Sees()}, paths, small, 1)  # type: ignore[dict-item]
    assert row["one"]["false_per_photo"] == 1
