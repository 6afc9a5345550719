"""Unit length, made here after every runtime; and faces that an encoder has no direction for.

A network that whitens its chip divides 0 by 0 on a flat one, one that ends in a rectifier may give zeros: such a face has no
embedding, whatever the runtime. Nor is a network's own normalisation relied on: OpenVINO's adds 1.2e-7 under the root, so that a
vector of length 0.001 comes out 0.945 long.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

NO_EMBEDDING = "the encoder gives no embedding of this face (not finite, or all zeros), as of a flat grey one"
_LEAST = 1e-6  # length below which a direction is rounding error


def to_unit(raw: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give rows unit length.

    Args:
        raw: float32 (N, ...), what a network gave for N faces.

    Returns:
        embeddings: float32 (N, D), unit length; zeros where a row is not finite or has no length (`is_sound`).
        norms: float32 (N,) the length before; 0 there.
    """
    rows = raw.reshape(len(raw), math.prod(raw.shape[1:])).astype(
        np.float64
    )  # squares of float32 may pass what float32 holds
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    sound = np.isfinite(norms) & (norms > _LEAST) & (norms < float(np.finfo(np.float32).max))
    norms[~sound] = 0
    unit = np.zeros(rows.shape, np.float32)
    unit[sound] = rows[sound] / norms[sound, None]
    return unit, norms.astype(np.float32)


def is_sound(embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) bool: which rows of `to_unit` are embeddings."""
    return np.asarray(embeddings.any(axis=1), np.bool_)
