"""Circle: each similarity weighted by how far it still is from where it should be.

Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, https://arxiv.org/abs/2002.10857. The
formula is pytorch-metric-learning's ``CircleLoss`` (pairwise labels).
"""

from __future__ import annotations

import dataclasses

from pytorch_metric_learning.losses import CircleLoss
from torch import Tensor, nn

from faceembed.trainer.losses.base import LossSettings, check_labels, full, no_autocast, unit


@dataclasses.dataclass(frozen=True)
class CircleSettings(LossSettings):
    """The constants of `Circle`; the paper's values for faces."""

    m: float = 0.25
    """Relaxation: positives shall reach 1 - m, negatives m; the weights vanish at 1 + m and -m."""
    gamma: float = 256.0
    """Scale."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(0 < self.m < 1, "m", "more than 0, below 1")
        self._need(self.gamma > 0, "gamma", "more than 0")


class Circle(nn.Module):
    """For each photo softplus(logsumexp_n(gamma a_n (s_n - m)) + logsumexp_p(-gamma a_p (s_p - 1 + m))), with weights

        a_p = max(1 + m - s_p, 0),    a_n = max(s_n + m, 0)        (numbers: no gradient flows through them)

    of the cosines s_p with the photos of its person and s_n with the others; the mean over the photos with a loss above 0.
    A photo without a positive or without a negative costs nothing. A negative at -m or below is left where it is.
    """

    def __init__(self, settings: CircleSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or CircleSettings()
        self.inner = CircleLoss(m=self.settings.m, gamma=self.settings.gamma)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar in float32 (float64 for float64).

        Args:
            embeddings: (N, D) raw.
            labels: (N,) whole numbers; a deepfake has one of its own.

        Raises:
            DataError: labels that do not fit.
        """
        labels = check_labels(embeddings, labels)
        with no_autocast(embeddings):
            result: Tensor = self.inner(unit(full(embeddings)), labels)
            return result
