"""The face mesh: exact at the landmarks, moves with the face, and knows how the head is turned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.trainer.data.fakes import mesh
from faceembed.trainer.data.fakes.mesh import Mesh, fit_mesh, fit_meshes, frontal, part

ANGLES = st.floats(-0.6, 0.6)


def faces(seed: int, count: int = 1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return (frontal()[:5] + rng.normal(0, 0.04, (count, 5, 2))) * 50 + 100


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 5), ANGLES, st.floats(-300, 300), st.floats(-300, 300))
def test_moves_with_the_face(seed: int, size: float, angle: float, x: float, y: float) -> None:
    landmarks = faces(seed)[0]
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before, after = fit_mesh(landmarks), fit_mesh(landmarks @ turn.T + np.array([x, y]))
    # The prior on roll is so weak that a turned face gives the turned mesh.
    np.testing.assert_allclose(after.points, before.points @ turn.T + np.array([x, y]), atol=0.02 * size * 50)
    np.testing.assert_allclose(after.landmarks, landmarks @ turn.T + np.array([x, y]), atol=1e-9)
    assert after.scale == pytest.approx(size * before.scale, rel=0.01)
    assert after.yaw == pytest.approx(before.yaw, abs=0.5)
    assert after.roll == pytest.approx(before.roll + np.degrees(angle), abs=0.5)


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.7, 0.7), st.floats(-0.25, 0.25), ANGLES)
def test_finds_how_the_head_is_turned(yaw: float, pitch: float, roll: float) -> None:
    model, _ = mesh._model()
    pose = np.array([200, 150, np.log(60), yaw, pitch, roll])
    points = mesh._project(pose, model)
    found = fit_mesh(points[:5])
    assert found.yaw == pytest.approx(np.degrees(yaw), abs=4)
    assert found.roll == pytest.approx(np.degrees(roll), abs=4)
    assert np.sign(round(found.pitch, 1)) in (0, np.sign(pitch)) or abs(pitch) < 0.03  # drawn to 0, never turned round
    assert np.abs(found.points - points).max() < 0.12 * 60


def test_many_together_are_as_one_by_one() -> None:
    landmarks = faces(3, 5)
    for one, many in zip(landmarks, fit_meshes(landmarks), strict=True):
        np.testing.assert_allclose(fit_mesh(one).points, many.points, atol=1e-8)


@given(st.integers(0, 1000), st.floats(0.1, 8))
@settings(max_examples=20, deadline=None)
def test_scaled_and_moved(seed: int, factor: float) -> None:
    face = fit_mesh(faces(seed)[0])
    for other, wanted in (
        (face.scaled(factor), face.points * factor),
        (face.moved(7, -3), face.points + np.array([7, -3])),
        (face.reposed(face.yaw, face.pitch, face.left), face.points),
    ):
        np.testing.assert_allclose(other.points, wanted, atol=0.02 * max(1, factor))
        placed = mesh._place(other.pose, other.left)
        np.testing.assert_allclose(placed, other.points, atol=0.02 * other.scale)


def test_a_turned_head_looks_away() -> None:
    face = fit_mesh(faces(1)[0])
    turned = face.reposed(face.yaw + 20, face.pitch, face.left)
    nose, eyes = 2, slice(0, 2)
    assert turned.points[nose, 0] > face.points[nose, 0] + 0.1 * face.scale
    np.testing.assert_allclose(turned.points[eyes].mean(0), face.points[eyes].mean(0), atol=1e-6)
    assert np.ptp(turned.points[eyes, 0]) < np.ptp(face.points[eyes, 0])


def test_parts_and_frame() -> None:
    face = fit_mesh(faces(2)[0])
    assert face.points[part("outline")][:, 1].max() > face.points[3:5, 1].max()  # the chin is below the mouth
    assert face.points[part("forehead")][:, 1].max() < face.points[:2, 1].min()
    assert face.inside(1000, 1000) == 1
    assert 0 < face.inside(1000, int(face.points[2, 1])) < 1
    assert isinstance(face, Mesh)
