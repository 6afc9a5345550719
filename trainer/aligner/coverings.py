"""What people wear and hold before their faces, drawn over faces whose landmarks are known: masks, dark glasses, hands, hoods.

    cover(canvas, box, landmarks, rng)

The landmarks stay where they are: a network learns to place those that it does not see. Shapes follow the face's own axes (from
the eyes' middle to the mouth's, and across), so that a turned face wears its mask turned. What they are made of is one colour,
in stripes or with the pattern of another part of the canvas, and keeps some of the light that was there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
_SUBPIXEL = 4  # bits of a point's fraction
_SKIN = np.array([(224, 178, 150), (198, 144, 112), (141, 92, 66), (88, 58, 42)], np.float32)
_CLOTH = np.array([(120, 170, 210), (235, 240, 245), (25, 25, 28), (200, 225, 220), (180, 60, 70)], np.float32)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """A face's axes in pixels: its landmarks' middles, what is down and what is to the right, and its size."""

    eyes: Floats
    mouth: Floats
    down: Floats
    """Unit vector."""
    right: Floats
    """Unit vector."""
    height: float
    """From the eyes to the mouth."""
    half: float
    """Half of the face's width."""
    centre: Floats
    """Of the box, moved up or down to the height of the eyes."""

    def at(self, x: float, y: float) -> Floats:
        """A point: x in half widths from the face's middle to the right, y in heights from the eyes down."""
        point: Floats = self.centre + x * self.half * self.right + y * self.height * self.down
        return point


def cover(canvas: Pixels, box: Floats, landmarks: Floats, rng: np.random.Generator) -> None:
    """Cover a part of a face, in place.

    Args:
        canvas: uint8 RGB (H, W, 3).
        box: (4,) the face's.
        landmarks: (5, 2) in continuous pixels; eyes and mouth in one place are no face to be covered, and nothing is drawn.
        rng: says what and how.
    """
    frame = _frame(box, landmarks)
    if frame is None:
        return
    kinds: tuple[Callable[[Pixels, _Frame, Floats, np.random.Generator], Pixels], ...] = (_mask, _glasses, _hand, _hood)
    shape = kinds[int(rng.choice(4, p=(0.5, 0.2, 0.2, 0.1)))]
    where = shape(canvas, frame, landmarks, rng)
    skin = shape is _hand
    _paint(canvas, where, _material(canvas, frame, skin, rng), rng, strength=1.0 if skin else rng.uniform(0.85, 1.0))


def _frame(box: Floats, landmarks: Floats) -> _Frame | None:
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    height = float(np.linalg.norm(mouth - eyes))
    if height < 2:
        return None
    down = (mouth - eyes) / height
    right = np.array([down[1], -down[0]], np.float32)
    middle = (box[:2] + box[2:]) / 2
    centre = middle + down * float((eyes - middle) @ down)
    return _Frame(eyes, mouth, down, right, height, float(min(box[2] - box[0], box[3] - box[1])) / 2, centre)


def _polygon(canvas: Pixels, points: list[Floats]) -> Pixels:
    """Coverage (H, W), 0 to 255, of a polygon in continuous pixels."""
    where = np.zeros(canvas.shape[:2], np.uint8)
    corners = np.round((np.array(points) - 0.5) * (1 << _SUBPIXEL)).astype(np.int32)
    cv2.fillPoly(where, [corners], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL)
    return where


def _mask(canvas: Pixels, frame: _Frame, landmarks: Floats, rng: np.random.Generator) -> Pixels:
    """From the nose's bridge (now and then from below its tip) over the cheeks and the chin."""
    nose = float((landmarks[2] - frame.eyes) @ frame.down) / frame.height
    tip = float((landmarks[2] - frame.centre) @ frame.right) / frame.half
    top = nose + 0.15 if rng.random() < 0.1 else rng.uniform(0.15, max(0.8 * nose, 0.2))
    wide, chin, cheek = rng.uniform(0.85, 1.1), rng.uniform(1.6, 2.0), rng.uniform(0.1, 0.35)
    points = [(-wide, top + cheek), (tip - 0.25, top + 0.05), (tip, top), (tip + 0.25, top + 0.05), (wide, top + cheek)]
    points += [
        (0.85 * wide, 1.1),
        (0.45 * wide + 0.3 * tip, chin),
        (-0.45 * wide + 0.3 * tip, chin),
        (-0.85 * wide, 1.1),
    ]
    return _polygon(canvas, [frame.at(x, y) for x, y in points])


def _glasses(canvas: Pixels, frame: _Frame, landmarks: Floats, rng: np.random.Generator) -> Pixels:
    """Two dark discs and what joins them."""
    where = np.zeros(canvas.shape[:2], np.uint8)
    size = rng.uniform(0.25, 0.42) * frame.height
    angle = float(np.degrees(np.arctan2(frame.right[1], frame.right[0])))
    for eye in landmarks[:2]:
        middle = tuple(float(v) for v in eye - 0.5)
        cv2.ellipse(where, (middle, (2.3 * size, 1.7 * size), angle), 255, -1, cv2.LINE_AA)
    ends = [tuple(int(v) for v in np.round((eye - 0.5) * (1 << _SUBPIXEL))) for eye in landmarks[:2]]
    cv2.line(where, ends[0], ends[1], 255, max(round(0.12 * frame.height), 1), cv2.LINE_AA, _SUBPIXEL)
    return where


def _hand(canvas: Pixels, frame: _Frame, landmarks: Floats, rng: np.random.Generator) -> Pixels:
    """Fingers side by side, from beyond the face's edge into it."""
    where = np.zeros(canvas.shape[:2], np.uint8)
    side = rng.choice((-1.0, 1.0))
    tip, start = (rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 1.3)), (side * rng.uniform(0.9, 1.5), rng.uniform(0.6, 2.6))
    a, b = frame.at(*tip), frame.at(*start)
    width = rng.uniform(0.16, 0.26) * frame.height
    along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-3)
    across = np.array([-along[1], along[0]], np.float32)
    for finger in range(int(rng.integers(2, 5))):
        shift = across * finger * width * 1.05
        ends = [
            tuple(int(v) for v in np.round((end - 0.5) * (1 << _SUBPIXEL)))
            for end in (a + shift + along * rng.uniform(0, 0.3) * frame.height, b + shift)
        ]
        cv2.line(where, ends[0], ends[1], 255, max(round(width), 1), cv2.LINE_AA, _SUBPIXEL)
    return where


def _hood(canvas: Pixels, frame: _Frame, landmarks: Floats, rng: np.random.Generator) -> Pixels:
    """All around the face: above the brows and beside the cheeks."""
    outer, inner = np.zeros(canvas.shape[:2], np.uint8), np.zeros(canvas.shape[:2], np.uint8)
    angle = float(np.degrees(np.arctan2(frame.right[1], frame.right[0])))
    middle = tuple(float(v) for v in frame.at(0.0, 0.5) - 0.5)
    wide, tall = rng.uniform(0.8, 1.0) * frame.half, rng.uniform(1.15, 1.5) * frame.height
    cv2.ellipse(outer, (middle, (3.0 * frame.half, 4.6 * frame.height), angle), 255, -1, cv2.LINE_AA)
    cv2.ellipse(inner, (middle, (2 * wide, 2 * tall), angle), 255, -1, cv2.LINE_AA)
    return np.minimum(outer, 255 - inner)


def _material(canvas: Pixels, frame: _Frame, skin: bool, rng: np.random.Generator) -> Pixels:
    """What a covering is made of, as large as the canvas."""
    height, width = canvas.shape[:2]
    if not skin and rng.random() < 0.25:  # the pattern of another part of the canvas
        return np.asarray(np.roll(canvas, (int(rng.integers(height)), int(rng.integers(width))), axis=(0, 1)), np.uint8)
    draw = rng.random()
    if skin:
        colour = _SKIN[rng.integers(len(_SKIN))] * rng.uniform(0.8, 1.15)
    elif draw < 0.65:
        colour = _CLOTH[rng.integers(len(_CLOTH))] * rng.uniform(0.8, 1.1)
    else:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    folds = np.sin((x * frame.down[0] + y * frame.down[1]) / frame.height * rng.uniform(4, 16) + rng.uniform(0, 6))
    return np.asarray(np.clip(colour * (1 + rng.uniform(0, 0.12) * folds[..., None]), 0, 255), np.uint8)


def _paint(canvas: Pixels, where: Pixels, material: Pixels, rng: np.random.Generator, *, strength: float) -> None:
    """Lay a material over a part of the canvas, under the light that falls there."""
    rows, columns = np.nonzero(where)
    if not len(rows):
        return
    part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    below = canvas[part].astype(np.float32)
    light = cv2.GaussianBlur(below.mean(axis=2), (0, 0), max(below.shape[0] / 6, 1.0))
    light = 1 + rng.uniform(0.2, 0.7) * (light / max(float(light.mean()), 1.0) - 1)
    share = strength * where[part].astype(np.float32)[..., None] / 255
    above = material[part].astype(np.float32) * light[..., None]
    canvas[part] = np.clip(below + share * (above - below) + 0.5, 0, 255).astype(np.uint8)
