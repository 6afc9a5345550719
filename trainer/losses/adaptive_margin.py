"""Adaptive Margin: a loss of pairs whose positives must pass a margin that grows as they are less alike.

    m_d   = m_b + alpha (1 - cos)
    logit = s (cos - m_d y)                     y = 1: the same person and both photos real; else 0
    loss  = binary cross-entropy of sigmoid(logit) with y

What the formula does, as given:

- y = 1: logit = s ((1 + alpha) cos - alpha - m_b). The loss falls as cos rises, all the way to 1; half way (sigmoid 0.5) lies
  at cos = (m_b + alpha) / (1 + alpha). The gradient flows through cos in m_d too, which makes it (1 + alpha) times as steep;
  ``detach_margin`` takes m_d as a number.
- y = 0: the margin has no effect, logit = s cos, loss = log(1 + exp(s cos)). It falls as cos falls, without end: cos = 0
  costs log 2 a pair, with half the largest slope still pushing down, and the optimum of a lone pair is cos = -1, not 0.
  Vectors of many people cannot all be opposed (the mean cosine of n unit vectors is at least -1 / (n - 1)), so a crowd of
  strangers comes to rest near 0 by itself; but nothing holds a photo and its deepfake there. ``negatives`` does:

      given    as above
      floor    logit = s max(cos, target): a negative at or below the target costs nothing more and is left where it is
      target   logit = s |cos - target|: a negative is drawn to the target from both sides

  with ``negative_target`` 0 by default. Positives are the same in all three.

Measured on free vectors, without a network (``benchmarks/negatives.py``: 20 people of 8 photos, each with a deepfake, 128
dimensions, mean cosines at the end):

    settings                            one person   strangers   deepfakes
    given                                     0.65       -0.03       -0.49
    floor                                     0.63       -0.03       -0.36
    target                                    0.62        0.01        0.00
    target, m_b 0.5, alpha 1                  0.92        0.00        0.00

``floor`` stops the push but nothing brings a deepfake back that other pairs, or the optimiser's momentum, carried below: only
``target`` keeps the aim of 0. How near to 1 positives come depends on the constants, because a logit far above 0 pulls no more.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceembed.trainer.losses.base import LossSettings, check_same, cosine, full, no_autocast

NEGATIVES = ("given", "floor", "target")
FORMS = ("stable", "given")


@dataclasses.dataclass(frozen=True)
class AdaptiveMarginSettings(LossSettings):
    """The constants of `AdaptiveMargin`."""

    m_b: float = 0.2
    """Base margin, in cosine."""
    alpha: float = 0.1
    """How fast the margin grows as a pair is less alike."""
    s: float = 16.0
    """Scale of the logits."""
    detach_margin: bool = False
    """Take m_d as a number: no gradient flows through its cosine."""
    negatives: str = "given"
    """``given``, ``floor`` or ``target``: where a negative comes to rest."""
    negative_target: float = 0.0
    """The cosine that ``floor`` and ``target`` mean."""
    form: str = "stable"
    """``stable``: softplus(logit) - y logit, right for any logit; ``given``: log(sigmoid), see `AdaptiveMargin`."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(0 <= self.m_b < 1, "m_b", "0 to below 1")
        self._need(self.alpha >= 0, "alpha", "0 or more")
        self._need(self.s > 0, "s", "more than 0")
        self._need(self.negatives in NEGATIVES, "negatives", " or ".join(NEGATIVES))
        self._need(-1 <= self.negative_target < 1, "negative_target", "-1 to below 1")
        self._need(self.form in FORMS, "form", " or ".join(FORMS))


class AdaptiveMargin(nn.Module):
    """The mean over the pairs; the module's text has the formula and what it does.

    The form as given, -y log(sigmoid) - (1 - y) log(1 - sigmoid), cannot be computed for a large logit: in float32 the
    sigmoid of 17 is 1, whose loss as a negative is infinite and whose gradient is 0 (torch cuts the logarithm at -100). The
    stable form is the same function: log(1 + exp(logit)) - y logit.
    """

    def __init__(self, settings: AdaptiveMarginSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or AdaptiveMarginSettings()

    def forward(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """The loss of a batch of pairs, a scalar in float32 (float64 for float64).

        Args:
            a, b: (N, D) raw embeddings.
            same: (N,) 1 for two real photos of one person, else 0.

        Raises:
            DataError: shapes that do not fit, or a label that is neither 0 nor 1.
        """
        with no_autocast(a):
            a, b = full(a), full(b)
            same = check_same(a, b, same)
            return self.of_cosines(cosine(a, b), same)

    def of_cosines(self, cosines: Tensor, same: Tensor) -> Tensor:
        """The same for pairs whose cosines (N,) are known; ``same`` holds floats."""
        logits = self.logits(cosines, same)
        if self.settings.form == "given":
            return functional.binary_cross_entropy(torch.sigmoid(logits), same)
        return functional.binary_cross_entropy_with_logits(logits, same)

    def logits(self, cosines: Tensor, same: Tensor) -> Tensor:
        """``s (cos - m_d y)``, (N,), with the setting's treatment of negatives."""
        settings = self.settings
        distance = 1 - (cosines.detach() if settings.detach_margin else cosines)
        margin = settings.m_b + settings.alpha * distance
        if settings.negatives == "floor":
            cosines = torch.where(same > 0, cosines, cosines.clamp_min(settings.negative_target))
        elif settings.negatives == "target":
            cosines = torch.where(same > 0, cosines, (cosines - settings.negative_target).abs())
        return settings.s * (cosines - margin * same)
