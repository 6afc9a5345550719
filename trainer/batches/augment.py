"""Random changes of a crop: the same for the same generator, on whatever machine and in whatever thread.

    rng = generator(seed, epoch, index)
    crop = augment(crop, settings, rng)

Order: geometry (mirror, shift, turn, zoom: one bilinear warp with a mirrored border), colour (brightness, contrast, saturation,
hue, grey: one matrix), then what cameras and websites do (night, motion, blur, shrinking, JPEG, noise), then erasing. Everything is drawn
before anything is applied, so that strengths can change without moving the other draws. Knows nothing of people or files.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.trainer.recipes.crops import Augment

Pixels = NDArray[np.uint8]

# ITU-R BT.601 luma, and the matrices from and to YIQ (FCC 1953 primaries), in which a turn of the I-Q plane changes hue alone.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_DRAWS = 40  # numbers drawn for a crop


def generator(*key: int) -> np.random.Generator:
    """A generator of its own for a key of non-negative whole numbers, such as (seed, epoch, index)."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def augment(crop: Pixels, settings: Augment, rng: np.random.Generator) -> Pixels:
    """Change a crop at random.

    Args:
        crop: uint8 RGB (H, W, 3); it is not written to.
        settings: how often and how strongly.
        rng: its state alone decides what happens.

    Returns:
        uint8 RGB (H, W, 3).
    """
    uniform = rng.random(_DRAWS)
    normal = rng.standard_normal(4)
    crop = _geometry(crop, settings, uniform[:1], normal)
    crop = _colour(crop, settings, uniform[1:7])
    crop = _camera(crop, settings, uniform[22:27], rng)
    crop = _degrade(crop, settings, uniform[7:16], rng)
    return _erase(crop, settings, uniform[16:22], rng)


def _geometry(crop: Pixels, settings: Augment, uniform: NDArray[np.float64], normal: NDArray[np.float64]) -> Pixels:
    mirrored = uniform[0] < settings.flip
    if not (settings.shift or settings.rotate or settings.zoom):
        return np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop
    height, width = crop.shape[:2]
    angle = np.deg2rad(settings.rotate * normal[0])
    scale = np.exp(settings.zoom * normal[1])
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre + settings.shift * normal[2:] * (width, height) - turn @ centre
    matrix = np.c_[turn, offset]  # (2, 3) from the crop to the result
    return np.asarray(
        cv2.warpAffine(crop, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101),
        np.uint8,
    )


def _colour(crop: Pixels, settings: Augment, uniform: NDArray[np.float64]) -> Pixels:
    grey = uniform[4] < settings.grey_share
    if not (grey or settings.brightness or settings.contrast or settings.saturation or settings.hue):
        return crop
    signed = 2 * uniform[:4] - 1
    brightness = 1 + settings.brightness * signed[0]
    contrast = 1 + settings.contrast * signed[1]
    saturation = 0.0 if grey else 1 + settings.saturation * signed[2]
    hue = np.deg2rad(settings.hue * signed[3])
    chroma = saturation * np.array([[np.cos(hue), -np.sin(hue)], [np.sin(hue), np.cos(hue)]])
    middle = np.eye(3)
    middle[1:, 1:] = chroma
    matrix = brightness * contrast * (_FROM_YIQ @ middle @ _TO_YIQ)
    luma = float(cv2.mean(crop)[:3] @ _TO_YIQ[0]) * brightness
    offset = (1 - contrast) * luma  # contrast is about the crop's own mean
    return np.asarray(cv2.transform(crop, np.c_[matrix, np.full(3, offset)]), np.uint8)


def _camera(crop: Pixels, settings: Augment, uniform: NDArray[np.float64], rng: np.random.Generator) -> Pixels:
    """Too little light, and what moved while the shutter was open."""
    if uniform[0] < settings.night_share:
        gamma = 1 + (settings.night - 1) * uniform[1]
        dark = np.power(crop.astype(np.float32) / 255, np.float32(gamma)) * 255
        dark += rng.standard_normal(crop.shape, np.float32) * np.float32(3 * (gamma - 1))
        crop = np.clip(dark + 0.5, 0, 255).astype(np.uint8)
    if uniform[2] < settings.motion_share:
        length, angle = 1 + max(settings.motion - 1, 0) * uniform[3], np.pi * uniform[4]
        way = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        side = 2 * int(np.ceil(length / 2)) + 1
        kernel = np.zeros((side, side), np.uint8)
        ends = [tuple(int(v) for v in np.round((side // 2 + sign * way) * 16)) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
        weights = kernel.astype(np.float32) / float(kernel.sum())
        crop = np.asarray(cv2.filter2D(crop, -1, weights, borderType=cv2.BORDER_REFLECT_101), np.uint8)
    return crop


def _degrade(crop: Pixels, settings: Augment, uniform: NDArray[np.float64], rng: np.random.Generator) -> Pixels:
    height, width = crop.shape[:2]
    if uniform[0] < settings.blur_share:
        sigma = 0.2 + max(settings.blur - 0.2, 0) * uniform[1]
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.uint8)
    if uniform[2] < settings.shrink_share:
        factor = 1 + (settings.shrink - 1) * uniform[3]
        size = max(round(width / factor), 4), max(round(height / factor), 4)
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        crop = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if uniform[4] < settings.jpeg_share:
        low, high = settings.jpeg
        quality = low + round((high - low) * uniform[5])
        _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
        # Both ends take the channels for BGR: they come back in the order they went in, with luma of the wrong weights.
        crop = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    if uniform[6] < settings.noise_share:
        noise = rng.standard_normal(crop.shape, np.float32) * np.float32(settings.noise * uniform[7])
        crop = np.clip(crop + noise + 0.5, 0, 255).astype(np.uint8)
    return crop


def _erase(crop: Pixels, settings: Augment, uniform: NDArray[np.float64], rng: np.random.Generator) -> Pixels:
    """A rectangle of noise (Zhong et al. 2017, https://arxiv.org/abs/1708.04896: random values, ratio of sides 0.3 to 3.3)."""
    if not uniform[0] < settings.erase_share:
        return crop
    height, width = crop.shape[:2]
    area = settings.erase * (0.1 + 0.9 * uniform[1]) * height * width
    ratio = np.exp(np.log(3.3) * (2 * uniform[2] - 1))
    tall, wide = (
        min(max(round(np.sqrt(part)), 1), side) for part, side in ((area * ratio, height), (area / ratio, width))
    )
    top, left = round((height - tall) * uniform[3]), round((width - wide) * uniform[4])
    crop = crop.copy()
    crop[top : top + tall, left : left + wide] = rng.integers(0, 256, (tall, wide, 3), np.uint8)
    return crop
