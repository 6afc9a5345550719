"""The arithmetic of `benchmarks/detection.py`: what is missed, another face, false, and how far landmarks are off."""

from __future__ import annotations

import detection
import numpy as np
import pytest

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
    result = detection._compare(found, wanted)
    assert result["landmark_error"] == pytest.approx(0.035, rel=1e-4)
    assert result["landmark_error_90"] == pytest.approx(0.047, rel=1e-4)
    assert (result["missed"], result["other_face"]) == (0.25, 0.25)


def test_nothing_found_is_all_missed() -> None:
    result = detection._compare(faces(), faces((0, 50, 50)))
    assert result["missed"] == 1 and np.isnan(result["landmark_error"])


def test_false_is_what_the_reference_does_not_touch_in_the_same_photo() -> None:
    supported = faces((1, 50, 50), (0, 150, 50), (1, 300, 50))
    found = faces((0, 50, 50), (0, 150, 60), (1, 50, 70), (1, 300, 90), (2, 50, 50))
    # overlaps: none in photo 0 at 50; 0.6; 1/3; 0; photo 2 has nothing
    assert detection._unsupported(found, supported) == 3
    assert detection._unsupported(faces(), supported) == 0
    assert detection._unsupported(found, faces()) == 5
