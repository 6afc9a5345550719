"""Triplet: a photo of the same person must be more alike than one of another, by a margin.

Schroff, Kalenichenko, Philbin, FaceNet, CVPR 2015, https://arxiv.org/abs/1503.03832, with cosines for distances. The formula is
pytorch-metric-learning's ``TripletMarginLoss``; the triplets are chosen by `mining`.
"""

from __future__ import annotations

import dataclasses

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer
from torch import Tensor, nn

from faceembed.trainer.losses.base import LossSettings, check_labels, full, no_autocast, unit
from faceembed.trainer.losses.mining import TRIPLETS, mine_triplets


@dataclasses.dataclass(frozen=True)
class TripletSettings(LossSettings):
    """The constants of `Triplet`."""

    margin: float = 0.2
    """In cosine."""
    mining: str = "batch-hard"
    """``all``, ``violating``, ``hard``, ``semihard`` or ``batch-hard``: see `mine_triplets`."""
    only_violating: bool = True
    """Average over the triplets that violate the margin, not over all that were chosen."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(0 < self.margin <= 2, "margin", "more than 0, at most 2")
        self._need(self.mining in TRIPLETS, "mining", " or ".join(TRIPLETS))


class Triplet(nn.Module):
    """The mean over the chosen triplets of max(cos(anchor, negative) - cos(anchor, positive) + margin, 0).

    A batch in which no triplet can be chosen (one person only, or nobody twice) costs 0 and has a gradient of 0.
    """

    def __init__(self, settings: TripletSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or TripletSettings()
        reducer = AvgNonZeroReducer() if self.settings.only_violating else MeanReducer()
        self.inner = TripletMarginLoss(margin=self.settings.margin, distance=CosineSimilarity(), reducer=reducer)

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
            units = unit(full(embeddings))
            chosen = mine_triplets(units, labels, self.settings.mining, margin=self.settings.margin)
            result: Tensor = self.inner(units, labels, chosen)
            return result
