"""How good a face is to be recognised by: what is measured of its chip, its landmarks, and the length of its embedding.

    sharpness(chips)                 # (F,) variance of the Laplacian of the aligned face
    yaw, roll = pose(landmarks)      # degrees, from five landmarks
    percentile(norms, spec)          # (F,) 0 to 1: the share of training photos with a shorter embedding

What each is worth, as misses that are left when the poorest pairs are discarded, is in `docs/guides/verify.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.native import _native

NOSE = 0.45
"""How far the tip of the nose stands out of the plane of the eyes, in distances of the eyes: a mean of adults' heads, on which the yaw rests."""


def sharpness(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Variance of the Laplacian of each chip's grey levels, squared levels: blurred, enlarged and often saved faces have little of it.

    Pech-Pacheco et al. 2000 (https://doi.org/10.1109/ICPR.2000.903548). Chips of one size are comparable; encoders with other chips are not.

    Args:
        chips: uint8 RGB (F, H, W, 3).
    """
    return _native.sharpness(np.ascontiguousarray(chips))


def pose(landmarks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Yaw and roll in degrees, estimates from five points.

    Yaw: the nose of a head turned by y lies ``NOSE * tan y`` distances of the eyes beside their middle; positive where it points to the
    photo's right. Roll: the slope of the line of the eyes, positive where the head leans to the photo's right.

    No pitch: how far down the nose lies between eyes and mouth, read as an angle in the same way, differs between people by 6 degrees (standard
    deviation of their own means, LFW, people_wild and people_fiw; of the yaw 1 to 2), and its middle by up to 7 between these sets; docs/guides/verify.md has the figures.

    Args:
        landmarks: float32 (F, 5, 2): left eye, right eye, nose tip, mouth corners, left as seen in the photo.
    """
    points = np.asarray(landmarks, np.float64).reshape(-1, 5, 2)
    eyes = points[:, 1] - points[:, 0]
    distance = np.maximum(np.linalg.norm(eyes, axis=1), 1e-6)
    beside = ((points[:, 2] - (points[:, 0] + points[:, 1]) / 2) * eyes).sum(axis=1) / distance**2
    yaw = np.degrees(np.arctan(beside / NOSE))
    roll = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    return yaw.astype(np.float32), roll.astype(np.float32)


def percentile(norms: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32] | None:
    """Which share of an encoder's training photos has a shorter embedding, (F,) 0 to 1; None where its spec keeps no table of norms.

    For encoders trained so, the length is the quality itself: Meng et al. 2021, MagFace (https://arxiv.org/abs/2103.06627); Kim et al. 2022,
    AdaFace (https://arxiv.org/abs/2204.00964). The share has a meaning that the length, on each encoder's own scale, has not.
    """
    if not spec.norms:
        return None
    return np.interp(norms, spec.norms, np.linspace(0, 1, len(spec.norms))).astype(np.float32)


def quality_of(row: Mapping[str, Any]) -> dict[str, float]:
    """What a row of faces says of how good its face is, by name; the higher the better. What is not known is left out."""
    found = {
        "score": row["score"],
        "norm": row["norm"],
        "side": min(row["w"], row["h"]),
        "frontal": None if row.get("yaw") is None else -abs(row["yaw"]),
        "sharpness": row.get("sharpness"),
        "real": row.get("real"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}
