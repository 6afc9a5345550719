"""What happens to honest photos on their way: turned and turned back, scaled, compressed, sharpened, denoised, scanned; and covers.

    crop = everyday(crop, points, rng, cover=0.1)

A gate that has seen such changes on deepfakes alone takes them for deepfakes. Here they happen to photos and to fakes alike, those of
one pair alike too, so that nothing but the fake tells them apart. Dark glasses and masks hide a face and are no fraud.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

_WAYS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST)


def everyday(crop: Pixels, points: Points, rng: np.random.Generator, *, cover: float = 0.0) -> Pixels:
    """One crop after some of these changes, or none.

    Args:
        crop: uint8 RGB (H, W, 3), square; not written to.
        points: (5, 2) eyes, nose, corners of the mouth in it, in pixels.
        rng: its state alone decides what happens.
        cover: how often glasses or a mask are drawn.

    Returns:
        uint8 RGB (H, W, 3).
    """
    if rng.random() < cover:
        crop = dark_glasses(crop, points, rng) if rng.random() < 0.5 else mouth_mask(crop, points, rng)
    if rng.random() < 0.12:
        crop = _turned(crop, rng)
    kind = rng.random()
    if kind < 0.35:
        crop = _rescaled(crop, rng)
    elif kind < 0.55:
        crop = _jpeg(crop, int(rng.integers(45, 98)))
    crop = _filtered(crop, rng)
    if rng.random() < 0.06:
        crop = np.asarray(cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    return crop


def dark_glasses(crop: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """Two dark lenses, round or square, and a bridge; arguments as of `everyday`."""
    left, right = points[0], points[1]
    eyes = float(np.linalg.norm(right - left))
    colour = [int(value) for value in rng.integers(0, 60, 3)]
    half = np.array([eyes * rng.uniform(0.32, 0.46), eyes * rng.uniform(0.22, 0.36)])
    drawn = crop.copy()
    for eye in (left, right):
        middle = eye + rng.normal(0, 0.03 * eyes, 2)
        if rng.random() < 0.6:
            cv2.ellipse(drawn, _whole(middle), _whole(half), 0, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(drawn, _whole(middle - half), _whole(middle + half), colour, -1)
    cv2.line(drawn, _whole(left), _whole(right), colour, max(1, int(eyes * 0.06)), cv2.LINE_AA)
    share = rng.uniform(0.8, 1.0)
    return np.asarray(cv2.addWeighted(drawn, share, crop, 1 - share, 0), np.uint8)


def mouth_mask(crop: Pixels, points: Points, rng: np.random.Generator) -> Pixels:
    """A mask over nose and mouth, white or coloured, with a weave of noise; arguments as of `everyday`."""
    left, right, nose, _, _ = points
    eyes = float(np.linalg.norm(right - left))
    mouth = (points[3] + points[4]) / 2
    light = rng.random() < 0.6
    colour = [int(value) for value in rng.integers(150 if light else 0, 256, 3)]
    side, bridge = eyes * rng.uniform(0, 0.3), eyes * rng.uniform(0.05, 0.3)
    outline = np.array(
        [
            (left[0] - eyes * 0.45, nose[1] - side),
            (nose[0], nose[1] - bridge),
            (right[0] + eyes * 0.45, nose[1] - side),
            (right[0] + eyes * 0.4, mouth[1] + eyes * 0.3),
            (nose[0], mouth[1] + eyes * 0.75),
            (left[0] - eyes * 0.4, mouth[1] + eyes * 0.3),
        ]
    )
    drawn = crop.copy()
    cv2.fillPoly(drawn, [np.rint(outline).astype(np.int32)], colour, cv2.LINE_AA)
    weave = rng.normal(0, 4, (*crop.shape[:2], 1)) * (drawn != crop).any(2, keepdims=True)
    return np.asarray(np.clip(drawn + weave, 0, 255), np.uint8)


def _whole(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _turned(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """By up to 45 degrees, nearest or bilinear, and back again: straightened photos."""
    height, width = crop.shape[:2]
    larger = (int(width * 1.42), int(height * 1.42))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-45, 45), 1.0)
    matrix[:, 2] += (larger[0] - width) / 2, (larger[1] - height) / 2
    way = cv2.INTER_NEAREST if rng.random() < 0.4 else cv2.INTER_LINEAR
    turned = cv2.warpAffine(crop, matrix, larger, flags=way, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(
        cv2.warpAffine(turned, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.uint8
    )


def _rescaled(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """Through another size, at most times compressed there: websites, screenshots, upscalers."""
    height, width = crop.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.45), np.log(2.2))))
    size = (max(24, int(width * scale)), max(24, int(height * scale)))
    other = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)
    if rng.random() < 0.8:
        other = _jpeg(other, int(rng.integers(50, 98)))
    way = _WAYS[int(rng.choice(4, p=(0.5, 0.25, 0.2, 0.05)))]
    return np.asarray(cv2.resize(other, (width, height), interpolation=way), np.uint8)


def _jpeg(crop: Pixels, quality: int) -> Pixels:
    # Both ends take the channels for BGR: they come back in the order they went in, with luma of the wrong weights.
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


def _filtered(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """At times one of: blur, denoisers, sharpening, grain, motion."""
    kind = rng.random()
    if kind < 0.06:
        return np.asarray(cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.5)), np.uint8)
    if kind < 0.1:
        return np.asarray(cv2.medianBlur(crop, 3), np.uint8)
    if kind < 0.14:
        return np.asarray(cv2.bilateralFilter(crop, 5, float(rng.uniform(15, 50)), 3), np.uint8)
    if kind < 0.2:
        return np.asarray(cv2.addWeighted(crop, 1.6, cv2.GaussianBlur(crop, (0, 0), 1.0), -0.6, 0), np.uint8)
    if kind < 0.28:
        return np.asarray(np.clip(crop + rng.normal(0, rng.uniform(2, 10), crop.shape), 0, 255), np.uint8)
    if kind < 0.31:
        length = int(rng.integers(3, 8))
        streak = np.zeros((length, length), np.float32)
        streak[length // 2] = 1 / length
        return np.asarray(cv2.filter2D(crop, -1, streak if rng.random() < 0.5 else streak.T), np.uint8)
    return crop
