"""What methods are made of: bends, masks, colours and blends."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.trainer.data.fakes import colour, masks, warp
from faceembed.trainer.data.fakes.blend import BLENDS, blend
from faceembed.trainer.data.fakes.compress import compress
from faceembed.trainer.data.fakes.methods import Region, Shot

MakeShot = Callable[..., Shot]


def picture(seed: int, height: int = 64, width: int = 80) -> warp.Floats:
    coarse = np.random.default_rng(seed).uniform(20, 230, (6, 6, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999))
def test_bend_takes_points_to_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = np.stack(np.meshgrid(np.linspace(8, 70, 5), np.linspace(8, 55, 4)), -1).reshape(-1, 2)
    end = start + rng.normal(0, 1.5, start.shape)
    where = warp.bend(start, end, 64, 80)
    there = np.array(
        [cv2.getRectSubPix(where[..., axis].copy(), (1, 1), tuple(p))[0, 0] for p in start for axis in (0, 1)]
    )
    assert np.abs(there.reshape(-1, 2) - end).max() < 1.2
    affine = np.array([[1.1, 0.2, 3], [-0.1, 0.9, 5]])
    exact = warp.bend(start, warp.apply(affine, start), 64, 80)
    nodes = np.stack(np.meshgrid(np.arange(80), np.arange(64)), -1).reshape(-1, 2)
    np.testing.assert_allclose(exact.reshape(-1, 2), warp.apply(affine, nodes), atol=2e-3)


def test_chip_holds_the_face_upright(make_shot: MakeShot) -> None:
    shot = make_shot(4)
    chip, points = warp.cut_chip(shot.pixels, shot.mesh, 96)
    assert chip.shape == (96, 96, 3)
    assert points.min() > 0
    assert points.max() < 95
    assert abs(points[0, 1] - points[1, 1]) < 3  # eyes are level
    there = warp.apply(warp.chip_matrix(shot.mesh, 96), points)
    np.testing.assert_allclose(there, shot.mesh.points - 0.5, atol=1e-6)
    forth_and_back = warp.apply(warp.invert(warp.chip_matrix(shot.mesh, 96)), there)
    np.testing.assert_allclose(forth_and_back, points, atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 999), st.sampled_from(masks.SHAPES), st.floats(0.05, 0.6))
def test_masks(make_shot: MakeShot, seed: int, shape: str, softness: float) -> None:
    region = Region.of(make_shot(seed))
    unit = region.shot.mesh.scale
    mask = masks.face_mask(
        region.points, unit, *region.size, np.random.default_rng(seed), shape=shape, softness=softness
    )
    assert mask.dtype == np.float32
    assert mask.shape == region.size
    assert 0 <= mask.min() < 0.01 and 0.5 < mask.max() <= 1
    assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any()
    hull = cv2.convexHull(region.points.astype(np.float32))[:, 0]
    far = [
        (x, y)
        for y, x in zip(*np.nonzero(mask > 0), strict=True)
        if cv2.pointPolygonTest(hull, (float(x), float(y)), True) < -0.6 * unit
    ]
    assert far == []
    middle = np.rint(region.points[3:5].mean(0)).astype(int)
    if shape != "inner":
        assert mask[middle[1], middle[0]] > 0


def test_regions_are_where_the_parts_are(make_shot: MakeShot) -> None:
    region = Region.of(make_shot(5))
    eyes = masks.region_mask(region.points, ("eyes",), region.shot.mesh.scale, *region.size, grow=0.15)
    mouth = masks.region_mask(region.points, ("mouth",), region.shot.mesh.scale, *region.size, grow=0.15)
    places = np.rint(region.points[:5]).astype(int)
    at_eyes, at_mouth = ([mask[y, x] for x, y in places] for mask in (eyes, mouth))
    assert min(at_eyes[:2]) > 0.9 and at_eyes[3] == at_eyes[4] == 0
    assert min(at_mouth[3:]) > 0.5 and at_mouth[0] == at_mouth[1] == 0


@pytest.mark.parametrize("how", BLENDS)
def test_blends_leave_what_is_outside(how: str) -> None:
    face, target = picture(1), picture(2)
    mask = masks.soften(np.pad(np.ones((30, 40), np.float32), ((17, 17), (20, 20))), 6)
    mixed, used = blend(face, target, mask, how=how)
    assert used in BLENDS
    assert np.array_equal(mixed[mask == 0], target[mask == 0])
    assert np.abs(mixed - target)[mask > 0.9].mean() > 1
    same, _ = blend(target, target, mask, how=how)
    assert np.abs(same - target).max() < 2.5  # OpenCV's solver rounds


def test_a_cast_is_no_face() -> None:
    """A Poisson blend whose edge is black would darken the whole face: it is refused."""
    face = np.full((64, 80, 3), 180, np.float32) + picture(3) * 0.1
    target = np.zeros((64, 80, 3), np.float32)
    mask = np.zeros((64, 80), np.float32)
    mask[16:48, 20:60] = 1
    mixed, used = blend(face, target, mask, how="poisson")
    assert used == "alpha"
    np.testing.assert_array_equal(mixed[mask == 1], face[mask == 1])


def test_colours_become_the_targets() -> None:
    source, target, mask = picture(5) * 0.3 + 120, picture(6) * 0.4 + 40, np.ones((64, 80), np.float32)
    for how in ("reinhard", "histogram"):
        moved = colour.transfer(source, target, mask, how=how)
        before = np.linalg.norm(colour.tone(source, mask) - colour.tone(target, mask))
        after = np.linalg.norm(colour.tone(moved, mask) - colour.tone(target, mask))
        assert after < 0.35 * before
    assert np.array_equal(colour.transfer(source, target, mask, how="none"), source)
    # The chroma of random pictures reaches out of RGB, so the quantiles of the lightness agree but for what is cut off.
    light = [colour.to_lab(colour.transfer(p, target, mask, how="histogram"))[..., 0] for p in (source, target)]
    np.testing.assert_allclose(*(np.quantile(values, np.linspace(0.1, 0.9, 9)) for values in light), atol=4)


def test_lab_and_back() -> None:
    np.testing.assert_allclose(
        colour.to_rgb(colour.to_lab(picture(8))), picture(8), atol=1
    )  # OpenCV interpolates in a table


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999))
def test_compression_is_drawn_and_repeated(seed: int) -> None:
    pixels = picture(seed).astype(np.uint8)
    data, quality, params = compress(pixels, np.random.default_rng(seed))
    again = compress(pixels, np.random.default_rng(seed))
    assert (data, quality, params) == again
    assert 60 <= quality <= 98
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.astype(int) - pixels).mean() < 12
