"""Contrastive: positives pulled to a cosine, negatives pushed below one.

Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, with cosines for distances. The
terms are those of pytorch-metric-learning's ``ContrastiveLoss``, which itself cannot serve for lists of pairs: it computes all
N x N similarities, and gives 0 for a batch with one pair of each kind.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from faceembed.trainer.losses.base import LossSettings, check_same, cosine, full, no_autocast


@dataclasses.dataclass(frozen=True)
class ContrastiveSettings(LossSettings):
    """The constants of `Contrastive`."""

    positive: float = 1.0
    """Cosine up to which a positive is pulled."""
    negative: float = 0.0
    """Cosine down to which a negative is pushed; one below is left where it is."""
    squared: bool = False
    """Square each term, as in the paper: far pairs pull more than near ones."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(-1 <= self.negative < 1, "negative", "-1 to below 1")
        self._need(self.negative < self.positive <= 1, "positive", f"more than negative, {self.negative}, at most 1")


class Contrastive(nn.Module):
    """The mean over the pairs of max(positive - cos, 0) for positives and max(cos - negative, 0) for negatives."""

    def __init__(self, settings: ContrastiveSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or ContrastiveSettings()

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
            positive = check_same(a, b, same) > 0
            cosines = cosine(a, b)
            terms = torch.where(positive, self.settings.positive - cosines, cosines - self.settings.negative).relu()
            return (terms.square() if self.settings.squared else terms).mean()
