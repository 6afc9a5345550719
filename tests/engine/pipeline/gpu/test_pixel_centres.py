"""Where a pixel's centre is: half a pixel of shift anywhere in the path, and one of these fails."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceembed.engine.detect.canvas import GREY
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.native import _native
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.dali import corner_matrix, load

SIZE = (112, 112)
SPEC = ModelSpec("any", "encoder", SIZE, dimension=8, template=ARCFACE_TEMPLATE)
MATRICES = [
    np.array([[1.0, 0.0, 40.0], [0.0, 1.0, 30.0]]),
    np.array([[0.9, 0.1, 45.3], [-0.1, 0.9, 37.7]]),
    np.array([[0.6, -0.35, 120.2], [0.35, 0.6, 60.9]]),
]


def by_dali(photo: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    dynamic = load()
    with dynamic.EvalMode.sync_cpu:
        warped = dynamic.warp_affine(
            dynamic.as_tensor(photo, layout="HWC"), matrix=matrix.astype(np.float32), size=list(SIZE), fill_value=0.0
        )
        return np.array(warped).astype(int)


@pytest.mark.parametrize("matrix", MATRICES)
def test_dali_counts_from_corners_and_opencv_from_centres(
    backend: CpuBackend, astronaut: np.ndarray, matrix: np.ndarray
) -> None:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(astronaut, matrix, SIZE, flags=flags).astype(int)
    translated = np.abs(by_dali(np.array(astronaut), corner_matrix(matrix)) - expected)
    raw = np.abs(by_dali(np.array(astronaut), matrix) - expected)
    assert translated.mean() < 0.1
    assert translated.max() <= 3  # OpenCV's coordinates have 5 bits behind the point
    if np.array_equal(matrix[:, :2], np.eye(2)):  # a shift by whole pixels has no half to lose
        assert raw.mean() == pytest.approx(translated.mean())
    else:
        assert raw.mean() > 10 * translated.mean()
        assert raw.mean() > 0.2


@pytest.mark.parametrize("matrix", MATRICES)
def test_chips_are_cut_where_opencv_would(
    backend: CpuBackend, astronaut: np.ndarray, matrix: np.ndarray, session: object
) -> None:
    """Of a smooth picture, for which the antialiasing makes no difference; half a pixel makes ten times as much."""
    smooth = cv2.GaussianBlur(astronaut, (0, 0), 3)

    def difference(shift: float) -> float:
        moved = matrix.copy()
        moved[:, 2] += shift
        with backend.lane("decode"):
            chips = backend.warp([backend.upload(smooth)], np.zeros(1, np.int32), moved[None], session, SPEC, SIZE)  # type: ignore[arg-type]
        return float(np.abs(np.asarray(chips)[0].astype(int) - expected).mean())

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(smooth, matrix, SIZE, flags=flags).astype(int)
    assert difference(0) < 0.15
    assert difference(0.5) > 3 * difference(0)
    assert difference(-0.5) > 3 * difference(0)


@pytest.fixture
def session() -> object:
    return object()  # the CPU backend does not ask what the chips are for


@pytest.mark.parametrize("size", [(160, 160), (100, 75), (61, 40), (33, 57)])
def test_canvases_lie_where_dali_would_put_them(
    backend: CpuBackend, astronaut: np.ndarray, size: tuple[int, int]
) -> None:
    """Our antialiased resize against DALI's: no shift, the rest of the canvas grey."""
    photo = np.ascontiguousarray(astronaut[:401, :499])
    dynamic = load()
    with dynamic.EvalMode.sync_cpu:
        expected = np.array(dynamic.resize(dynamic.as_tensor(photo, layout="HWC"), size=list(size), antialias=True))
    rows, columns = size
    canvas = np.full((160, 192, 3), GREY, np.uint8)
    _native.resize_into(photo, canvas, 0, 0, rows, columns)
    copy = canvas[:rows, :columns].astype(int)
    assert np.abs(copy - expected.astype(int)).mean() < 0.6
    assert (canvas[rows:] == GREY).all()
    assert (canvas[:, columns:] == GREY).all()
    shift_y, shift_x = displacement(copy.mean(2), expected.astype(int).mean(2))
    assert abs(shift_y) < 0.02
    assert abs(shift_x) < 0.02


def test_displacement_sees_half_a_pixel(astronaut: np.ndarray) -> None:
    """The measure of the test above."""
    picture = cv2.GaussianBlur(astronaut, (0, 0), 2).mean(2)
    moved = cv2.warpAffine(
        picture, np.array([[1, 0, 0.5], [0, 1, 0]]), picture.shape[::-1], borderMode=cv2.BORDER_REFLECT
    )
    shift_y, shift_x = displacement(moved, picture)
    assert shift_x == pytest.approx(0.5, abs=0.1)
    assert shift_y == pytest.approx(0, abs=0.05)


def displacement(picture: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """By how many pixels a picture is moved down and right: least squares on the gradients."""
    down, right = np.gradient(reference)
    gradients = np.stack([down.ravel(), right.ravel()], 1)
    y, x = np.linalg.lstsq(gradients, (reference - picture).ravel(), rcond=None)[0]
    return float(y), float(x)
