"""CosFace: a constant is subtracted from the true class's cosine.

Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, CVPR 2018, https://arxiv.org/abs/1801.09414. The
formula is pytorch-metric-learning's ``CosFaceLoss``.
"""

from __future__ import annotations

import dataclasses

from pytorch_metric_learning.losses import CosFaceLoss
from torch import Tensor

from faceembed.trainer.losses.base import ClassHead, LossSettings, unit, unit_columns


@dataclasses.dataclass(frozen=True)
class CosFaceSettings(LossSettings):
    """The constants of `CosFace`."""

    m: float = 0.35
    """Margin in cosine."""
    s: float = 64.0
    """Scale of the logits."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(0 <= self.m < 2, "m", "0 to below 2")
        self._need(self.s > 0, "s", "more than 0")


class CosFace(ClassHead):
    """Softmax over s cos(theta), with logit_y = s (cos(theta_y) - m) for the true class y."""

    def __init__(self, dimension: int, classes: int, settings: CosFaceSettings | None = None) -> None:
        super().__init__(dimension, classes)
        self.settings = settings or CosFaceSettings()
        self.inner = CosFaceLoss(
            num_classes=classes,
            embedding_size=dimension,
            margin=self.settings.m,
            scale=self.settings.s,
            weight_init_func=unit_columns,
        )

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy of the logits with margin."""
        result: Tensor = self.inner(unit(embeddings), labels)
        return result
