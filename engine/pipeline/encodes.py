"""Anything that embeds chips: an `Encoder`, a network in PyTorch, or what of a gated one knows people."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec

Chips = NDArray[np.uint8]
"""(N, H, W, 3) RGB, or one (H, W, 3)."""
Vectors = NDArray[np.float32]
"""(N, D) of unit length."""


class Encodes(Protocol):
    """An `Encoder`, or anything else that embeds chips."""

    def encode(self, chips: Chips) -> tuple[Vectors, NDArray[np.float32]]:
        """Chips (N, H, W, 3) to embeddings (N, D) of unit length, and their norms (N,)."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """A gated encoder without its gate: who somebody is, whatever the face is taken for.

    What covers a part of a face looks made up to the gate, which then decides the similarity wherever it is: maps of the whole
    embedding show that and nothing else (of 9 pairs of people in the wild, 5 had a map whose correlation with that of the
    identity was 0.2 to 0.7).
    """

    encoder: Encodes

    def encode(self, chips: Chips) -> tuple[Vectors, NDArray[np.float32]]:
        """Chips (N, H, W, 3) to identities (N, D / 2) of unit length, and the norms (N,) of the whole embeddings."""
        vectors, norms = self.encoder.encode(chips)
        return identities(vectors), norms


def identities(vectors: Vectors) -> Vectors:
    """The unit identities (N, D) in gated embeddings (N, 2 D): both halves point the same way, and never are both 0."""
    total = vectors.reshape(len(vectors), 2, vectors.shape[1] // 2).sum(1)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)


def identity(encoder: Encodes, spec: ModelSpec) -> Encodes:
    """What of an encoder knows people: all of it, or of a gated one its `Identity`."""
    return Identity(encoder) if spec.gated else encoder
