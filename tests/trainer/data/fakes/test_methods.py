"""The methods: what is outside of the mask is the photo, and a fake follows from its seed."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from faceembed.trainer.data.fakes.make import METHODS, _rounded
from faceembed.trainer.data.fakes.methods import Shot

MakeShot = Callable[..., Shot]


def canvas(method: str, source: Shot, target: Shot) -> Shot:
    return target if method in ("swap", "morph") else source


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(6))
def test_outside_the_mask_nothing_changes(make_shot: MakeShot, method: str, seed: int) -> None:
    source, target = make_shot(seed), make_shot(seed + 100, 150, 210)
    if method == "selfblend":
        target = source
    before = [shot.pixels.copy() for shot in (source, target)]
    made = METHODS[method](source, target, np.random.default_rng(seed))
    photo = canvas(method, source, target).pixels
    assert made.pixels.shape == photo.shape
    assert made.pixels.dtype == np.uint8
    assert np.array_equal(made.pixels[made.mask == 0], photo[made.mask == 0])
    assert np.abs(made.pixels[made.mask > 0.5].astype(int) - photo[made.mask > 0.5]).mean() > 0.3
    assert np.array_equal(source.pixels, before[0]) and np.array_equal(target.pixels, before[1])
    again = METHODS[method](source, target, np.random.default_rng(seed))
    assert np.array_equal(made.pixels, again.pixels) and made.params == again.params
    other = METHODS[method](source, target, np.random.default_rng(seed + 1))
    assert other.params != made.params
    assert json.loads(json.dumps(_rounded(made.params))) == _rounded(made.params)


def test_a_swap_brings_the_sources_face(make_shot: MakeShot) -> None:
    """The grain of a source shows in the middle of a smooth target's face."""
    source, target = make_shot(1), make_shot(2)
    grain = np.random.default_rng(0).integers(0, 2, source.pixels.shape[:2]) * 160
    source = Shot(np.repeat(grain[..., None], 3, 2).astype(np.uint8), source.mesh)
    made = METHODS["swap"](source, target, np.random.default_rng(3))
    x, y = np.rint(target.mesh.points[2]).astype(int)
    before, after = (p[y - 8 : y + 8, x - 8 : x + 8].astype(float) for p in (target.pixels, made.pixels))
    assert made.mask[y, x] > 0.5
    assert np.abs(np.diff(after, axis=1)).mean() > 3 * np.abs(np.diff(before, axis=1)).mean()


def test_a_face_at_the_edge(make_shot: MakeShot) -> None:
    """A face that touches the frame neither fails nor leaves it."""
    shot = make_shot(9)
    low = shot.mesh.points.min(0).astype(int) + 2
    cut = Shot(np.ascontiguousarray(shot.pixels[low[1] :, low[0] :]), shot.mesh.moved(-low[0], -low[1]))
    for name, method in METHODS.items():
        made = method(cut, cut if name == "selfblend" else shot, np.random.default_rng(1))
        assert np.isfinite(made.mask).all()
