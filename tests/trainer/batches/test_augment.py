"""Changes of crops: reproducible, each does what it says, none by default."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from faceembed.errors import UsageError
from faceembed.trainer.batches.augment import augment, generator
from faceembed.trainer.recipes.crops import Augment

NONE = Augment(flip=0)
SOME = Augment(
    shift=0.02, rotate=3, zoom=0.03, brightness=0.2, contrast=0.2, saturation=0.2, hue=10, grey_share=0.2, blur_share=0.5,
    shrink_share=0.5, jpeg_share=0.5, noise_share=0.5, erase_share=0.5,
)  # fmt: skip


@pytest.fixture
def crop() -> np.ndarray:
    """uint8 RGB (40, 36, 3), smooth."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    return np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 40, 215, cv2.NORM_MINMAX))


def test_nothing_is_changed_where_nothing_is_asked_for(crop: np.ndarray) -> None:
    assert np.array_equal(augment(crop, NONE, generator(0)), crop)


def test_the_same_key_gives_the_same_crop(crop: np.ndarray) -> None:
    crop.flags.writeable = False
    first = [augment(crop, SOME, generator(1, 2, index)) for index in range(20)]
    again = [augment(crop, SOME, generator(1, 2, index)) for index in reversed(range(20))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({picture.tobytes() for picture in first}) == 20
    assert all(picture.shape == crop.shape and picture.dtype == np.uint8 for picture in first)
    other = [augment(crop, SOME, generator(1, 3, index)) for index in range(20)]
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_strength_does_not_move_other_draws(crop: np.ndarray) -> None:
    """The same crops are mirrored whatever else is switched on."""
    weak = [augment(crop, Augment(flip=0.5), generator(index)) for index in range(20)]
    strong = [augment(crop, Augment(flip=0.5, brightness=1e-9), generator(index)) for index in range(20)]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(weak, strong, strict=True))


def test_mirror(crop: np.ndarray) -> None:
    assert np.array_equal(augment(crop, Augment(flip=1), generator(0)), crop[:, ::-1])
    turned = augment(crop, Augment(flip=1, shift=1e-9), generator(0))  # through the warp
    assert np.abs(turned.astype(int) - crop[:, ::-1]).max() <= 1


def test_shift_is_a_shift(crop: np.ndarray) -> None:
    """The best place of the middle in the result is as far off as the generator drew."""
    for seed in range(5):
        rng = generator(seed)
        rng.random(40)
        wanted = 0.05 * rng.standard_normal(4)[2:] * (36, 40)
        moved = augment(crop, dataclasses.replace(NONE, shift=0.05), generator(seed))
        scores = cv2.matchTemplate(moved, crop[8:32, 8:28], cv2.TM_SQDIFF)
        x, y = cv2.minMaxLoc(scores)[2]
        assert np.abs(np.array([x - 8, y - 8]) - wanted).max() <= 0.75


@pytest.mark.parametrize("turns", [1, 7])
def test_hue_keeps_luma_and_saturation_zero_is_grey(crop: np.ndarray, turns: int) -> None:
    weights = np.array([0.299, 0.587, 0.114])
    turned = augment(crop, dataclasses.replace(NONE, hue=10.0), generator(turns))
    assert np.abs(turned @ weights - crop @ weights).max() < 2
    assert np.abs(turned.astype(int) - crop).max() > 2
    grey = augment(crop, dataclasses.replace(NONE, grey_share=1), generator(turns))
    assert (grey.max(-1).astype(int) - grey.min(-1)).max() <= 1
    assert np.abs(grey[..., 0] - crop @ weights).max() < 2


def test_brightness_and_contrast(crop: np.ndarray) -> None:
    ratios = [
        augment(crop, dataclasses.replace(NONE, brightness=0.2), generator(i)).mean() / crop.mean() for i in range(200)
    ]
    assert 0.79 < min(ratios) < 0.85 and 1.12 < max(ratios) < 1.21
    flat = [augment(crop, dataclasses.replace(NONE, contrast=0.3), generator(i)) for i in range(50)]
    assert all(abs(float(picture.mean()) - crop.mean()) < 3 for picture in flat)
    assert min(picture.std() for picture in flat) < 0.8 * crop.std() < 1.2 * crop.std() < max(p.std() for p in flat)


@pytest.mark.parametrize("name", ["blur", "shrink", "jpeg", "noise", "erase"])
def test_shares(crop: np.ndarray, name: str) -> None:
    settings = dataclasses.replace(NONE, **{f"{name}_share": 0.3, "erase": 0.3})
    changed = sum(not np.array_equal(augment(crop, settings, generator(i)), crop) for i in range(300))
    assert 60 < changed < 120


def test_blur_and_shrink_take_detail_and_noise_adds_it(crop: np.ndarray) -> None:
    sharp = np.random.default_rng(1).integers(0, 256, crop.shape, dtype=np.uint8)

    def detail(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.astype(int), axis=1)).mean())

    assert detail(augment(sharp, dataclasses.replace(NONE, blur_share=1), generator(0))) < 0.9 * detail(sharp)
    assert detail(augment(sharp, dataclasses.replace(NONE, shrink_share=1), generator(0))) < 0.9 * detail(sharp)
    noisy = augment(crop, dataclasses.replace(NONE, noise_share=1, noise=40), generator(0))
    assert detail(noisy) > detail(crop) and abs(float(noisy.mean()) - crop.mean()) < 1


def test_erased_area(crop: np.ndarray) -> None:
    settings = dataclasses.replace(NONE, erase_share=1, erase=0.25)
    areas = [np.any(augment(crop, settings, generator(i)) != crop, axis=2).mean() for i in range(100)]
    assert min(areas) > 0.01 and max(areas) < 0.27


def test_night_darkens_and_leaves_white_and_black(crop: np.ndarray) -> None:
    """Every grey gets darker by its power, within the noise that comes with it."""
    ramp = np.repeat(np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 200, axis=0), 3, axis=2)
    gammas = []
    for index in range(10):
        dark = (
            augment(ramp, Augment(flip=0, night_share=1, night=3), generator(5, index)).astype(float).mean(axis=(0, 2))
        )
        assert dark[-1] > 250 and dark[0] < 4 and (np.diff(dark) > -2).all()
        gammas.append(np.log(dark[25] / 255) / np.log(125 / 255))
    assert 1 <= min(gammas) < 1.9 and 2.1 < max(gammas) <= 3.1


def test_motion_smears_along_one_way_and_keeps_the_light() -> None:
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 250
    lengths = []
    for index in range(20):
        moved = augment(dot, Augment(flip=0, motion_share=1, motion=12), generator(6, index))[..., 0]
        rows, columns = np.nonzero(moved)
        spread = (
            np.linalg.eigvalsh(np.cov(np.stack([rows, columns]), aweights=moved[rows, columns]))
            if len(rows) > 2
            else (0, 0)
        )
        assert spread[0] < 0.6  # no wider than a line
        assert abs(rows.mean() - 20) < 0.6 and abs(columns.mean() - 20) < 0.6  # to both sides alike
        lengths.append(float(np.sqrt(12 * max(spread[1], 0))))
    assert max(lengths) > 8 and max(lengths) < 13.5
    flat = np.full((20, 20, 3), 77, np.uint8)
    assert np.abs(augment(flat, Augment(flip=0, motion_share=1), generator(7)).astype(int) - 77).max() <= 1


def test_a_night_that_makes_brighter_is_refused() -> None:
    with pytest.raises(UsageError, match=r"augment\.night is 0\.5; expected an exponent of at least 1"):
        Augment(night=0.5)
