"""What the kernels compute, on the CPU build of their functions: against float64, written out here from the definitions, and
against the CPU path (`align`, `oneshot`, `refine`) on noise and on real photos."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.detect import canvas, yunet
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.detect.oneshot import decode as decode_levels
from faceembed.engine.detect.refine import TEMPLATE, refine
from faceembed.engine.models.oneshot import REFINED_SIDE as SIDE
from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.engine.native import _native
from faceembed.engine.photos.decode import decode

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
MEAN, SCALE = np.array([127.5, 110.0, 90.0], np.float32), 1 / 128
RNG = np.random.default_rng


def tent_rows(centres: NDArray[np.float64], radius: float, size: int) -> NDArray[np.float64]:
    """Weights (outputs, positions) of a tent along one axis, those outside counted and then dropped."""
    centres = np.clip(centres, -radius - 1, size + radius)  # farther out nothing changes
    pad = math.ceil(2 * radius) + 2
    positions = np.arange(-pad, size + pad)
    weights = np.maximum(0.0, 1.0 - np.abs(positions - centres[:, None]) / radius)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights[:, pad : pad + size]


def reference_chip(photo: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """The warp in float64, not rounded."""
    y, x = np.mgrid[: size[0], : size[1]]
    centres = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    radius = max(math.sqrt(abs(np.linalg.det(matrix[:, :2]))), 1.0)
    rows, columns = (tent_rows(centres[axis], radius, photo.shape[1 - axis]) for axis in (1, 0))
    chip = np.einsum("ph,hwc,pw->pc", rows, photo.astype(np.float64), columns, optimize=True)
    return chip.reshape(*size, 3)


@quick
@given(
    scale=st.floats(0.05, 40),
    degrees=st.sampled_from([0.0, 90.0]) | st.floats(-180, 180),
    at=st.tuples(st.floats(-60, 120), st.floats(-60, 120)),
    photo_size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    colour=st.sampled_from(["rgb", "bgr"]),
)
def test_chips_match_float64(
    scale: float, degrees: float, at: tuple[float, float], photo_size: tuple[int, int], colour: str
) -> None:
    photo = RNG(0).integers(0, 256, (*photo_size, 3), dtype=np.uint8)
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    matrix = np.array([[[c, -s, at[0]], [s, c, at[1]]]])
    owner = np.zeros(1, np.int32)

    def chips(dtype: str) -> NDArray[Any]:
        made: NDArray[Any] = _native.gather(
            [photo], owner, matrix, 9, 13, mean=MEAN, scale=SCALE, colour=colour, dtype=dtype
        )
        return made[0]

    levels = chips("uint8")
    # Rounded to the nearest level; float32 sums may decide differently where the exact value is half-way within 0.001.
    assert np.abs(levels - reference_chip(photo, matrix[0], (9, 13))).max() <= 0.5 + 1e-3
    ordered = levels[..., ::-1] if colour == "bgr" else levels
    exact = ((ordered.astype(np.float32) - MEAN) * np.float32(SCALE)).transpose(2, 0, 1)
    np.testing.assert_array_equal(chips("float32"), exact)
    np.testing.assert_array_equal(chips("float16"), exact.astype(np.float16))


def test_halves_are_rounded_as_ieee_says() -> None:
    """A photo of one level, and a mean and a scale that make of it any float32: to_half against NumPy's."""
    photo, owner, matrix = np.zeros((1, 1, 3), np.uint8), np.zeros(1, np.int32), np.array([[[1.0, 0, 0], [0, 1, 0]]])
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)].astype(np.float32)
    between = (finite[:-1] + finite[1:]) / 2  # ties, among others
    near = [np.nextafter(between, np.float32(side)) for side in (-np.inf, np.inf)]
    beyond = np.array([65519.996, 65520.0, 1e6, -65520.0, 1e-45, np.inf], np.float32)
    values = np.concatenate([finite, between, *near])
    for value in [*values[:: len(values) // 3000], *beyond, 5.9604645e-8, 2.9802322e-8]:
        mean = np.array([-value, value, 0], np.float32)
        chip = _native.gather([photo], owner, matrix, 1, 1, mean=mean, scale=1.0)
        with np.errstate(over="ignore"):
            expected = (np.float32(0) - mean).astype(np.float16)
        assert chip.ravel().tobytes() == expected.tobytes(), value


# ---- faces ------------------------------------------------------------------------------------------------------------


def outputs(count: int, height: int, width: int, *, seed: int, dense: float) -> list[NDArray[np.float32]]:
    random, levels = RNG(seed), []
    for stride in (8, 16, 32):
        level = random.normal(0, 0.5, (count, 15, height // stride, width // stride))
        # Whole logits: many scores are equal, and the order of equals shows.
        level[:, 0] = np.where(random.random(level[:, 0].shape) < dense, random.integers(-1, 4, level[:, 0].shape), -9)
        level[:, 1:5] += random.uniform(-0.5, 1.5)
        levels.append(level.astype(np.float32))
    return levels


def found_by(levels: list[Any], scales: NDArray[np.float32], config: OneShotSettings) -> Detections:
    logit = math.log(config.candidate_score / (1 - config.candidate_score))
    owner = np.arange(len(scales), dtype=np.int32)
    *faces, broken = _native.find_faces(levels, scales, owner, logit=logit, overlap=config.overlap, blend=config.blend)
    assert broken == 0
    return Detections(*faces)


def candidates(levels: list[Any], scales: NDArray[np.float32], config: OneShotSettings) -> Detections:
    """As `OneShotDetector._scan` makes them."""
    found = decode_levels(levels, config.candidate_score)
    scale = scales[found.photo]
    boxes = (found.boxes / np.tile(scale, 2)).astype(np.float32)
    return Detections(found.photo, boxes, found.landmarks / scale[:, None], found.scores)


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.maximum(high - low, 0).prod())
    return shared / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def reference_faces(found: Detections, config: OneShotSettings) -> list[NDArray[np.float64]]:
    """One row a face: photo, score, box, landmarks. Greedily, in float64, straight from the definition."""
    faces = []
    for photo in np.unique(found.photo):
        mine = np.flatnonzero(found.photo == photo)
        boxes, points = found.boxes[mine].astype(np.float64), found.landmarks[mine].reshape(-1, 10).astype(np.float64)
        scores, kept = found.scores[mine].astype(np.float64), list[int]()
        for index in sorted(range(len(mine)), key=lambda i: (-scores[i], i)):
            if all(overlap(boxes[k], boxes[index]) <= config.overlap for k in kept):
                kept.append(index)
        for k in kept:
            weight = scores * [overlap(boxes[k], box) >= config.blend for box in boxes]
            rows = np.column_stack([boxes, points])
            faces.append(np.array([photo, scores[k], *(weight @ rows / weight.sum())]))
    return faces


def as_rows(faces: Detections) -> NDArray[np.float64]:
    return np.column_stack([faces.photo, faces.scores, faces.boxes, faces.landmarks.reshape(-1, 10)]).astype(np.float64)


@quick
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    dense=st.sampled_from([0.0, 0.02, 0.2, 0.9]),
    half=st.booleans(),
    config=st.builds(
        OneShotSettings,
        candidate_score=st.floats(0.05, 0.9),
        overlap=st.floats(0.1, 0.9),
        blend=st.floats(0.3, 0.95),
    ),
)
def test_faces_match_float64(
    seed: int, shape: tuple[int, int, int], dense: float, half: bool, config: OneShotSettings
) -> None:
    count, rows, columns = shape
    levels: list[Any] = outputs(count, 32 * rows, 32 * columns, seed=seed, dense=dense)
    if half:
        levels = [level.astype(np.float16) for level in levels]
    single = [level.astype(np.float32) for level in levels]
    scales = RNG(seed).uniform(0.1, 1, (count, 2)).astype(np.float32)
    expected = reference_faces(candidates(single, scales, config), config)
    actual = as_rows(found_by(levels, scales, config))
    assert len(actual) == len(expected)
    if expected:
        np.testing.assert_allclose(actual, np.array(expected), rtol=2e-5, atol=1e-3)


def merged(levels: list[Any], scales: NDArray[np.float32], config: OneShotSettings) -> Detections:
    """The same in NumPy: what `yunet` does with its network's answers."""
    return yunet.merged(candidates(levels, scales, config), overlap=config.overlap, blend=config.blend)


@pytest.mark.parametrize("seed", range(5))
def test_faces_are_those_of_the_cpu_path(seed: int) -> None:
    levels = outputs(4, 160, 128, seed=seed, dense=0.1)
    scales = RNG(seed).uniform(0.1, 1, (4, 2)).astype(np.float32)
    expected = merged(levels, scales, OneShotSettings())
    assert len(expected) > 20
    np.testing.assert_allclose(
        as_rows(found_by(levels, scales, OneShotSettings())), as_rows(expected), rtol=2e-5, atol=1e-3
    )


def test_a_score_at_the_threshold_is_a_candidate_and_just_below_is_none() -> None:
    config = OneShotSettings()
    least = np.float32(math.log(config.candidate_score / (1 - config.candidate_score)))
    levels = outputs(1, 32, 32, seed=0, dense=0.0)
    for logit, faces in ((least, 1), (np.nextafter(least, np.float32(-9)), 0)):
        levels[0][0, 0, 1, 2] = logit
        assert len(found_by(levels, np.ones((1, 2), np.float32), config)) == faces
        assert len(merged(levels, np.ones((1, 2), np.float32), config)) == faces


def test_of_equal_scores_the_lower_cell_wins() -> None:
    levels = outputs(1, 64, 64, seed=1, dense=0.0)
    for level in levels:
        level[0, 0, :2, :2] = 2.0  # all overlap, some fully
        level[0, 1:5] = 2.0
    config = dataclasses.replace(OneShotSettings(), blend=0.999)
    ones = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(
        as_rows(found_by(levels, ones, config)), as_rows(merged(levels, ones, config)), rtol=1e-6
    )


def test_a_box_without_area_is_itself() -> None:
    levels = outputs(1, 32, 32, seed=0, dense=0.0)
    levels[0][0, 0, 3, 3], levels[0][0, 1:5, 3, 3] = 3.0, -40.0
    faces = found_by(levels, np.ones((1, 2), np.float32), OneShotSettings())
    np.testing.assert_array_equal(faces.boxes, [[28, 28, 28, 28]])


# ---- the refiner ------------------------------------------------------------------------------------------------------


class Answers:
    """A refiner whose answers are known."""

    def __init__(self, answers: NDArray[np.float32]) -> None:
        self.answers, self.at = answers, 0

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        assert pixels.shape[1:] == (SIDE, SIDE, 3)
        rows = self.answers[np.arange(self.at, self.at + len(pixels)) % len(self.answers)]
        self.at += len(pixels)
        return (rows,)


def test_refining_is_that_of_the_cpu_path() -> None:
    count = 40
    points = (np.array(ARCFACE_TEMPLATE) * RNG(0).uniform(0.5, 3, (count, 1, 1)) + 20).astype(np.float32)
    points[[3, 17]] = 50.0  # no face
    faces = Detections(
        np.zeros(count, np.int32), np.zeros((count, 4), np.float32), points, RNG(1).random(count).astype(np.float32)
    )
    answers = RNG(2).normal(0, 3, (count - 2, 11)).astype(np.float32)
    photo = RNG(3).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    expected = refine(Answers(answers), [photo], faces)  # type: ignore[arg-type]
    matrices = _native.fit_similarity(points.astype(np.float64) - 0.5, TEMPLATE)
    padded = np.full((count, 11), np.nan, np.float32)  # what a network makes of a black crop must not matter
    padded[np.isfinite(matrices).all(axis=(1, 2))] = answers
    scores, landmarks = _native.refine(padded, matrices, TEMPLATE, faces.scores, points)
    np.testing.assert_allclose(landmarks, expected.landmarks, rtol=1e-6)
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-5)
    assert scores[3] == scores[17] == 0
    lost = _native.refine(np.full((count, 11), np.nan, np.float32), matrices, TEMPLATE, faces.scores, points)[0]
    assert np.isnan(np.delete(lost, [3, 17])).all()  # not a face of a good score


# ---- real photos ------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_chips_of_real_photos_are_those_of_the_cpu_path(wild: list[Path]) -> None:
    photos = [decode(path.read_bytes()).pixels for path in wild[:12]]
    random = RNG(0)
    owner = np.repeat(np.arange(len(photos), dtype=np.int32), 4)
    points = np.stack(
        [
            np.array(ARCFACE_TEMPLATE) * random.uniform(0.3, 8)
            + random.uniform(-100, 300, 2)
            + random.normal(0, 3, (5, 2))
            for _ in owner
        ]
    )
    matrices = _native.fit_similarity(points, np.array(ARCFACE_TEMPLATE))
    expected = _native.warp_many(photos, owner, matrices, 112, 112)
    chips = _native.gather(photos, owner, matrices, 112, 112, mean=MEAN, scale=SCALE, dtype="uint8")
    apart = np.abs(chips.astype(int) - expected)
    assert apart.max() <= 1  # sums in another order
    assert np.count_nonzero(apart) < 1e-3 * apart.size
    assert expected.std() > 20


@pytest.mark.data
def test_canvases_of_real_photos_show_faces_where_the_cpu_path_finds_them(wild: list[Path]) -> None:
    """A network made of the photo itself: bright cells are faces. Real pixels give its outputs their ties and gradients."""
    photos = [decode(path.read_bytes()).pixels for path in wild[:12]]
    shape = canvas.Shape(160, 160)
    canvases, scales = canvas.paint(shape, photos, np.full(len(photos), 160.0))
    levels = []
    for stride in (8, 16, 32):
        cells = canvases.reshape(len(photos), 160 // stride, stride, 160 // stride, stride, 3).mean(axis=(2, 4))
        level = np.repeat(cells.transpose(0, 3, 1, 2), 5, axis=1) / 255  # (N, 15, H/stride, W/stride)
        level[:, 0] = np.floor(16 * level[:, 0]) - 12
        levels.append(level.astype(np.float32))
    scales = scales.astype(np.float32)
    expected = merged(levels, scales, OneShotSettings())
    assert len(expected) > 20
    actual = found_by(levels, scales, OneShotSettings())
    np.testing.assert_array_equal(actual.photo, expected.photo)
    np.testing.assert_allclose(as_rows(actual), as_rows(expected), rtol=1e-4, atol=1e-2)
