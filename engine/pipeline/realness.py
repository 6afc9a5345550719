"""How real a face looks, and how alike two are as people, out of gated embeddings alone: no network runs again.

A gated embedding is e = [sqrt(p) u, sqrt(1 - p) u] with the unit identity u, so p is the squared length of its first half, and
of two

    e . e' = (u . u') * (sqrt(p p') + sqrt((1 - p) (1 - p')))

which gives u . u' where the similarity is known and the embeddings are not at hand. Encoders without a gate say neither: None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.encodes import identities

ALTERED = 0.5
"""Below this a face looks altered: the middle of what the gate says, at which neither side has the larger share."""
_LEAST_SHARE = 1e-3  # below, the similarity's rounding would be most of the identity's


def realness(vectors: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32] | None:
    """How real each of N faces looks, float32 (N,), 0 to 1.

    Args:
        vectors: float32 (N, D), unit length.
        spec: the encoder; None comes back where it has no gate.
    """
    if not spec.gated:
        return None
    half = vectors[:, : vectors.shape[1] // 2].astype(np.float64)
    return np.asarray(np.clip((half**2).sum(axis=1), 0, 1), np.float32)


def identity_of(similarity: float, real_a: float | None, real_b: float | None) -> float | None:
    """The cosine of two identities, from that of the whole embeddings and how real both look; None where that does not tell."""
    if real_a is None or real_b is None:
        return None
    share = (real_a * real_b) ** 0.5 + ((1 - real_a) * (1 - real_b)) ** 0.5
    return None if share < _LEAST_SHARE else float(np.clip(similarity / share, -1, 1))


def looks_altered(real: float | None) -> bool | None:
    """Whether a face that looks so real to a gated encoder looks altered; None where it is not known how real it looks."""
    return None if real is None or np.isnan(real) else bool(real < ALTERED)


@dataclasses.dataclass(frozen=True)
class Likeness:
    """What a gated encoder says of two faces beside their similarity; all None without a gate."""

    identity: float | None
    """Cosine of the identities alone: how alike they are as people, whatever they are made of."""
    real_a: float | None
    """How real the first face looks, 0 to 1."""
    real_b: float | None

    @classmethod
    def of(cls, a: NDArray[np.float32], b: NDArray[np.float32], spec: ModelSpec) -> Likeness:
        """Of two embeddings, float32 (D,) each."""
        both = np.stack([a, b])
        real = realness(both, spec)
        if real is None:
            return cls(None, None, None)
        people = identities(both)
        return cls(float(people[0] @ people[1]), float(real[0]), float(real[1]))

    @classmethod
    def by(cls, similarity: float, real_a: float | None, real_b: float | None) -> Likeness:
        """Of two faces whose similarity is known, and perhaps how real they look, where their embeddings are not at hand."""
        return cls(identity_of(similarity, real_a, real_b), real_a, real_b)

    @property
    def altered(self) -> tuple[bool | None, bool | None]:
        """Whether each face looks altered; None where that is not known."""
        return looks_altered(self.real_a), looks_altered(self.real_b)

    def remark(self, similarity: float, threshold: float, names: Sequence[str]) -> str | None:
        """A sentence where two faces are one person by their identity and only the gate keeps them apart; else None."""
        if self.identity is None or similarity >= threshold or self.identity < threshold:
            return None
        looks = zip(names, (self.real_a, self.real_b), self.altered, strict=True)
        altered = [f"{name} looks altered ({real:.2f})" for name, real, so in looks if so]
        if not altered:
            return None
        return f"The same person by identity ({self.identity:.2f}), but {' and '.join(altered)}"


def identity_table(vectors: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32] | None:
    """Cosines (N, N) of the identities in embeddings (N, D), rows of NaN kept; None without a gate."""
    if not spec.gated:
        return None
    people = identities(vectors)
    return np.asarray(people @ people.T, np.float32)
