"""Self-blended images (https://arxiv.org/abs/2204.08376): a face blended with an altered copy of itself.

Colours, sharpness and geometry of one copy are changed a little, and the two are blended under a deformed mask: what
remains are the traces that every blend leaves, and nothing of another person.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from faceembed.trainer.data.fakes import masks
from faceembed.trainer.data.fakes.blend import over
from faceembed.trainer.data.fakes.methods import Made, Region, Shot, pick, sharpen
from faceembed.trainer.data.fakes.warp import Floats, remap

_RATIOS = (0.25, 0.5, 0.75, 1.0)


def selfblend(source: Shot, target: Shot, rng: np.random.Generator) -> Made:
    """Blend a face with itself; ``source`` and ``target`` are one photo."""
    unit = source.mesh.scale
    inner_altered = bool(rng.uniform() < 0.5)  # either the face that is put in is altered, or the photo round it
    whole = source.pixels.astype(np.float32)
    if inner_altered:
        region = Region.of(source)
        inner, params = _alter(region.pixels, rng)
    else:
        altered, params = _alter(whole, rng)
        inner = Region.of(source).pixels
        region = Region.of(Shot(np.rint(altered).astype(np.uint8), source.mesh))
    inner, moved = _shift(inner, unit, rng)
    shape = pick(rng, masks.SHAPES, (0.3, 0.3, 0.15, 0.15, 0.1))
    softness = float(rng.uniform(0.08, 0.5))
    mask = masks.face_mask(region.points, unit, *region.size, rng, shape=shape, softness=softness, deform=0.12)
    ratio = pick(rng, _RATIOS, (1, 1, 1, 3))
    params |= moved | {"mask": shape, "softness": softness, "ratio": ratio, "altered": "in" if inner_altered else "out"}
    made = region.finish(over(inner, region.pixels, mask * np.float32(ratio)), mask, params)
    return made if inner_altered else Made(made.pixels, np.ones_like(made.mask), made.params)


def _alter(picture: Floats, rng: np.random.Generator) -> tuple[Floats, dict[str, Any]]:
    """Another colour and another sharpness."""
    shift = rng.uniform(-9, 9, 3)
    hue, saturation, value = rng.uniform(-4, 4), rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.1)
    contrast = float(rng.uniform(0.9, 1.1))
    changed = np.clip(picture + shift.astype(np.float32), 0, 255)
    hsv = cv2.cvtColor(changed / np.float32(255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = np.mod(hsv[..., 0] + np.float32(hue), 360)
    hsv[..., 1:] = np.clip(hsv[..., 1:] * np.array([saturation, value], np.float32), 0, 1)
    changed = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * np.float32(255)
    changed = np.clip((changed - changed.mean()) * np.float32(contrast) + changed.mean(), 0, 255)
    how = pick(rng, ("sharper", "coarser", "same"), (0.4, 0.4, 0.2))
    if how == "sharper":
        changed = sharpen(changed, float(rng.uniform(0.4, 1.2)), 1.0)
    elif how == "coarser":
        height, width = changed.shape[:2]
        by = float(rng.uniform(1.5, 3.0))
        small = cv2.resize(
            changed, (max(8, round(width / by)), max(8, round(height / by))), interpolation=cv2.INTER_AREA
        )
        changed = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return changed, {"rgb": shift.tolist(), "hue": hue, "saturation": saturation, "value": value, "sharpness": how}


def _shift(picture: Floats, unit: float, rng: np.random.Generator) -> tuple[Floats, dict[str, Any]]:
    """Moved, resized and bent by a few hundredths of a face."""
    height, width = picture.shape[:2]
    x, y = rng.uniform(-0.08, 0.08), rng.uniform(-0.05, 0.05)
    size = float(rng.uniform(0.95, 1.05))
    bent = rng.normal(0, 0.025 * unit, (5, 5, 2)).astype(np.float32)
    still = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    centre = np.array([width / 2, height / 2], np.float32)
    where = (still - centre) / np.float32(size) + centre - np.array([x * unit, y * unit], np.float32)
    where += cv2.resize(bent, (width, height), interpolation=cv2.INTER_CUBIC)
    return remap(picture, where), {"x": x, "y": y, "size": size}
