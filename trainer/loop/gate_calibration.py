"""How decided a gated encoder is: its gate's slope and offset, chosen on validation pairs.

    chosen = calibrate(validation, embeddings, identity_cost=0.002)
    body = calibrated(body, chosen)                       # p' = sigmoid(slope * logit + offset)

The cross-entropy of authenticity teaches honest probabilities: a face that is fake with 80 % gets p = 0.2. For the cosine that is
too timid: p = 0.2 beside a photo's 0.8 still leaves 0.8 of the identity's similarity. What a doubt is to cost is no matter of
texture but of the two kinds of error, so it is chosen where those are measured: of all slopes and offsets that keep strangers and
photos of one person as far apart as the identity network does, within a tolerance, the one of the lowest EER over all pairs.

Photos of another kind (other cameras, another compression) may look less real than those of the pairs. Where there are some, by
themselves, the same tolerance holds for them: given two of them that the identity network finds as similar as it finds two
photos of one person, the gate may not push more pairs below the identity's own threshold. A few hundred photos do not show a share
of one in a thousand, so those that look least real are taken for the beginning of an exponential tail.

A steep gate near a photo's logit makes another face of a rounding error. So of all these photos none may lie where a logit that is wrong by
what BF16 does to it (`ROUNDING`, where it was not measured) moves the embedding by more than a runtime's parity gate allows.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from faceembed.engine.evaluate import metrics
from faceembed.trainer.backbones.gated import LARGEST_LOGIT, GatedEncoder
from faceembed.trainer.loop.validate import ValidationSet

_SLOPES = (0.25, 0.375, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_STEPS = 128
"""Places where p = 1/2 may lie, evenly from three standard deviations below the photos' logits to their median."""
ROUNDING = 0.2
"""Error of a logit in BF16, in standard deviations of the photos' logits: 0.28 of 1.5 in `faceembed-r29`'s network, trained 16 epochs further.
In a gate of 16, 48 and 96 channels, trained in BF16, it is 0.05 to 0.07 of 1.5."""
_UNMOVED = 0.9995
"""Least cosine of a photo's embeddings with and without such an error; the parity gate wanted 0.999 in all when this was chosen."""
_COUPLES = 8192
_TAIL = 0.1


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What becomes of a logit l: ``slope * l + offset``."""

    slope: float = 1.0
    offset: float = 0.0


def calibrate(
    validation: ValidationSet, embeddings: NDArray[np.float32], *, identity_cost: float, rounding: float = ROUNDING
) -> Calibration:
    """Choose the slope and the offset.

    Args:
        validation: pairs with and without fakes.
        embeddings: of its crops, (n, 2 D) float32, as the gated encoder gives them uncalibrated.
        identity_cost: by how much ``eer_other`` may exceed that of the identity alone, and, among `ValidationSet.alone`, FNMR at the
            identity's threshold may rise.
        rounding: how wrong a logit is in the precision that the encoder will run in, in standard deviations of the photos' logits.

    Returns:
        The best of those allowed; the embeddings as they are where the pairs hold no fakes, or nothing is better.
    """
    identity, logits = split(embeddings)
    same = validation.pairs.label
    fake, other = validation.pairs.kind == "fake", validation.pairs.kind == "other"
    if not fake.any():
        return Calibration()
    a, b = (np.searchsorted(validation.crops, side) for side in (validation.pairs.a, validation.pairs.b))
    cosines = validation.similarities(identity)

    def eer_other(scores: NDArray[np.float64]) -> float:
        return metrics.eer(scores[same | other], same[same | other])[0] if other.any() else 0.0

    lost_alone = _lost_alone(validation, cosines, logits)

    def errors(slope: float, offset: float) -> tuple[float, float, float]:
        p = _sigmoid(slope * logits + offset)
        scores = cosines * _kept(p[a], p[b])
        return metrics.eer(scores, same)[0], eer_other(scores), lost_alone(slope, offset)

    photos = logits[np.unique(np.r_[a, b[~fake]])]
    every = np.r_[photos, logits[np.searchsorted(validation.crops, validation.alone)]]
    middles = np.linspace(photos.min() - 3 * photos.std(), np.median(photos), _STEPS)
    error = rounding * float(photos.std())
    steady = [
        (s, -s * m) for s in _SLOPES for m in middles.tolist() if _least_kept(every, s, -s * m, error) >= _UNMOVED
    ]
    measured = [(*errors(*candidate), candidate) for candidate in [(1.0, 0.0), *steady]]
    most = eer_other(cosines) + identity_cost
    allowed = [row for row in measured if row[1] <= most and row[2] <= identity_cost] or measured[:1]
    return Calibration(*min(allowed, key=lambda row: row[0])[3])


def _least_kept(logits: NDArray[np.float64], slope: float, offset: float, error: float) -> float:
    """The least cosine of an embedding with the same one whose logit is wrong by ``error``."""
    exact = _sigmoid(slope * logits + offset)
    return float(min(_kept(exact, _sigmoid(slope * (logits + e) + offset)).min() for e in (-error, error)))


def _lost_alone(
    validation: ValidationSet, cosines: NDArray[np.float64], logits: NDArray[np.float64]
) -> Callable[[float, float], float]:
    """What a gate costs photos by themselves: from its slope and offset to the share of couples that it pushes apart."""
    same = validation.pairs.label
    judged = same | (validation.pairs.kind == "other")
    if len(validation.alone) < 2 or not (judged & ~same).any():
        return lambda slope, offset: 0.0
    threshold = metrics.eer(cosines[judged], same[judged])[1]
    rng = np.random.default_rng(0)
    photos = _with_tail(logits[np.searchsorted(validation.crops, validation.alone)], _COUPLES)
    one, two = photos, rng.permutation(photos)
    alike = rng.choice(cosines[same & (cosines >= threshold)], _COUPLES)

    def lost(slope: float, offset: float) -> float:
        p, q = _sigmoid(slope * one + offset), _sigmoid(slope * two + offset)
        return float(np.mean(alike * _kept(p, q) < threshold))

    return lost


def _with_tail(logits: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Evenly spaced quantiles of what the logits were drawn from, the lowest tenth as an exponential tail (peaks over threshold).

    Args:
        logits: (n,).
        count: of quantiles.

    Returns:
        (count,) rising.
    """
    shares = (np.arange(count) + 0.5) / count
    border = np.quantile(logits, _TAIL)
    beyond = border - logits[logits < border]
    scale = beyond.mean() if len(beyond) else 0.0
    tail = border + scale * np.log(np.minimum(shares / _TAIL, 1))
    return np.where(shares < _TAIL, tail, np.quantile(logits, shares))


def _kept(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of the identity's cosine by the gate."""
    return np.asarray(np.sqrt(p * q) + np.sqrt((1 - p) * (1 - q)))


def split(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A gated embedding's parts: the identity's raw embedding (n, D) float32 and the logit of authenticity (n,) float64."""
    halves = embeddings.astype(np.float64).reshape(len(embeddings), 2, -1)
    powers = np.maximum((halves**2).sum(2), 1e-300)
    logits = np.clip(np.log(powers[:, 0]) - np.log(powers[:, 1]), -LARGEST_LOGIT, LARGEST_LOGIT)
    p = _sigmoid(logits)[:, None]
    identity = np.where(p >= 0.5, halves[:, 0] / np.sqrt(p), halves[:, 1] / np.sqrt(1 - p))
    return identity.astype(np.float32), logits


def joined(embeddings: NDArray[np.float32], chosen: Calibration) -> NDArray[np.float32]:
    """Embeddings (n, 2 D) as the calibrated encoder gives them."""
    identity, logits = split(embeddings)
    p = _sigmoid(chosen.slope * logits + chosen.offset)[:, None]
    return np.hstack([np.sqrt(p) * identity, np.sqrt(1 - p) * identity]).astype(np.float32)


def calibrated(body: GatedEncoder, chosen: Calibration) -> GatedEncoder:
    """A copy of the encoder with slope and offset in the weights of its last layer."""
    body = copy.deepcopy(body)
    with torch.no_grad():
        body.texture.logit.weight *= chosen.slope
        body.texture.logit.bias.mul_(chosen.slope).add_(chosen.offset)
    return body


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))), np.float64)
