"""Giving one face the colours of another, under masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TRANSFERS = ("reinhard", "histogram", "none")
FAR_TONES = 12.0  # Lab units between two skins from which on leaving the colours as they are shows as a patch


def to_lab(rgb: Floats) -> Floats:
    """RGB of 0 to 255 to Lab of L 0 to 100."""
    lab: Floats = cv2.cvtColor(np.clip(rgb, 0, 255).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab


def to_rgb(lab: Floats) -> Floats:
    """Lab of L 0 to 100 to RGB of 0 to 255."""
    rgb: Floats = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255
    return np.clip(rgb, 0, 255)


def tone(rgb: Floats, mask: Floats) -> NDArray[np.float64]:
    """The mean Lab colour under a mask."""
    return _mean(to_lab(rgb), _weight(mask))


def _weight(mask: Floats) -> NDArray[np.float64]:
    """A mask as weights that sum to 1, flat."""
    weight = mask.astype(np.float64).ravel()
    return weight / max(float(weight.sum()), 1e-6)


def _mean(picture: Floats, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted mean of each channel."""
    mean: NDArray[np.float64] = weight @ picture.reshape(-1, 3).astype(np.float64)
    return mean


def transfer(source: Floats, target: Floats, mask: Floats, *, how: str, strength: float = 1.0) -> Floats:
    """Bring the colours of ``source`` to those of ``target``.

    Args:
        source, target: float32 RGB (H, W, 3), 0 to 255.
        mask: float32 (H, W); the colours under it are compared.
        how: ``reinhard``: mean and standard deviation in Lab (https://doi.org/10.1109/38.946629), ``histogram``: the
            distribution of the lightness besides, ``none``.
        strength: 0 leaves the source as it is, 1 takes the target's colours.
    """
    if how == "none" or float(mask.sum()) < 16:
        return source
    if how == "reinhard":
        moved = _reinhard(source, target, mask)
    elif how == "histogram":
        moved = _histogram(source, target, mask)
    else:
        raise ValueError(f"how is '{how}'; expected one of {', '.join(TRANSFERS)}")
    return source + np.float32(strength) * (moved - source)


def _reinhard(source: Floats, target: Floats, mask: Floats) -> Floats:
    weight = _weight(mask)
    a, b = to_lab(source), to_lab(target)
    mean_a, mean_b = _mean(a, weight), _mean(b, weight)
    deviation_a = np.sqrt(_mean((a - mean_a.astype(np.float32)) ** 2, weight))
    deviation_b = np.sqrt(_mean((b - mean_b.astype(np.float32)) ** 2, weight))
    ratio = np.clip(deviation_b / np.maximum(deviation_a, 1e-3), 0.65, 1.5)  # no face turns flat or garish
    shift = (mean_b - mean_a * ratio).astype(np.float32)
    return to_rgb(a * ratio.astype(np.float32) + shift)


def _histogram(source: Floats, target: Floats, mask: Floats) -> Floats:
    """Match the quantiles of the lightness, linearly between them, and the chroma as Reinhard does.

    Channel by channel a face whose light is blown out would turn the darkest tones blue or green.
    """
    inside = mask > 0.3
    if inside.sum() < 16:
        return source
    moved, wanted = to_lab(_reinhard(source, target, mask)), to_lab(target)[..., 0]
    lightness = to_lab(source)[..., 0]
    shares = np.linspace(0, 1, 33)
    known = np.maximum.accumulate(np.quantile(lightness[inside], shares) + np.arange(33) * 1e-3)
    moved[..., 0] = np.interp(lightness, known, np.quantile(wanted[inside], shares))
    return to_rgb(moved)
