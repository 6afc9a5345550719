"""Deepfakes of aligned crops without meshes: quick to make, and of any number of looks.

    fake = QUICK_METHODS["blend"](crop, other, points, rng)

    blend    the face over itself: bent, resampled and coloured a little anew (Shiohara and Yamasaki 2022, self-blended images,
             https://arxiv.org/abs/2204.08376; there with landmarks' hulls, here with ragged ovals and parts of a face)
    paste    another person's face
    tint     another person's face in the colour statistics of this photo (Reinhard et al. 2001, https://doi.org/10.1109/38.946629)
    ghost    another person's face mixed with a smooth picture of this one, as swappers of little capacity leave it

The outline is that of the crop's template, not of the face's own landmarks, bent at random: a network that has only seen exact hulls
knows exact hulls. `making.FakeMaker` puts photo and fake through one camera.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]
Mask = NDArray[np.float32]
Quick = Callable[[Pixels, Pixels, Points, np.random.Generator], Pixels]

_SHAPES = (0.75, 0.08, 0.09, 0.08)  # an oval, the eyes, the mouth, eyes to mouth
_SOFT = (0.04, 0.1, 0.2, 0.35)  # of the eyes' distance


def blend(crop: Pixels, other: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """The face over itself. Arguments and result as of every method here: uint8 RGB (H, W, 3), points (5, 2) in pixels."""
    face = _soft(_bent(crop, points, rng), rng)
    mask = face_mask(crop.shape[0], crop.shape[1], points, rng)
    if rng.random() < 0.3:
        face = _tinted(face, crop, mask, rng)
    return _over(crop, _coloured(face, rng, 0.8), mask, rng)


def paste(crop: Pixels, other: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """Another person's face, in its own colours but for chance."""
    return _foreign(crop, other, points, rng, tinted=rng.random() < 0.3, strength=1.0)


def tint(crop: Pixels, other: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """Another person's face in this photo's colours."""
    return _foreign(crop, other, points, rng, tinted=True, strength=0.5)


def ghost(crop: Pixels, other: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """A face between both."""
    mask = face_mask(crop.shape[0], crop.shape[1], points, rng)
    face = _tinted(_soft(_bent(other, points, rng), rng), crop, mask, rng)
    own = _coarse(crop if rng.random() < 0.5 else _bent(crop, points, rng), rng)
    share = rng.uniform(0.3, 0.7)
    mixed = cv2.addWeighted(face, share, own, 1 - share, 0)
    return _over(crop, _coloured(np.asarray(mixed, np.uint8), rng, 0.5), mask, rng)


QUICK_METHODS: Mapping[str, Quick] = {"blend": blend, "paste": paste, "tint": tint, "ghost": ghost}


def face_mask(height: int, width: int, points: Points, rng: np.random.Generator) -> Mask:
    """A face's oval or a part of it, with a ragged outline and some softness.

    Args:
        height, width: of the crop.
        points: (5, 2) eyes, nose, corners of the mouth, in pixels.
        rng: its state alone decides.

    Returns:
        float32 (H, W) in [0, 1].
    """
    left, right, _, mouth_left, mouth_right = points
    eyes = float(np.linalg.norm(right - left))
    mask = np.zeros((height, width), np.float32)
    shape = int(rng.choice(len(_SHAPES), p=_SHAPES))
    if shape == 0:
        outline = _oval((left + right + mouth_left + mouth_right) / 4, eyes, rng)
    elif shape == 1:
        outline = _corners((left, right, right, left), eyes * 0.5, eyes * 0.4, eyes * 0.35)
    elif shape == 2:
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        radii = eyes * np.array([rng.uniform(0.45, 0.75), rng.uniform(0.3, 0.6)])
        outline = (mouth_left + mouth_right) / 2 + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
    else:
        outline = _corners((left, right, mouth_right, mouth_left), eyes * 0.4, eyes * 0.5, eyes * 0.4)
    outline = outline + rng.normal(0, 0.045 * eyes, outline.shape)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1.0)
    soft = eyes * _SOFT[int(rng.integers(len(_SOFT)))] * rng.uniform(0.6, 1.4)
    mask = np.minimum(cv2.GaussianBlur(mask, (0, 0), max(0.5, soft)), np.float32(1))
    return np.asarray(mask * (rng.uniform(0.75, 1.0) if rng.random() < 0.4 else 1.0), np.float32)


def _oval(centre: Points, eyes: float, rng: np.random.Generator) -> Points:
    """Forehead or brows to chin: a superellipse."""
    top, bottom = eyes * rng.uniform(0.75, 1.25), eyes * rng.uniform(1.0, 1.45)
    half = np.array([eyes * rng.uniform(0.85, 1.15), (top + bottom) / 2])
    power = 2 / rng.uniform(2, 3)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], 1)
    middle = centre + np.array([rng.normal(0, 0.04 * eyes), (bottom - top) / 2])
    return np.asarray(middle + half * np.sign(unit) * np.abs(unit) ** power, np.float64)


def _corners(corners: Sequence[Points], beside: float, above: float, below: float) -> Points:
    """(4, 2): clockwise from the upper left one, each moved outwards."""
    moves = np.array([(-beside, -above), (beside, -above), (beside, below), (-beside, below)])
    return np.asarray(np.stack(corners) + moves, np.float64)


def _foreign(
    crop: Pixels, other: Pixels, points: Points, rng: np.random.Generator, *, tinted: bool, strength: float
) -> Pixels:
    mask = face_mask(crop.shape[0], crop.shape[1], points, rng)
    face = _soft(_bent(other, points, rng), rng)
    if tinted:
        face = _tinted(face, crop, mask, rng)
    return _over(crop, _coloured(face, rng, strength), mask, rng)


def _over(crop: Pixels, face: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    if rng.random() < 0.3:
        face = _soft(face, rng)
    part = mask[..., None]
    return np.asarray(np.clip(crop * (1 - part) + face * part, 0, 255), np.uint8)


def _bent(crop: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """Moved, turned and scaled by a few per cent, then bent by a smooth field: what a reconstruction is beside its photo."""
    height, width = crop.shape[:2]
    eyes = float(np.linalg.norm(points[1] - points[0]))
    angle, scale = rng.normal(0, 0.03), np.exp(rng.normal(0, 0.03))
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = points.mean(0)
    offset = centre + rng.normal(0, 0.03 * eyes, 2)
    amount = eyes * rng.uniform(0.01, 0.05)
    field = cv2.resize(
        rng.normal(0, amount, (4, 4, 2)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([x, y], 2) - centre
    wanted = (places @ matrix.T + offset + field).astype(np.float32)
    return np.asarray(
        cv2.remap(crop, wanted[..., 0], wanted[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def _coarse(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """Through a smaller picture."""
    height, width = crop.shape[:2]
    share = rng.uniform(0.28, 0.85)
    ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST)
    way = ways[int(rng.choice(4, p=(0.4, 0.35, 0.2, 0.05)))]
    size = (max(8, int(width * share)), max(8, int(height * share)))
    return np.asarray(
        cv2.resize(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), (width, height), interpolation=way), np.uint8
    )


def _soft(face: Pixels, rng: np.random.Generator) -> Pixels:
    """What a network's output looks like beside a photo: coarse, smooth, or sharpened again."""
    kind = rng.random()
    if kind < 0.4:
        return _coarse(face, rng)
    if kind < 0.6:
        return np.asarray(cv2.GaussianBlur(face, (0, 0), rng.uniform(0.5, 1.6)), np.uint8)
    if kind < 0.75:
        return np.asarray(cv2.bilateralFilter(face, 5, float(rng.uniform(15, 60)), 3), np.uint8)
    if kind < 0.83:
        return np.asarray(cv2.addWeighted(face, 2.0, cv2.GaussianBlur(face, (0, 0), 1.0), -1.0, 0), np.uint8)
    return np.asarray(cv2.medianBlur(face, 3), np.uint8) if kind < 0.9 else face


def _tinted(face: Pixels, crop: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    """Mean and deviation of Lab under the mask made those of the crop, wholly or in part."""
    own, theirs = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32) for picture in (crop, face))
    weight = mask[..., None] / max(float(mask.sum()), 1e-3)
    means = [(lab * weight).sum((0, 1)) for lab in (own, theirs)]
    spreads = [
        np.sqrt(((lab - mean) ** 2 * weight).sum((0, 1))) for lab, mean in zip((own, theirs), means, strict=True)
    ]
    share = np.float32(rng.uniform(0.5, 1.0))
    gain = 1 + share * (np.clip(spreads[0] / (spreads[1] + 1e-3), 0.5, 2) - 1)
    lab = (theirs - means[1]) * gain + means[1] + share * (means[0] - means[1])
    return np.asarray(cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB), np.uint8)


def _coloured(face: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Contrast, brightness, white balance and, at times, gamma, a little off."""
    values = face.astype(np.float32)
    values = (values - 128) * (1 + rng.normal(0, 0.08 * strength)) + 128
    values += rng.normal(0, 8 * strength) + rng.normal(0, 5 * strength, 3)
    if rng.random() < 0.3:
        values = 255 * np.power(np.clip(values, 0, 255) / 255, np.exp(rng.normal(0, 0.15 * strength)))
    return np.clip(values, 0, 255).astype(np.uint8)
