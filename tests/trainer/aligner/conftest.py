"""Pictures with known landmarks: a photo is noise with five dots of five colours, and labels that say where they are."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.trainer.aligner.labels import LabelledPhoto

DOTS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)], np.uint8)
FACE = np.array([(30, 35), (70, 35), (50, 60), (35, 80), (65, 80)], np.float32) / 100  # of a box's side


@pytest.fixture(scope="module")
def dotted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LabelledPhoto]:
    """Writes a grey PNG with one 'face': `dotted(name, height, width, left, top, side)` gives its label."""

    folder = tmp_path_factory.mktemp("dotted")

    def make(name: str, height: int, width: int, left: float, top: float, side: float) -> LabelledPhoto:
        pixels = np.full((height, width, 3), 90, np.uint8)
        landmarks = FACE * side + (left, top)
        cv2.rectangle(pixels, (round(left), round(top)), (round(left + side), round(top + side)), (140, 140, 140), -1)
        radius = max(round(side / 14), 1)
        for (x, y), colour in zip(landmarks, DOTS.tolist(), strict=True):
            cv2.circle(pixels, (round(x - 0.5), round(y - 0.5)), radius, colour, -1)
        path = folder / f"{name}.png"
        cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        boxes = np.array([[left, top, left + side, top + side]], np.float32)
        none = np.zeros((0, 4), np.float32)
        return LabelledPhoto(str(path), "photos", boxes, landmarks[None].astype(np.float32), none)

    return make


@pytest.fixture(scope="module")
def some(dotted: Callable[..., LabelledPhoto]) -> list[LabelledPhoto]:
    """Eight dotted photos of several sizes."""
    rng = np.random.default_rng(0)
    photos = []
    for index in range(8):
        height, width = rng.integers(120, 260, 2).tolist()
        side = float(rng.uniform(40, 90))
        left, top = rng.uniform(5, np.array([width, height]) - side - 5)
        photos.append(dotted(f"p{index}", height, width, float(left), float(top), side))
    return photos


def centre_of(pixels: NDArray[np.uint8], colour: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The middle of what has a colour, in continuous pixels; NaN where nothing has."""
    near = np.abs(pixels.astype(int) - colour).max(axis=2) < 70
    rows, columns = np.nonzero(near)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) if len(rows) else np.full(2, np.nan)
