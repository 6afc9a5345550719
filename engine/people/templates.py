"""What stands for a person of whom there are several photos: their template.

    rows = template(vectors, quality, "quality")              # (K, D): one row, or with "max" one a photo
    templates = Templates([rows_of_ann, rows_of_bob])
    templates.scores(faces)                                   # (F, 2): the highest cosine with any of a person's rows

The rules, of photos v_i of unit length with qualities q_i:

    mean      the sum of v_i, brought to unit length
    quality   the sum of q_i v_i, likewise; as the templates of IJB are weighted by detection's scores
    best      the mean of the `BEST` photos of highest quality
    max       every photo by itself: the highest of its cosines counts

`RULE` was chosen on training people by `benchmarks/identification.py`: FNIR at FPIR 1 % is 78.9 % with one photo of each of 924 people,
70.1 with `max`, 67.6 with `mean`, and 67.5 with `quality` where q is the aligner's score; by the embedding's norm or how real a face looks
it is 67.6. Between the means is no difference that could not be chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import UsageError

Rule = Literal["mean", "quality", "best", "max"]
RULES: tuple[str, ...] = get_args(Rule)
RULE: Rule = "quality"
BEST = 3


def template(vectors: NDArray[np.float32], quality: NDArray[np.float32], rule: str = RULE) -> NDArray[np.float32]:
    """One person's template.

    Args:
        vectors: float32 (N, D), unit length, N at least 1.
        quality: (N,), above 0; compared within the person alone, so its unit does not matter.
        rule: of `RULES`.

    Returns:
        float32 (K, D), unit length.

    Raises:
        UsageError: there is no such rule.
    """
    if rule not in RULES:
        raise UsageError(f"template '{rule}' is none of {', '.join(RULES)}")
    if rule == "max" or len(vectors) == 1:
        return np.asarray(vectors, np.float32)
    if rule == "best":
        order = np.argsort(-quality, kind="stable")[:BEST]
        return _unit(vectors[order].astype(np.float64).mean(axis=0))
    weights = quality.astype(np.float64) if rule == "quality" else np.ones(len(vectors))
    return _unit((weights[:, None] * vectors).sum(axis=0))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    """(1, D); of photos that cancel each other out exactly nothing is left to scale, and they stay zero: alike to nobody."""
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / (length or 1.0), np.float32)[None]


class Templates:
    """The templates of several people, to compare faces with.

    Args:
        rows: float32 (K_i, D) of each person, K_i at least 1.
    """

    def __init__(self, rows: Sequence[NDArray[np.float32]]) -> None:
        self._rows = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
        self._starts = np.cumsum([0, *(len(of) for of in rows)])[:-1]

    def __len__(self) -> int:
        return len(self._starts)

    def scores(self, faces: NDArray[np.float32]) -> NDArray[np.float32]:
        """How alike faces are to each person.

        Args:
            faces: float32 (F, D), unit length.

        Returns:
            float32 (F, P), cosines in [-1, 1].
        """
        if not len(self):
            return np.zeros((len(faces), 0), np.float32)
        cosines = np.clip(faces @ self._rows.T, -1, 1)
        return np.asarray(np.maximum.reduceat(cosines, self._starts, axis=1), np.float32)
