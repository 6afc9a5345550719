"""Putting a face into a photo: three ways to blend, each of which leaves what is outside the mask as it was."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.trainer.data.fakes.colour import tone

Floats = NDArray[np.float32]

BLENDS = ("alpha", "multiband", "poisson", "poisson-mixed")
_CAST = 14.0  # Lab units that a Poisson blend may shift a face; more is hair or background bleeding in


def blend(face: Floats, target: Floats, mask: Floats, *, how: str) -> tuple[Floats, str]:
    """Blend a face into a target.

    Args:
        face, target: float32 RGB (H, W, 3), 0 to 255.
        mask: float32 (H, W), 0 to 1, 0 at the border.
        how: ``alpha``: the mask's slope; ``multiband``: coarse structures over a wide band and fine ones over a narrow one
            (https://doi.org/10.1145/245.247); ``poisson``: the face's gradients with the target's colours at the edge
            (https://doi.org/10.1145/882262.882269), ``poisson-mixed``: the stronger of both gradients.

    Returns:
        The picture, equal to ``target`` where the mask is 0, and how it was made: a Poisson blend that gave the face a
        cast is replaced by ``alpha``.
    """
    if how == "alpha":
        return over(face, target, mask), how
    if how == "multiband":
        return over(_multiband(face, target, mask), target, _widened(mask)), how
    if how in ("poisson", "poisson-mixed"):
        mixed = _poisson(face, target, mask, how)
        if mixed is not None and float(np.linalg.norm(tone(mixed, mask) - tone(face, mask))) <= _CAST:
            return over(mixed, target, _widened(mask)), how
        return over(face, target, mask), "alpha"
    raise ValueError(f"how is '{how}'; expected one of {', '.join(BLENDS)}")


def over(face: Floats, target: Floats, mask: Floats) -> Floats:
    """``face`` where the mask is 1, ``target`` where it is 0, exactly."""
    weight = mask[..., None]
    mixed: Floats = np.where(weight > 0, target + weight * (face - target), target)
    return mixed


def _widened(mask: Floats) -> Floats:
    """A mask of the same support with a steeper slope: these blends bring a slope of their own."""
    steep: Floats = np.clip(mask * 4, 0, 1)
    return steep


def _poisson(face: Floats, target: Floats, mask: Floats, how: str) -> Floats | None:
    """OpenCV's solver over the mask's support; None where there is too little of it."""
    support = (mask > 0.02).astype(np.uint8) * 255
    support[[0, 1, -2, -1]] = 0
    support[:, [0, 1, -2, -1]] = 0
    x, y, width, height = cv2.boundingRect(support)
    if width < 8 or height < 8:
        return None
    mode = cv2.MIXED_CLONE if how == "poisson-mixed" else cv2.NORMAL_CLONE
    a, b = (np.clip(np.rint(picture), 0, 255).astype(np.uint8) for picture in (face, target))
    cloned = cv2.seamlessClone(a, b, support, (x + width // 2, y + height // 2), mode)
    return np.asarray(cloned, np.float32)


def _multiband(face: Floats, target: Floats, mask: Floats) -> Floats:
    levels = int(np.clip(np.log2(min(mask.shape)) - 3, 1, 5))
    height, width = mask.shape
    step = 1 << levels
    pad = ((0, -height % step), (0, -width % step))
    a, b = (np.pad(picture, (*pad, (0, 0)), "edge") for picture in (face, target))
    weight = np.pad(mask, pad)
    mixed: list[Floats] = []
    for _ in range(levels):
        a_low, b_low, weight_low = cv2.pyrDown(a), cv2.pyrDown(b), cv2.pyrDown(weight)
        size = (a.shape[1], a.shape[0])
        detail_a, detail_b = a - cv2.pyrUp(a_low, dstsize=size), b - cv2.pyrUp(b_low, dstsize=size)
        mixed.append(detail_b + weight[..., None] * (detail_a - detail_b))
        a, b, weight = a_low, b_low, weight_low
    result = b + weight[..., None] * (a - b)
    for detail in reversed(mixed):
        result = cv2.pyrUp(result, dstsize=(detail.shape[1], detail.shape[0])) + detail
    return np.clip(result[:height, :width], 0, 255)
