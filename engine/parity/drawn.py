"""Drawn faces: what the precision gate looks at where there is no photo yet, as on a server that was just started.

    chips = drawn_chips(model.spec, 16)      # uint8 RGB (16, H, W, 3), the same on every machine

Ellipses, shades and noise where a face's parts lie: they show nobody, and are no measure of how well an encoder knows people. They
send numbers of the size of a face's through its layers, which is what rounding depends on.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec

_FINER = 3  # drawn so many times larger, then reduced
_SKIN = ((255, 219, 172), (241, 194, 125), (224, 172, 105), (198, 134, 66), (141, 85, 36), (92, 60, 40))
_HAIR = ((28, 22, 18), (62, 43, 30), (120, 84, 52), (190, 160, 110), (150, 150, 150))
Chip = NDArray[np.uint8]
DRAWN_FACE = 20.0
"""Side in pixels of the smallest face worth looking for in `drawn_photos`; theirs is seven times as large."""
_PHOTO = 2  # a drawn photo's side, in chips of ArcFace's
_PHOTOS = 16


def drawn_chips(spec: ModelSpec, count: int) -> Chip:
    """Draw different faces in an encoder's frame.

    Args:
        spec: of an encoder: its template says where the eyes, the nose and the mouth lie.
        count: how many; the first ones of a larger count are the same.

    Returns:
        uint8 RGB (count, H, W, 3).
    """
    return np.stack([_draw(spec, np.random.default_rng(seed)) for seed in range(count)])


def drawn_photos() -> list[Chip]:
    """Drawn faces for an aligner, one in each picture: uint8 RGB (224, 224, 3)."""
    side = 112 * _PHOTO
    points = tuple((x * _PHOTO, y * _PHOTO) for x, y in ARCFACE_TEMPLATE)
    frame = ModelSpec(name="drawn", task="encoder", input_size=(side, side), dimension=1, template=points)
    return list(drawn_chips(frame, _PHOTOS))


def _draw(spec: ModelSpec, rng: np.random.Generator) -> Chip:
    height, width = spec.input_size
    points = np.array(spec.template, np.float64)
    eyes = float(np.linalg.norm(points[1] - points[0]))
    points = (points + rng.normal(0, 0.02 * eyes, points.shape) + 0.5) * _FINER
    unit = eyes * _FINER
    skin = np.array(_SKIN[rng.integers(len(_SKIN))], np.float64) * rng.uniform(0.8, 1.05)
    hair = np.array(_HAIR[rng.integers(len(_HAIR))], np.float64)
    canvas = np.empty((height * _FINER, width * _FINER, 3), np.float64)
    canvas[:] = rng.uniform(20, 235, 3)
    canvas += np.linspace(-30, 30, canvas.shape[1])[None, :, None] * rng.uniform(-1, 1)
    centre = points.mean(axis=0) - np.array((0, 0.1 * unit))
    axes = np.array([rng.uniform(0.95, 1.15), rng.uniform(1.3, 1.55)]) * unit
    _ellipse(canvas, centre - np.array((0, 0.35 * unit)), axes * rng.uniform(1.05, 1.2), hair)
    _ellipse(canvas, centre, axes, skin)
    for eye in points[:2]:
        _ellipse(canvas, eye - np.array((0, rng.uniform(0.25, 0.35) * unit)), (0.28 * unit, 0.05 * unit), hair)
        _ellipse(canvas, eye, (0.2 * unit, rng.uniform(0.08, 0.12) * unit), np.full(3, 240.0))
        _ellipse(canvas, eye, (0.08 * unit, 0.08 * unit), rng.uniform(10, 110, 3))
    _ellipse(canvas, points[2], (rng.uniform(0.12, 0.2) * unit, 0.1 * unit), skin * 0.8)
    _ellipse(canvas, (points[2] + points[0] + points[1]) / 3, (0.05 * unit, 0.3 * unit), skin * 1.06)
    mouth, half = points[3:].mean(axis=0), float(np.linalg.norm(points[4] - points[3])) / 2
    _ellipse(canvas, mouth, (half, rng.uniform(0.07, 0.16) * unit), skin * (0.75, 0.5, 0.5))
    across, down = np.meshgrid(np.linspace(-1, 1, canvas.shape[1]), np.linspace(-1, 1, canvas.shape[0]))
    canvas *= (1 + rng.uniform(-0.3, 0.3) * across + rng.uniform(-0.2, 0.2) * down)[..., None]
    smooth = cv2.GaussianBlur(canvas, (0, 0), 0.02 * unit + 0.5)
    coarse = cv2.resize(
        rng.normal(0, 1, (12, 12, 3)), (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_CUBIC
    )
    small = cv2.resize(smooth + 6 * coarse, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(small + rng.normal(0, 3, small.shape), 0, 255), np.uint8)


def _ellipse(
    canvas: NDArray[np.float64],
    centre: NDArray[np.float64],
    axes: tuple[float, float] | NDArray[np.float64],
    colour: NDArray[np.float64],
) -> None:
    where = (round(float(centre[0])), round(float(centre[1])))
    size = (max(int(axes[0]), 1), max(int(axes[1]), 1))
    cv2.ellipse(
        canvas, where, size, 0, 0, 360, tuple(float(value) for value in colour), thickness=-1, lineType=cv2.LINE_8
    )
