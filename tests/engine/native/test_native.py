"""The native kernels against a float64 reference written out here from the definition, and against OpenCV and scikit-image."""

from __future__ import annotations

import ast
import inspect
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

import faceembed.engine.native
from faceembed.engine.native import _native

ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.ascontiguousarray(cv2.GaussianBlur(noise(height, width, seed), (0, 0), 3))


def similarity(
    scale: float, degrees: float = 0.0, at: tuple[float, float] = (0, 0), mirror: bool = False
) -> np.ndarray:
    """Output pixel (0, 0) lands on `at`; one matrix, shape (1, 2, 3)."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    matrix = np.array([[c, -s, at[0]], [s, c, at[1]]])
    if mirror:
        matrix[:, 0] *= -1
    return matrix[None]


def tent_matrix(centres: np.ndarray, radius: float, size: int, border: str) -> np.ndarray:
    """Weights (outputs, source positions) along one axis, by the definition; positions outside are folded in or dropped."""
    reach = math.ceil(radius) + 1
    # Farther out nothing changes: move the centre to where it just misses the image.
    centres = np.clip(centres, -radius - 1, size + radius)
    low, high = math.floor(centres.min()) - reach, math.ceil(centres.max()) + reach
    positions = np.arange(low, high + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(positions[None] - centres[:, None]) / radius)
    weights /= weights.sum(axis=1, keepdims=True)
    folded = np.zeros((len(centres), size))
    for column, position in zip(weights.T, positions, strict=True):
        if border == "replicate":
            folded[:, min(max(position, 0), size - 1)] += column
        elif 0 <= position < size:
            folded[:, position] += column
    return folded


def reference(image: np.ndarray, matrix: np.ndarray, height: int, width: int, border: str = "constant") -> np.ndarray:
    """The warp in float64, not rounded: (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    centres = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])  # (2, pixels)
    radius = max(math.sqrt(abs(np.linalg.det(matrix[:, :2]))), 1.0)
    columns = tent_matrix(centres[0], radius, image.shape[1], border)
    rows = tent_matrix(centres[1], radius, image.shape[0], border)
    out = np.empty((x.size, 3))
    for channel in range(3):
        out[:, channel] = np.einsum("ph,ph->p", rows, columns @ image[..., channel].astype(np.float64).T)
    return out.reshape(height, width, 3)


def assert_close(actual: np.ndarray, exact: np.ndarray) -> None:
    """Rounded to the nearest level; float32 sums may decide differently where the exact value is half-way within 0.001."""
    assert actual.dtype == np.uint8
    assert np.abs(actual - exact).max() <= 0.5 + 1e-3


# ---- the warp ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize("degrees", [0.0, 0.001, 12.0, 90.0, 180.0, -141.0])
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.0001, 1.3, 1.5, 2.0, 2.4, 2.5, 3.1, 7.7, 20.0])
def test_warp_matches_the_float64_reference(scale: float, degrees: float, border: str) -> None:
    image = noise(61, 83)
    matrix = similarity(scale, degrees, at=(20.3, 11.6))  # inside, across the border and outside
    actual = _native.warp(image, matrix, 23, 27, border=border)[0]
    assert_close(actual, reference(image, matrix[0], 23, 27, border))


@quick
@given(
    scale=st.floats(0.05, 40),
    degrees=st.sampled_from([0.0, 90.0, 180.0]) | st.floats(-180, 180),
    x=st.floats(-60, 120),
    y=st.floats(-60, 120),
    mirror=st.booleans(),
    border=st.sampled_from(["constant", "replicate"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_warp_matches_the_reference_anywhere(
    scale: float, degrees: float, x: float, y: float, mirror: bool, border: str, size: tuple[int, int]
) -> None:
    image = noise(*size)
    matrix = similarity(scale, degrees, (x, y), mirror)
    assert_close(_native.warp(image, matrix, 9, 13, border=border)[0], reference(image, matrix[0], 9, 13, border))


@quick
@given(
    scale=st.floats(0.05, 40),
    degrees=st.floats(-180, 180),
    x=st.floats(-60, 120),
    y=st.floats(-60, 120),
    mirror=st.booleans(),
    border=st.sampled_from(["constant", "replicate"]),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    hard=st.booleans(),
)
def test_fixed_point_is_a_level_away_at_most(
    scale: float, degrees: float, x: float, y: float, mirror: bool, border: str, size: tuple[int, int], hard: bool
) -> None:
    image = noise(*size)
    image = np.where(image > 127, 255, 0).astype(np.uint8) if hard else image  # what rounding of weights shows most in
    matrix = similarity(scale, degrees, (x, y), mirror)
    exact, fixed = (_native.warp(image, matrix, 21, 26, border=border, exact=kind)[0] for kind in (True, False))
    assert np.abs(exact.astype(int) - fixed).max() <= 1


@quick
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    hard=st.booleans(),
)
def test_resize_in_fixed_point_is_a_level_away_at_most(
    size: tuple[int, int], target: tuple[int, int], hard: bool
) -> None:
    image = noise(*size)
    image = np.where(image > 127, 255, 0).astype(np.uint8) if hard else image
    exact, fixed = (_native.resize(image, *target, exact=kind).astype(int) for kind in (True, False))
    assert np.abs(exact - fixed).max() <= 1


@pytest.mark.parametrize("scale", [0.8, 1.4, 2.8, 6.0])
def test_fixed_point_is_off_nowhere_in_particular(scale: float) -> None:
    """No shade is added: what rounds differently is rare, and falls to both sides."""
    image = noise(500, 500)
    matrix = similarity(scale, 12.0, at=(90, 20))
    exact, fixed = (_native.warp(image, matrix, 60, 60, exact=kind).astype(int) for kind in (True, False))
    assert np.abs(exact - fixed).mean() <= 0.1  # of pixels without any order
    assert abs((exact - fixed).mean()) <= 0.01
    assert (exact != 0).mean() > 0.5


@pytest.mark.parametrize("level", [0, 1, 254, 255])
@pytest.mark.parametrize("scale", [0.5, 1.5, 2.9, 9.0, 31.0])
def test_a_constant_stays_one_in_fixed_point(scale: float, level: int) -> None:
    image = np.full((700, 700, 3), level, np.uint8)
    assert (_native.warp(image, similarity(scale, 0.5, at=(40, 40)), 20, 20, exact=False) == level).all()
    assert (_native.resize(image, round(700 / scale), 170, exact=False) == level).all()


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7, 2.5, 6.0, 19.0])
def test_axis_aligned_path_equals_the_general_one(scale: float) -> None:
    image = noise(200, 260)
    matrix = similarity(scale, 0.0, at=(-7.25, 13.5))
    nearly = matrix.copy()
    nearly[0, 0, 1], nearly[0, 1, 0] = -1e-12, 1e-12  # not zero: takes the general path
    straight, turned = (_native.warp(image, m, 24, 31)[0].astype(int) for m in (matrix, nearly))
    assert np.abs(straight - turned).max() <= 1
    assert np.abs(straight - turned).mean() <= 0.02


def test_identity_is_exact() -> None:
    image = noise(40, 50)
    assert np.array_equal(_native.warp(image, similarity(1.0), 40, 50)[0], image)


def test_mirror_is_exact() -> None:
    image = noise(40, 50)
    assert np.array_equal(_native.warp(image, similarity(1.0, at=(49, 0), mirror=True), 40, 50)[0], image[:, ::-1])


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_equal_rot90(quarter: int) -> None:
    image = noise(41, 41)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter]
    turn = np.array([[c, -s], [s, c]], np.float64)  # whole numbers: no rounding in the geometry
    matrix = np.concatenate([turn, np.array([[20], [20]]) - turn @ [[20], [20]]], axis=1)[None]
    assert np.array_equal(_native.warp(image, matrix, 41, 41)[0], np.rot90(image, quarter))


@pytest.mark.parametrize("degrees", [0.0, 31.0])
def test_translation_equivariance(degrees: float) -> None:
    image = noise(120, 120)
    matrix = similarity(1.8, degrees, at=(40, 30))
    moved = np.roll(image, (3, 5), axis=(0, 1))
    shifted = matrix + np.array([[0, 0, 5], [0, 0, 3]])
    first, second = (_native.warp(i, m, 20, 20).astype(int) for i, m in ((image, matrix), (moved, shifted)))
    assert np.abs(first - second).max() <= 1
    assert np.abs(first - second).mean() <= 0.01


@quick
@given(scale=st.floats(0.1, 30), degrees=st.floats(-180, 180), level=st.integers(0, 255))
def test_constant_image_stays_constant(scale: float, degrees: float, level: int) -> None:
    image = np.full((50, 60, 3), level, np.uint8)
    matrix = similarity(scale, degrees, at=(25, 25))
    assert (_native.warp(image, matrix, 8, 8, border="replicate") == level).all()
    inside = similarity(0.5, degrees, at=(30, 25))
    assert (_native.warp(image, inside, 20, 20) == level).all()


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_linear_up_to_rounding(degrees: float) -> None:
    first, second = noise(90, 90, 1) // 2, noise(90, 90, 2) // 2
    matrix = similarity(2.2, degrees, at=(20, 10))
    whole = _native.warp(first + second, matrix, 30, 30).astype(int)
    parts = _native.warp(first, matrix, 30, 30).astype(int) + _native.warp(second, matrix, 30, 30)
    assert np.abs(whole - parts).max() <= 1


@pytest.mark.parametrize(("scale", "degrees"), [(0.4, 0.0), (0.7, 25.0), (1.0, -70.0)])
def test_agrees_with_opencv_where_nothing_is_reduced(scale: float, degrees: float) -> None:
    image = smooth(150, 170)
    matrix = similarity(scale, degrees, at=(60, 70))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    theirs = cv2.warpAffine(image, matrix[0], (64, 48), flags=flags).astype(int)
    ours = _native.warp(image, matrix, 48, 64)[0].astype(int)
    assert np.abs(ours - theirs).max() <= 2  # OpenCV's coordinates have 5 fractional bits in some versions
    assert np.abs(ours - theirs).mean() <= 0.3


def test_continuous_where_reduction_begins() -> None:
    image = noise(100, 100)
    below, above = (_native.warp(image, similarity(s, 10, at=(30, 20)), 40, 40).astype(int) for s in (1.0, 1 + 1e-9))
    assert np.abs(below - above).max() <= 1


def zone_plate(size: int) -> np.ndarray:
    """Circles that grow finer outwards, up to the Nyquist limit at the middle of each edge."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    wave = np.cos(math.pi * (x * x + y * y) / size)
    return np.repeat((127.5 + 127.5 * wave).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0])
def test_fine_detail_does_not_alias(degrees: float) -> None:
    size, target = 2000, 112
    image, scale = zone_plate(size), 2000 / 112
    middle = np.full(2, (size - 1) / 2) - similarity(scale, degrees)[0, :, :2] @ np.full(2, (target - 1) / 2)
    matrix = similarity(scale, degrees, at=tuple(middle))

    def moire(warped: np.ndarray) -> float:
        y, x = np.mgrid[:target, :target] - (target - 1) / 2
        radius = np.hypot(x, y) * scale  # source pixels; the local wave length is size / radius
        fine = (size / np.maximum(radius, 1) < scale) & (radius < size / 2 - 2 * scale)  # less than one output pixel
        return float(warped[..., 0][fine].std())

    bilinear = cv2.warpAffine(image, matrix[0], (target, target), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    assert moire(_native.warp(image, matrix, target, target)[0]) < 2
    assert moire(bilinear) > 60  # the test can fail


def test_checkerboard_becomes_grey() -> None:
    y, x = np.mgrid[:2000, :2000]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    matrix = similarity(1800 / 112, 5.0, at=(180, 60))
    inner = _native.warp(board, matrix, 112, 100)[0, :, :]
    assert np.abs(inner.astype(int) - 127.5).max() <= 1.5


def test_far_outside_is_black_or_the_corner() -> None:
    image = noise(30, 30)
    far = np.concatenate([similarity(s, a, at=(p, -p)) for s in (1.0, 1e6) for a in (0.0, 30.0) for p in (1e8, 1e300)])
    assert (_native.warp(image, far, 4, 4) == 0)[[0, 1, 2, 3]].all()
    corner = _native.warp(image, far[:4], 4, 4, border="replicate")
    assert (corner == image[0, -1]).all()


def test_enormous_scale_is_the_mean_of_the_surroundings() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    assert (_native.warp(image, similarity(1e6, 3.0), 3, 3, border="replicate") == 200).all()
    assert (_native.warp(image, similarity(1e6, 3.0), 3, 3) == 0).all()


def test_crop_of_an_image_needs_no_copy() -> None:
    image = noise(60, 80)
    crop = image[5:45, 10:60]
    for degrees in (0.0, 15.0):
        matrix = similarity(1.6, degrees, at=(5, 3))
        view, copy = _native.warp(crop, matrix, 30, 30), _native.warp(crop.copy(), matrix, 30, 30)
        assert np.array_equal(view, copy)
    assert np.array_equal(_native.resize(crop, 13, 17), _native.resize(crop.copy(), 13, 17))


def test_no_matrices_no_outputs() -> None:
    assert _native.warp(noise(5, 5), np.empty((0, 2, 3)), 7, 9).shape == (0, 7, 9, 3)
    assert _native.warp_many([], np.empty(0, np.int32), np.empty((0, 2, 3)), 7, 9).shape == (0, 7, 9, 3)


# ---- many images, many threads ----------------------------------------------------------------------------------------


def batch(count: int = 30) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = [noise(int(h), int(w), i) for i, (h, w) in enumerate(rng.integers(20, 120, (7, 2)))]
    angles = rng.choice([0.0, 33.0, -80.0], count)
    scales = rng.uniform(0.3, 6, count)
    matrices = np.concatenate([similarity(s, a, (5, 9)) for s, a in zip(scales, angles, strict=True)])
    return images, rng.integers(0, 7, count, dtype=np.int32), matrices


def test_warp_many_is_warp_of_each() -> None:
    images, image_of, matrices = batch()
    together = _native.warp_many(images, image_of, matrices, 21, 19, border="replicate")
    for out, which, matrix in zip(together, image_of, matrices, strict=True):
        assert np.array_equal(out, _native.warp(images[which], matrix[None], 21, 19, border="replicate")[0])


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_native_threads_do_not_change_the_result(threads: int) -> None:
    arguments = (*batch(), 21, 19)
    assert np.array_equal(_native.warp_many(*arguments, threads=threads), _native.warp_many(*arguments))


def test_more_than_memory_is_an_error() -> None:
    with pytest.raises(MemoryError):
        _native.warp(noise(2, 2), np.repeat(similarity(1.0), 2**16, axis=0), 2**24, 2**24)


def test_python_threads_do_not_change_the_result() -> None:
    arguments = (*batch(), 21, 19)
    alone = _native.warp_many(*arguments)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: _native.warp_many(*arguments), range(16)):
            assert np.array_equal(result, alone)


# ---- resize -----------------------------------------------------------------------------------------------------------


def resize_reference(image: np.ndarray, height: int, width: int) -> np.ndarray:
    def weights(source: int, target: int) -> np.ndarray:
        ratio = source / target
        centres = (np.arange(target) + 0.5) * ratio - 0.5
        w = np.maximum(0.0, 1.0 - np.abs(np.arange(source)[None] - centres[:, None]) / max(ratio, 1.0))
        return w / w.sum(axis=1, keepdims=True)

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)


@quick
@given(*[st.integers(1, 70)] * 4)
def test_resize_matches_the_reference(height: int, width: int, to_height: int, to_width: int) -> None:
    image = noise(height, width)
    assert_close(_native.resize(image, to_height, to_width), resize_reference(image, to_height, to_width))


def test_resize_to_the_same_size_is_exact() -> None:
    image = noise(33, 47)
    assert np.array_equal(_native.resize(image, 33, 47), image)


def test_resize_follows_pixel_areas() -> None:
    """A ramp keeps its line: value = source x, so an output must be (x + 0.5) * ratio - 0.5, away from the edges."""
    ramp = np.repeat(np.tile(np.arange(240, dtype=np.uint8), (60, 1))[..., None], 3, axis=2)
    small = _native.resize(ramp, 20, 60)
    expected = (np.arange(60) + 0.5) * 4 - 0.5
    assert np.abs(small[5, 2:-2, 0] - expected[2:-2]).max() <= 0.5 + 1e-3
    assert (
        np.abs(cv2.resize(ramp, (60, 20), interpolation=cv2.INTER_AREA).astype(int)[:, 2:-2] - small[:, 2:-2]).max()
        <= 1
    )


def test_resize_up_agrees_with_opencv() -> None:
    image = smooth(40, 30)
    theirs = cv2.resize(image, (75, 90), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(_native.resize(image, 90, 75).astype(int) - theirs).max() <= 1


def test_resize_into_writes_the_rectangle_only() -> None:
    image = noise(64, 48)
    canvas = noise(80, 90, 1)
    expected = canvas.copy()
    expected[11:31, 7:36] = _native.resize(image, 20, 29)
    assert _native.resize_into(image, canvas, 11, 7, 20, 29) is None
    assert np.array_equal(canvas, expected)
    _native.resize_into(image, canvas[40:80, 50:90], 0, 0, 40, 40)  # a view as the canvas, filled to its edges
    expected[40:80, 50:90] = _native.resize(image, 40, 40)
    assert np.array_equal(canvas, expected)


@pytest.mark.parametrize("exact", [True, False])
def test_paint_is_a_copy_in_the_corner_of_each_canvas(exact: bool) -> None:
    images, sizes = [noise(64, 48), noise(30, 90, 1)[:, 5:70], noise(20, 20, 2)], [(64, 40), (9, 65), (1, 1)]
    found = _native.paint(images, np.array(sizes, np.int32), 64, 65, grey=77, exact=exact)
    expected = np.full((3, 64, 65, 3), 77, np.uint8)
    for image, (rows, columns), canvas in zip(images, sizes, expected, strict=True):
        canvas[:rows, :columns] = _native.resize(image, rows, columns, exact=exact)
    assert np.array_equal(found, expected)
    assert _native.paint([], np.zeros((0, 2), np.int32), 8, 9, grey=0).shape == (0, 8, 9, 3)


# ---- non-maximum suppression ------------------------------------------------------------------------------------------


def nms_reference(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float, mode: str) -> list[int]:
    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [max(0, box[2] - box[0]) * max(0, box[3] - box[1]) for box in (a, b)]
        whole = sum(areas) - shared if mode == "union" else min(areas)
        return shared / whole if whole else 0.0

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (groups[i], -scores[i], i)):
        if all(groups[k] != groups[i] or overlap(boxes[k], boxes[i]) <= threshold for k in kept):
            kept.append(i)
    return kept


@quick
@given(data=st.data(), mode=st.sampled_from(["union", "min"]), threshold=st.sampled_from([0.0, 0.31, 0.47, 0.73, 1.0]))
def test_nms_equals_brute_force(data: Any, mode: str, threshold: float) -> None:
    count = data.draw(st.integers(0, 60))
    corner = st.integers(0, 20)
    rows = data.draw(st.lists(st.tuples(corner, corner, corner, corner), min_size=count, max_size=count))
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)), np.float32)
    groups = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count)), np.int32)
    kept = _native.nms(boxes.astype(np.float32), scores, groups, threshold, mode)
    assert kept.dtype == np.int64
    assert kept.tolist() == nms_reference(boxes, scores, groups, threshold, mode)


def test_nms_areas_are_real_valued() -> None:
    boxes = np.array(
        [[0, 0, 1, 1], [0.5, 0, 1.5, 1]], np.float32
    )  # IoU 1/3; with the +1 of whole pixels it would be 3/5
    scores, groups = np.array([1, 0.5], np.float32), np.zeros(2, np.int32)
    assert _native.nms(boxes, scores, groups, 0.4).tolist() == [0, 1]
    assert _native.nms(boxes, scores, groups, 0.3).tolist() == [0]
    assert _native.nms(boxes, scores, groups, 0.4, "min").tolist() == [0]


def test_nms_of_a_hundred_thousand() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (100_000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 100, (100_000, 2))], axis=1).astype(np.float32)
    groups = rng.integers(0, 500, 100_000, dtype=np.int32)
    kept = _native.nms(boxes, rng.random(100_000, dtype=np.float32), groups, 0.5)
    assert 10_000 < len(kept) < 100_000
    assert (np.diff(groups[kept]) >= 0).all()


# ---- five points to a template ----------------------------------------------------------------------------------------

point = st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000))


@quick
@given(scale=st.floats(0.01, 100), degrees=st.floats(-180, 180), at=point)
def test_fit_recovers_a_known_transform(scale: float, degrees: float, at: tuple[float, float]) -> None:
    matrix = similarity(scale, degrees, at)[0]
    points = ARCFACE @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(_native.fit_similarity(points[None], ARCFACE)[0], matrix, rtol=1e-7, atol=1e-7)


@quick
@given(st.lists(point, min_size=5, max_size=5))
def test_fit_agrees_with_scikit_image(points: list[tuple[float, float]]) -> None:
    source = np.array(points)
    ours = _native.fit_similarity(source[None], ARCFACE)[0]
    theirs = SimilarityTransform.from_estimate(source, ARCFACE)
    if np.isnan(ours).any() or not theirs or source.std() < 1e-3 or theirs.scale < 1e-3:
        return  # next to degenerate: both may be right
    inverse = np.linalg.inv(theirs.params)[:2]
    assert np.allclose(ours, inverse, rtol=1e-5, atol=1e-5 * np.abs(inverse).max())


def test_fit_of_degenerate_points_is_nan_and_the_others_are_fitted() -> None:
    points = np.stack([ARCFACE, np.full((5, 2), 7.0), ARCFACE * 2, ARCFACE, ARCFACE * [-1, 1] * 0, ARCFACE * 1e200])
    points[3, 2, 1] = np.nan
    fitted = _native.fit_similarity(points, ARCFACE)
    assert np.isnan(fitted).all(axis=(1, 2)).tolist() == [False, True, False, True, True, True]
    assert np.allclose(fitted[2], [[2, 0, 0], [0, 2, 0]])
    assert not np.isnan(fitted[0]).any()


def test_fit_then_warp_puts_the_points_on_the_template() -> None:
    matrix = similarity(2.5, 30.0, (300, 100))[0]
    image = np.zeros((700, 700, 3), np.uint8)
    points = ARCFACE @ matrix[:, :2].T + matrix[:, 2]
    for x, y in points.round().astype(int):
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
    chip = _native.warp(image, _native.fit_similarity(points[None], ARCFACE), 112, 112)[0, ..., 0]
    for x, y in ARCFACE:
        patch = chip[int(y) - 4 : int(y) + 6, int(x) - 4 : int(x) + 6].astype(float)
        rows, columns = np.mgrid[int(y) - 4 : int(y) + 6, int(x) - 4 : int(x) + 6]
        centre = np.array([(columns * patch).sum(), (rows * patch).sum()]) / patch.sum()
        assert np.hypot(*(centre - [x, y])) < 0.3


# ---- bad arguments ----------------------------------------------------------------------------------------------------

IMAGE, MATRIX = noise(20, 20), similarity(1.0)
BOXES, SCORES, GROUPS = np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int32)
INDEX = np.zeros(1, np.int32)


def canvas(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


BAD: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ("warp", (IMAGE.astype(np.float32), MATRIX, 5, 5), {}, TypeError, "image must be uint8, but its dtype is float32"),
    (
        "warp",
        (IMAGE[..., 0], MATRIX, 5, 5),
        {},
        ValueError,
        r"image must have shape \(any, any, 3\), but its shape is \(20, 20\)",
    ),
    ("warp", (IMAGE[..., :2], MATRIX, 5, 5), {}, ValueError, "image must have shape"),
    ("warp", (IMAGE[:, ::2], MATRIX, 5, 5), {}, ValueError, "packed RGB rows"),
    ("warp", (IMAGE[::-1], MATRIX, 5, 5), {}, ValueError, "packed RGB rows"),
    ("warp", (IMAGE[:0], MATRIX, 5, 5), {}, ValueError, "1 to 16777216 rows"),
    (
        "warp",
        (IMAGE, MATRIX[0], 5, 5),
        {},
        ValueError,
        r"matrices must have shape \(any, 2, 3\), but its shape is \(2, 3\)",
    ),
    ("warp", (IMAGE, MATRIX.astype(np.float32), 5, 5), {}, TypeError, "matrices must be float64"),
    ("warp", (IMAGE, np.repeat(MATRIX, 4, 0)[::2], 5, 5), {}, ValueError, "matrices must be C-contiguous"),
    ("warp", (IMAGE, MATRIX * np.nan, 5, 5), {}, ValueError, r"matrices\[0\] must be finite"),
    ("warp", (IMAGE, MATRIX + np.array([[0, 0, np.inf], [0, 0, 0]]), 5, 5), {}, ValueError, "must be finite"),
    ("warp", (IMAGE, MATRIX * [[1], [1.001]], 5, 5), {}, ValueError, r"matrices\[0\] must be a similarity"),
    ("warp", (IMAGE, MATRIX + np.array([[0, 0.1, 0], [0, 0, 0]]), 5, 5), {}, ValueError, "must be a similarity"),
    ("warp", (IMAGE, MATRIX * 0, 5, 5), {}, ValueError, "scale above"),
    ("warp", (IMAGE, MATRIX * 1e7, 5, 5), {}, ValueError, "at most 1e6"),
    ("warp", (IMAGE, MATRIX, 0, 5), {}, ValueError, "height must be 1 to 16777216, but is 0"),
    ("warp", (IMAGE, MATRIX, 5, -1), {}, ValueError, "width must be"),
    (
        "warp",
        (IMAGE, MATRIX, 5, 5),
        {"border": "wrap"},
        ValueError,
        "border must be 'constant' or 'replicate', but is 'wrap'",
    ),
    ("warp", (IMAGE, MATRIX, 5, 5), {"threads": 0}, ValueError, "threads must be at least 1"),
    ("warp", ([[1]], MATRIX, 5, 5), {}, TypeError, "incompatible function arguments"),
    (
        "warp_many",
        ([IMAGE], INDEX + 1, MATRIX, 5, 5),
        {},
        ValueError,
        r"image_of\[0\] must be 0 to 0 \(1 images\), but is 1",
    ),
    ("warp_many", ([IMAGE], INDEX - 1, MATRIX, 5, 5), {}, ValueError, "image_of"),
    (
        "warp_many",
        ([IMAGE], INDEX.astype(np.int64), MATRIX, 5, 5),
        {},
        TypeError,
        "image_of must be int32, but its dtype is int64",
    ),
    (
        "warp_many",
        ([IMAGE], np.zeros(2, np.int32), MATRIX, 5, 5),
        {},
        ValueError,
        r"shape \(1,\), but its shape is \(2,\)",
    ),
    ("warp_many", ([IMAGE, None], INDEX, MATRIX, 5, 5), {}, TypeError, r"images\[1\] must be a NumPy array"),
    ("warp_many", ([IMAGE, IMAGE[..., 0]], INDEX, MATRIX, 5, 5), {}, ValueError, r"images\[1\] must have shape"),
    ("resize", (IMAGE, 0, 4), {}, ValueError, "height must be"),
    ("resize", (IMAGE.astype(np.int8), 4, 4), {}, TypeError, "image must be uint8, but its dtype is int8"),
    ("resize_into", (IMAGE, canvas(9, 9, 3), 5, 0, 5, 5), {}, ValueError, "must lie inside the canvas"),
    ("resize_into", (IMAGE, canvas(9, 9, 3), 0, -1, 5, 5), {}, ValueError, "must lie inside the canvas"),
    ("resize_into", (IMAGE, canvas(9, 9, 3), 2**62, 0, 5, 5), {}, ValueError, "must lie inside the canvas"),
    ("resize_into", (IMAGE, canvas(9, 9), 0, 0, 5, 5), {}, ValueError, "canvas must have shape"),
    ("resize_into", (IMAGE, IMAGE, 0, 0, 5, 5), {}, ValueError, "must not share memory"),
    (
        "paint",
        ([IMAGE], np.array([[5, 10]], np.int32), 9, 9),
        {"grey": 1},
        ValueError,
        r"sizes\[0\] must be 1 to \(9, 9\), but is \(5, 10\)",
    ),
    ("paint", ([IMAGE], np.array([[0, 1]], np.int32), 9, 9), {"grey": 1}, ValueError, r"sizes\[0\] must be"),
    ("paint", ([IMAGE], np.ones((2, 2), np.int32), 9, 9), {"grey": 1}, ValueError, r"shape \(1, 2\)"),
    ("paint", ([IMAGE], np.ones((1, 2), np.int32), 9, 9), {"grey": 256}, ValueError, "grey must be 0 to 255"),
    ("sharpness", (IMAGE,), {}, ValueError, "chips must have shape"),
    ("sharpness", (IMAGE[None, :1],), {}, ValueError, "2 rows and columns or more"),
    ("nms", (BOXES[:, :3], SCORES, GROUPS, 0.5), {}, ValueError, r"boxes must have shape \(any, 4\)"),
    (
        "nms",
        (BOXES, SCORES[:1], GROUPS, 0.5),
        {},
        ValueError,
        r"scores must have shape \(2,\), but its shape is \(1,\)",
    ),
    ("nms", (BOXES, SCORES, GROUPS.astype(np.int64), 0.5), {}, TypeError, "groups must be int32"),
    ("nms", (BOXES, SCORES, GROUPS, 1.5), {}, ValueError, "threshold must be 0 to 1"),
    ("nms", (BOXES, SCORES, GROUPS, np.nan), {}, ValueError, "threshold must be 0 to 1"),
    ("nms", (BOXES, SCORES, GROUPS, 0.5, "iou"), {}, ValueError, "mode must be 'union' or 'min', but is 'iou'"),
    ("nms", (BOXES + np.float32(np.nan), SCORES, GROUPS, 0.5), {}, ValueError, r"boxes\[0\] must be finite"),
    ("nms", (BOXES, SCORES + np.float32(np.nan), GROUPS, 0.5), {}, ValueError, r"scores\[0\] must be a number"),
    ("fit_similarity", (ARCFACE, ARCFACE), {}, ValueError, r"points must have shape \(any, 5, 2\)"),
    ("fit_similarity", (ARCFACE[None], ARCFACE[:4]), {}, ValueError, r"template must have shape \(5, 2\)"),
    ("fit_similarity", (ARCFACE[None].astype(np.float32), ARCFACE), {}, TypeError, "points must be float64"),
    ("fit_similarity", (ARCFACE[None], ARCFACE * 0), {}, ValueError, "template must have finite points"),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), BAD)
def test_bad_arguments(
    name: str, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(_native, name)(*arguments, **options)


# ---- the stub ---------------------------------------------------------------------------------------------------------


def test_stub_agrees_with_the_module() -> None:
    def signatures(source: str) -> dict[str, str]:
        found = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
        return {f.name: f"({ast.unparse(f.args)}) -> {ast.unparse(f.returns) if f.returns else ''}" for f in found}

    stub = Path(inspect.getfile(faceembed.engine.native)).parent / "_native.pyi"
    functions = {name: value for name, value in vars(_native).items() if callable(value)}
    module = "\n".join(function.__nb_signature__[0][0] + ": ..." for function in functions.values())
    assert signatures(stub.read_text()) == signatures(module)
    assert all(function.__doc__ for function in functions.values())
