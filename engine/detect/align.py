"""From landmarks to the chips that an encoder takes, straight from the photo's pixels with an antialiased warp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.native import _native

ARCFACE_SIDE = 112


def similarity_matrices(landmarks: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float64]:
    """The least-squares similarities from an encoder's chip to the photo.

    Args:
        landmarks: (F, 5, 2) continuous pixels of the photo (a pixel's centre is at a half number).
        spec: the encoder, with its template.

    Returns:
        float64 (F, 2, 3): chip pixel (x, y, 1) to photo pixel, centres at whole numbers; NaN where the five points do
        not span a face.
    """
    points = np.ascontiguousarray(landmarks, np.float64) - 0.5
    return _native.fit_similarity(points, np.array(spec.template, np.float64))


def warp_chips(
    photos: Sequence[NDArray[np.uint8]], owner: NDArray[np.int32], matrices: NDArray[np.float64], spec: ModelSpec
) -> NDArray[np.uint8]:
    """Cut chips out of photos.

    Args:
        photos: uint8 RGB (H, W, 3).
        owner: int32 (F,) each chip's photo.
        matrices: float64 (F, 2, 3), from `similarity_matrices`.
        spec: the encoder, with its input size.

    Returns:
        uint8 RGB (F, height, width, 3); black outside the photo.
    """
    height, width = spec.input_size
    return _native.warp_many(list(photos), np.ascontiguousarray(owner, np.int32), matrices, height, width, exact=False)


def crop_landmarks(height: int, width: int) -> NDArray[np.float32]:
    """Where the landmarks lie in a photo that is already an aligned crop (ArcFace's template, any square size).

    Returns:
        float32 (5, 2), continuous pixels.
    """
    scale = np.array([width / ARCFACE_SIDE, height / ARCFACE_SIDE])
    points: NDArray[np.float32] = ((np.array(ARCFACE_TEMPLATE) + 0.5) * scale).astype(np.float32)
    return points
