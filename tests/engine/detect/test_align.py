"""From landmarks to chips: the template is hit whatever the face's place, size and turn in the photo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.detect.align import crop_landmarks, similarity_matrices, warp_chips
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec

SPEC = ModelSpec("test", "encoder", (112, 112), dimension=4, template=ARCFACE_TEMPLATE)


def turned(scale: float, degrees: float, at: tuple[float, float]) -> np.ndarray:
    """The template's points in a photo, continuous pixels: (1, 5, 2)."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    points = np.array(ARCFACE_TEMPLATE) @ np.array([[c, s], [-s, c]]) + at
    return (points + 0.5)[None].astype(np.float32)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0.1, 20), st.floats(-180, 180), st.floats(-500, 5000), st.floats(-500, 5000))
def test_matrix_takes_the_template_to_the_landmarks(scale: float, degrees: float, x: float, y: float) -> None:
    landmarks = turned(scale, degrees, (x, y))
    (matrix,) = similarity_matrices(landmarks, SPEC)
    template = np.c_[np.array(SPEC.template), np.ones(5)]
    np.testing.assert_allclose(template @ matrix.T + 0.5, landmarks[0], atol=0.01)
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(scale**2, rel=1e-3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(-999, 999), st.floats(-999, 999)), min_size=5, max_size=5))
def test_a_similarity_or_nan_whatever_the_points(points: list[tuple[float, float]]) -> None:
    (matrix,) = similarity_matrices(np.array([points], np.float32), SPEC)
    if np.isfinite(matrix).all():
        a, b = matrix[0, 0], matrix[1, 0]
        np.testing.assert_allclose(matrix[:, :2], [[a, -b], [b, a]], atol=1e-9)  # no mirror, no shear
    else:
        assert np.isnan(matrix).all()


def test_five_equal_points_are_no_face() -> None:
    assert np.isnan(similarity_matrices(np.full((1, 5, 2), 30, np.float32), SPEC)).all()


def test_chip_shows_each_point_where_the_template_has_it() -> None:
    landmarks = turned(3.0, 25, (400, 120))
    photo = np.zeros((900, 900, 3), np.uint8)
    for x, y in landmarks[0] - 0.5:
        photo[round(float(y)) - 4 : round(float(y)) + 5, round(float(x)) - 4 : round(float(x)) + 5] = 255
    (chip,) = warp_chips([photo], np.zeros(1, np.int32), similarity_matrices(landmarks, SPEC), SPEC)
    assert chip.shape == (112, 112, 3)
    weight = chip[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    for x, y in SPEC.template:
        near = (abs(columns - x) < 5) & (abs(rows - y) < 5)
        spot = weight * near
        assert spot.sum() > 500
        assert (spot * columns).sum() / spot.sum() == pytest.approx(x, abs=0.3)
        assert (spot * rows).sum() / spot.sum() == pytest.approx(y, abs=0.3)
        weight[near] = 0
    assert weight.sum() == 0


@pytest.mark.parametrize("side", [56, 112, 150, 224, 500])
def test_landmarks_of_a_crop_follow_its_size(side: int) -> None:
    """A crop of any size is the template's chip, enlarged: pixel areas, not pixel centres, scale."""
    points = crop_landmarks(side, side)
    np.testing.assert_allclose(points, (np.array(ARCFACE_TEMPLATE) + 0.5) * side / 112, rtol=1e-6)
    (matrix,) = similarity_matrices(points[None], SPEC)
    scale = side / 112
    np.testing.assert_allclose(matrix, [[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], atol=1e-4)


def test_a_crop_of_the_templates_size_is_its_own_chip(astronaut: np.ndarray) -> None:
    crop = np.ascontiguousarray(astronaut[50:162, 160:272])
    matrices = similarity_matrices(crop_landmarks(112, 112)[None], SPEC)
    chip = warp_chips([crop], np.zeros(1, np.int32), matrices, SPEC)[0]
    assert np.abs(chip.astype(int) - crop).max() <= 1


def test_chips_of_several_photos_have_the_specs_size(encoder_model: Model, astronaut: np.ndarray) -> None:
    photos = [astronaut, np.ascontiguousarray(astronaut[:200, :300])]
    landmarks = np.concatenate([turned(1.0, 0, (160, 40)), turned(0.8, 10, (150, 50)), turned(1.0, 0, (160, 40))])
    owner = np.array([0, 0, 1], np.int32)
    chips = warp_chips(photos, owner, similarity_matrices(landmarks, encoder_model.spec), encoder_model.spec)
    assert chips.shape == (3, 150, 150, 3)
    assert chips.dtype == np.uint8
    assert np.abs(chips[0].astype(int) - chips[2]).mean() < 5  # the same face, in a photo cut to its upper left
    assert np.abs(chips[0].astype(int) - chips[1]).mean() > 5
