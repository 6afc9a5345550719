"""What a similarity means: how many strangers are as alike, and how probable one person is.

    strangers_as_alike(spec, 0.95)        # FalseMatch(rate=8.9e-05, side="about")
    probability(spec, 0.95)               # 0.98, at even odds

The rate is read off the thresholds that were measured for an encoder (`thresholds`), in between linearly in the logarithm of the rate; beyond
them only a bound is known. The probability is logistic in the cosine (Platt 1999, "Probabilistic outputs for support vector machines"),
fitted on training people's photos with as much weight on pairs of one person as on strangers: whoever expects other odds multiplies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError

Side = Literal["about", "below", "above"]
_STEPS = 50
_PAIRS = 1_000_000  # of strangers, at most


@dataclasses.dataclass(frozen=True)
class FalseMatch:
    """The share of strangers who are as alike as two faces, or more."""

    rate: float
    side: Side
    """Whether it is about that, or below or above it: outside of the rates that were measured there is a bound alone."""

    @property
    def text(self) -> str:
        """``one in 12,000 strangers is as alike``."""
        number = 1 / self.rate
        scale = 10 ** max(int(math.log10(number)) - 1, 0)
        rounded = f"{round(number / scale) * scale:,}"
        if self.side == "about":
            return f"one in {rounded} strangers is as alike"
        return f"{'fewer' if self.side == 'below' else 'more'} than one in {rounded} strangers is as alike"


def strangers_as_alike(spec: ModelSpec, similarity: float) -> FalseMatch | None:
    """The false match rate at a similarity; None where no rates were measured for the encoder."""
    levels = sorted(spec.thresholds, key=lambda level: level.threshold)
    if not levels:
        return None
    if similarity < levels[0].threshold:
        return FalseMatch(levels[0].fmr, "above")
    if similarity > levels[-1].threshold:
        return FalseMatch(levels[-1].fmr, "below")
    at = [level.threshold for level in levels]
    rate = float(10 ** np.interp(similarity, at, [math.log10(level.fmr) for level in levels]))
    return FalseMatch(rate, "about")


def probability(spec: ModelSpec, similarity: float) -> float | None:
    """That two faces show one person, at even odds; None where it was not fitted for the encoder."""
    if spec.odds is None:
        return None
    slope, intercept = spec.odds
    return float(1 / (1 + math.exp(-max(min(slope * similarity + intercept, 500.0), -500.0))))


def fit_odds(embeddings: NDArray[np.float32], people: Sequence[str], *, seed: int = 0) -> tuple[float, float]:
    """Slope and intercept of the log odds, for `ModelSpec.odds`.

    Args:
        embeddings: float32 (N, D), unit length, of training people.
        people: whose each is; somebody must have two photos, and there must be two people.
        seed: of the strangers that are drawn where there are more than a million pairs.

    Raises:
        DataError: no pair of one person, or none of two.
    """
    who = np.unique(np.asarray(people), return_inverse=True)[1]
    a, b = np.triu_indices(len(who), 1)
    same = who[a] == who[b]
    strangers = np.flatnonzero(~same)
    if not same.any() or not len(strangers):
        raise DataError(
            "a probability is fitted on pairs of one person and pairs of two; give two people, and two photos of one"
        )
    if len(strangers) > _PAIRS:
        strangers = np.random.default_rng(seed).choice(strangers, _PAIRS, replace=False)
    chosen = np.concatenate([np.flatnonzero(same), strangers])
    scores = np.einsum("nd,nd->n", embeddings[a[chosen]], embeddings[b[chosen]]).astype(np.float64)
    return fit_logistic(scores, same[chosen])


def fit_logistic(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept, both classes of equal weight, by Newton's method; (n,) scores and whether each is of one person.

    Classes that do not overlap at all have no finite slope: a small penalty on it (1e-4 of the standardised slope squared) keeps it one.
    """
    centre, scale = float(scores.mean()), float(scores.std()) or 1.0
    design = np.stack([(scores - centre) / scale, np.ones(len(scores))], axis=1)
    weights = np.where(truth, 0.5 / max(truth.sum(), 1), 0.5 / max((~truth).sum(), 1))
    penalty = np.diag([1e-4, 0.0])
    beta = np.zeros(2)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        gradient = design.T @ (weights * (truth - p)) - penalty @ beta
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + penalty + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-10:
            break
    slope = float(beta[0]) / scale
    return slope, float(beta[1]) - slope * centre
