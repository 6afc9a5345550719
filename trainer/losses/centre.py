"""Centre: the photos of a person drawn together.

Wen, Zhang, Li, Qiao, A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016. It is a companion: alone
it is content with all faces in one point. pytorch-metric-learning has no such loss.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from faceembed.trainer.losses.base import LossSettings, check_labels, full, no_autocast, unit


@dataclasses.dataclass(frozen=True)
class CentreSettings(LossSettings):
    """The constants of `Centre`."""

    detach_centres: bool = False
    """Take the centres as numbers, as the paper does: no gradient flows through them."""


class Centre(nn.Module):
    """L = 1/2 mean_i |u_i - c_(y_i)|^2, with u the embeddings at unit length and c the mean of each label's in the batch.

    The paper keeps a centre a person through training and moves it towards the mean of the batch; here it is that mean, so
    that nothing need be known of people who are not in the batch, and a deepfake, with a label of its own, is drawn nowhere.
    Only labels with two photos or more count; a batch without any costs 0. Give batches several photos a person.
    """

    def __init__(self, settings: CentreSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or CentreSettings()

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
            people, own, photos = torch.unique(labels, return_inverse=True, return_counts=True)
            sums = units.new_zeros(len(people), units.shape[1]).index_add(0, own, units)
            centres = sums / photos[:, None]
            if self.settings.detach_centres:
                centres = centres.detach()
            several = (photos > 1)[own].to(units)
            squares = (units - centres[own]).square().sum(-1)
            result: Tensor = (several * squares).sum() / (2 * several.sum().clamp_min(1))
            return result
