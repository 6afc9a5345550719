"""MagFace: the embedding's length becomes the photo's quality, because a longer one must pass a larger margin.

Meng, Zhao, Huang, Zhou, MagFace: A Universal Representation for Face Recognition and Quality Assessment, CVPR 2021,
https://arxiv.org/abs/2103.06627.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceembed.trainer.losses.base import ClassHead, LossSettings, full, length, unit, unit_columns

_EPSILON = 1e-6  # the slope of arccos is infinite at the ends


@dataclasses.dataclass(frozen=True)
class MagFaceSettings(LossSettings):
    """The constants of `MagFace`, by the paper's names; its values for a ResNet-50."""

    l_a: float = 10.0
    """Least length that counts."""
    u_a: float = 110.0
    """Largest length that counts."""
    l_m: float = 0.45
    """Margin in radians at the least length."""
    u_m: float = 0.8
    """Margin in radians at the largest."""
    lambda_g: float = 35.0
    """Weight of the regulariser g."""
    s: float = 64.0
    """Scale of the logits."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(self.l_a > 0, "l_a", "more than 0")
        self._need(self.u_a > self.l_a, "u_a", f"more than l_a, {self.l_a}")
        self._need(self.l_m >= 0, "l_m", "0 or more")
        self._need(self.l_m <= self.u_m < math.pi / 2, "u_m", f"l_m, {self.l_m}, to below pi / 2")
        self._need(self.lambda_g >= 0, "lambda_g", "0 or more")
        self._need(self.s > 0, "s", "more than 0")


class MagFace(ClassHead):
    """Softmax over s cos(theta), with logit_y = s cos(theta_y + m(a)) for the true class y, plus lambda_g g(a), where

        a    = the length of the embedding, clipped to [l_a, u_a]
        m(a) = l_m + (u_m - l_m) (a - l_a) / (u_a - l_a)
        g(a) = 1 / a + a / u_a^2                     falls up to a = u_a, so that only a hard photo stays short

    and the gradient flows through a. Outside [l_a, u_a] a length has no gradient, as in the official code: an encoder whose
    raw embeddings are shorter than 10 (dlib's are) needs another l_a and u_a. Beyond theta_y = pi - m(a) the logit is
    s (cos(theta_y) - m(a) sin(m(a))), as in `ArcFace`.
    """

    def __init__(self, dimension: int, classes: int, settings: MagFaceSettings | None = None) -> None:
        super().__init__(dimension, classes)
        self.settings = settings or MagFaceSettings()
        self.weight = nn.Parameter(unit_columns(torch.empty(dimension, classes)))

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy of the logits with margin, and the regulariser."""
        constants = self.settings
        size = length(embeddings).clamp(constants.l_a, constants.u_a)
        slope = (constants.u_m - constants.l_m) / (constants.u_a - constants.l_a)
        margin = constants.l_m + slope * (size - constants.l_a)
        cosines = (unit(embeddings) @ unit(full(self.weight).T).T).clamp(-1 + _EPSILON, 1 - _EPSILON)
        own = cosines[torch.arange(len(labels), device=labels.device), labels]
        theta = own.acos()
        turned = torch.where(theta <= math.pi - margin, (theta + margin).cos(), own - margin * margin.sin())
        logits = torch.where(functional.one_hot(labels, self.classes).bool(), turned[:, None], cosines)
        regulariser = 1 / size + size / constants.u_a**2
        return functional.cross_entropy(constants.s * logits, labels) + constants.lambda_g * regulariser.mean()
