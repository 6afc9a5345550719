"""Which parts of two faces make them similar: an occlusion map of each, through any runtime.

    explanation = explain(encoder, chip_a, chip_b)
    picture = overlay(chip_a, explanation.map_a)

A window slides over face a; what lies under it is replaced by a fill that shows nothing of it, and the similarity to the
untouched face b is taken again. With window k of weights ``w_k`` in [0, 1] (1 inside, falling to 0 over a quarter of its side),

    a_k  = (1 - w_k) a + w_k fill(a)
    d_k  = cos(e(a), e(b)) - cos(e(a_k), e(b))
    M(x) = mean over the window sizes of  sum_k w_k(x) d_k / sum_k w_k(x)

so that ``M`` is in units of cosine: how much similarity is lost, on average, when a window that covers pixel x is covered.
Above 0 the place makes the faces alike, below 0 it tells them apart. (Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901,
section 4.2, slide one grey square over a class score; the weighted average over many masks is that of RISE, Petsiuk et al. 2018,
https://arxiv.org/abs/1806.07421, equation 6.) Then the same with a and b exchanged. Of a gated encoder, e is the identity alone
(`subject.Identity` says why).

What is not known here: photos, and gradients (`faceembed.trainer.gradients.explain`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.pipeline.encodes import Encodes, Identity, identities
from faceembed.errors import UsageError

Chip = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Map = NDArray[np.float32]
"""(H, W)."""
Fill = Literal["blur", "mean"]

FILLS: tuple[Fill, ...] = ("blur", "mean")
WINDOWS = (0.3, 0.2)
_BLUR = 0.1  # standard deviation of the fill `blur`, in sides of the chip: an eye is about twice as wide
_BATCH = 64
_WARM, _COLD = (235, 94, 11), (31, 111, 235)
_STRONGEST = 0.8  # opacity of the largest value


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What makes two faces similar."""

    similarity: float
    """Cosine of the untouched faces."""
    map_a: Map
    """Of the first face's chip; above 0 where it makes the faces alike."""
    map_b: Map
    method: str
    """``occlusion``: cosine lost by covering; ``gradient``: a density of cosine, whose mean is the whole gain."""
    details: dict[str, Any]
    """How it was computed, as plain types."""


@dataclasses.dataclass(frozen=True)
class OcclusionSettings:
    """How faces are covered."""

    windows: tuple[float, ...] = WINDOWS
    """Sides of the sliding windows, as shares of the chip's side; their maps are averaged."""
    fill: Fill = "blur"
    """What covers: the chip, blurred until no feature is left (the colours stay), or its ``mean`` colour."""

    def __post_init__(self) -> None:
        if not self.windows:
            raise UsageError("--windows names no number; give one such as 0.2, or several separated by commas")
        for window in self.windows:
            if not 0.05 <= window <= 0.5:
                raise UsageError(f"--windows {window:g} must be from 0.05 to 0.5 of the face's side")
        if self.fill not in FILLS:
            raise UsageError(f"--fill '{self.fill}' is not one of {', '.join(FILLS)}")


def explain(
    encoder: Encodes, chip_a: Chip, chip_b: Chip, *, gated: bool = False, settings: OcclusionSettings | None = None
) -> Explanation:
    """Occlusion maps of two faces.

    Args:
        encoder: an `Encoder` that has passed its parity gate, or anything else that embeds chips. In fp32: what is measured is small.
        chip_a, chip_b: uint8 RGB (H, W, 3), aligned faces of the encoder's input size.
        gated: whether the encoder is a gated one; the maps are of its identity then, the similarity is the whole one.
        settings: windows and fill.

    Returns:
        The maps, float32 (H, W), in units of cosine. 372 chips are embedded for them with the default windows.
    """
    settings = settings or OcclusionSettings()
    vectors = encoder.encode(np.stack([chip_a, chip_b]))[0]
    similarity = float(vectors[0] @ vectors[1])
    if gated:
        encoder, vectors = Identity(encoder), identities(vectors)
    alike = float(vectors[0] @ vectors[1])
    map_a, count_a = _occluded(encoder, chip_a, vectors[1], alike, settings)
    map_b, count_b = _occluded(encoder, chip_b, vectors[0], alike, settings)
    details = {"windows": list(settings.windows), "fill": settings.fill, "embedded": 2 + count_a + count_b}
    return Explanation(similarity, map_a, map_b, "occlusion", details)


def fill_of(chip: Chip, fill: Fill) -> NDArray[np.float32]:
    """What covers a chip: float32 (H, W, 3), 0 to 255.

    Args:
        chip: uint8 (H, W, 3).
        fill: ``blur``: a Gaussian of a tenth of the chip's side; ``mean``: one colour, the chip's mean.
    """
    if fill == "mean":
        return np.broadcast_to(chip.mean((0, 1), dtype=np.float32), chip.shape)
    import cv2

    sigma = _BLUR * chip.shape[0]
    return np.asarray(
        cv2.GaussianBlur(chip.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32
    )


def overlay(chip: Chip, values: Map, *, scale: float | None = None) -> Chip:
    """A face with its map over it: orange where it makes the faces alike, blue where it tells them apart.

    Args:
        chip: uint8 RGB (H, W, 3); it is shown in grey, so that every colour is the map's.
        values: (H, W).
        scale: the value of the strongest colour; None for the map's own largest. Give both maps of a pair one scale.

    Returns:
        uint8 RGB (H, W, 3).
    """
    largest = float(np.abs(values).max()) if scale is None else scale
    strength = np.clip(np.abs(values) / largest, 0, 1) if largest > 0 else np.zeros_like(values)
    grey = chip @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
    colours = np.where(values[..., None] >= 0, np.array(_WARM), np.array(_COLD))
    opacity = _STRONGEST * strength[..., None]
    return np.asarray(np.rint((1 - opacity) * grey[..., None] + opacity * colours), np.uint8)


def _occluded(
    encoder: Encodes, chip: Chip, reference: NDArray[np.float32], similarity: float, settings: OcclusionSettings
) -> tuple[Map, int]:
    """The map of one face, and how many chips were embedded for it."""
    fill, count = fill_of(chip, settings.fill), 0
    total = np.zeros(chip.shape[:2])
    for share in settings.windows:
        rows, columns = (_windows(side, share) for side in chip.shape[:2])  # (R, H), (C, W)
        drops = similarity - _covered(encoder, chip, fill, rows, columns) @ reference
        loss = drops.reshape(len(rows), len(columns)).astype(np.float64)  # (R, C)
        total += (rows.T @ loss @ columns) / np.outer(rows.sum(0), columns.sum(0))
        count += drops.size
    return (total / len(settings.windows)).astype(np.float32), count


def _windows(side: int, share: float) -> NDArray[np.float64]:
    """Weights of evenly spaced windows along one axis, (n, side): half a window apart, the outer ones centred on the edges."""
    window = share * side
    centres = np.linspace(0, side - 1, math.ceil(2 * (side - 1) / window) + 1)
    distance = np.abs(np.arange(side) - centres[:, None])
    return np.clip((window / 2 - distance) / (window / 4) + 0.5, 0, 1)


def _covered(
    encoder: Encodes, chip: Chip, fill: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Embeddings of the chip under each window, (R * C, D), row by row."""
    places = [(row, column) for row in rows for column in columns]
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(places), _BATCH):
        weights = np.stack([np.outer(row, column) for row, column in places[start : start + _BATCH]])
        parts.append(encoder.encode(blend(chip, fill, weights))[0])
    return np.concatenate(parts)


def blend(chip: Chip, fill: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A chip, covered in N ways: uint8 (N, H, W, 3), ``(1 - w) chip + w fill``.

    Args:
        chip: uint8 (H, W, 3).
        fill: from `fill_of`.
        weights: (N, H, W) in [0, 1].
    """
    mixed = chip + weights[..., None].astype(np.float32) * (fill - chip)
    return np.rint(mixed).astype(np.uint8)
