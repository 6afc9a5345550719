"""AdaFace: the margin follows the photo's quality, of which the length of the raw embedding is the measure.

Kim, Jain, Liu, AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022, https://arxiv.org/abs/2204.00964.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceembed.trainer.losses.base import ClassHead, LossSettings, full, length, unit, unit_columns

_EPSILON = 1e-3  # of the official code: cosines and angles stay this far from the ends of their ranges
_SHORTEST, _LONGEST = 1e-3, 100.0  # norms beyond are taken as these, so that one outlier does not move the statistics


@dataclasses.dataclass(frozen=True)
class AdaFaceSettings(LossSettings):
    """The constants of `AdaFace`, by the paper's names."""

    m: float = 0.4
    """Margin: the largest turn of the angle, and half of the largest that is subtracted from the cosine."""
    h: float = 0.333
    """How many standard deviations from the mean z^ reaches 1: 1 / h."""
    s: float = 64.0
    """Scale of the logits."""
    t_alpha: float = 0.01
    """Weight of a new batch in the moving mean and deviation of the norms."""

    def check(self) -> None:
        """Refuse what cannot be computed."""
        self._need(0 <= self.m < math.pi / 2, "m", "0 to below pi / 2")
        self._need(self.h > 0, "h", "more than 0")
        self._need(self.s > 0, "s", "more than 0")
        self._need(0 < self.t_alpha <= 1, "t_alpha", "more than 0, at most 1")


class AdaFace(ClassHead):
    """Softmax over s cos(theta), where for the true class y

        logit_y = s (cos(theta_y + g_angle) - g_add),    g_angle = -m z^,    g_add = m z^ + m,
        z^ = clip((z - mu) / (sigma / h), -1, 1),        z = the norm of the embedding, clipped to [0.001, 100]

    mu and sigma are moving averages (weight ``t_alpha``) of the batches' mean and standard deviation of z, kept as buffers
    ``batch_mean`` (20 at first) and ``batch_std`` (100): they move in training mode only, and before they are used. No
    gradient flows through z. As in the official code the cosine is clipped to [-1 + 0.001, 1 - 0.001] and the turned angle
    to [0.001, pi - 0.001], so a photo within 2.6 degrees of its class has no gradient any more, and 0.001 is added to sigma.

    A batch of one has no standard deviation: it moves the mean and leaves sigma. On several processes each keeps the
    statistics of its own batches.
    """

    batch_mean: Tensor
    batch_std: Tensor

    def __init__(self, dimension: int, classes: int, settings: AdaFaceSettings | None = None) -> None:
        super().__init__(dimension, classes)
        self.settings = settings or AdaFaceSettings()
        self.weight = nn.Parameter(unit_columns(torch.empty(dimension, classes)))
        self.register_buffer("batch_mean", torch.tensor(20.0))
        self.register_buffer("batch_std", torch.tensor(100.0))

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy of the logits with margin."""
        cosines = (unit(embeddings) @ unit(full(self.weight).T).T).clamp(-1 + _EPSILON, 1 - _EPSILON)
        quality = self.quality(embeddings.detach())
        m, s = self.settings.m, self.settings.s
        row = torch.arange(len(labels), device=labels.device)
        theta = cosines[row, labels].acos()
        turned = (theta - m * quality).clamp(_EPSILON, math.pi - _EPSILON)
        true = turned.cos() - (m * quality + m)
        logits = torch.where(functional.one_hot(labels, self.classes).bool(), true[:, None], cosines)
        return functional.cross_entropy(s * logits, labels)

    @torch.no_grad()
    def quality(self, embeddings: Tensor) -> Tensor:
        """z^ of each photo, (N,) in [-1, 1]; in training mode the statistics take the batch in first."""
        norms = length(embeddings).clamp(_SHORTEST, _LONGEST)
        if self.training:
            weight = self.settings.t_alpha
            self.batch_mean.lerp_(norms.mean().to(self.batch_mean), weight)
            if len(norms) > 1:
                self.batch_std.lerp_(norms.std().to(self.batch_std), weight)
        deviation = (self.batch_std + _EPSILON) / self.settings.h
        return ((norms - self.batch_mean) / deviation).clamp(-1, 1)
