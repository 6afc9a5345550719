"""QMagFace's score (`models.quality_aware`) of the pairs of a list."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.models.quality_aware import quality_aware
from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import UsageError


def quality_aware_scores(
    pairs: PairList,
    similarity: NDArray[np.float64],
    qualities: Mapping[str, Mapping[str, float]],
    spec: ModelSpec,
) -> NDArray[np.float64]:
    """QMagFace's score of each pair, (n,); pairs without a face stay as they are.

    Args:
        pairs: the list.
        similarity: (n,) cosines.
        qualities: photo to its measures of quality, of which ``norm`` counts.
        spec: the encoder's.

    Raises:
        UsageError: the score was not fitted for this encoder.
    """
    if spec.quality_aware is None:
        raise UsageError(
            f"--score quality-aware: it was not fitted for encoder {spec.name}; leave it out, or fit it: faceembed export --strangers"
        )
    norms = [[qualities.get(path, {}).get("norm", np.nan) for path in (pair.path_a, pair.path_b)] for pair in pairs]
    a, b = np.array(norms, np.float64).reshape(-1, 2).T
    known = ~(np.isnan(a) | np.isnan(b))
    scored = quality_aware(similarity, np.nan_to_num(a), np.nan_to_num(b), spec.quality_aware)
    return np.clip(np.where(known, scored, similarity), -1, 1)
