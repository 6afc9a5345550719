"""ArcFace: an angle is added to the true class's angle.

Deng, Guo, Xue, Zafeiriou, ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019,
https://arxiv.org/abs/1801.07698. The formula is pytorch-metric-learning's ``ArcFaceLoss``.
"""

from __future__ import annotations

import dataclasses
import math

from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor

from faceembed.trainer.losses.base import ClassHead, LossSettings, unit, unit_columns

_EPSILON = 1e-6  # the slope of arccos is infinite at the ends; ArcFaceLoss goes up to them


@dataclasses.dataclass(frozen=True)
class ArcFaceSettings(LossSettings):
    """The constants of `ArcFace`."""

    m: float = 0.5
    """Margin in radians."""
    s: float = 64.0
    """Scale of the logits."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        self._need(0 <= self.m < math.pi / 2, "m", "0 to below pi / 2")
        self._need(self.s > 0, "s", "more than 0")


class _ArcFaceLoss(ArcFaceLoss):  # type: ignore[misc]
    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        """Angles of cosines kept off the ends: (N,) to (N,)."""
        return cosine_of_target_classes.clamp(-1 + _EPSILON, 1 - _EPSILON).acos()


class ArcFace(ClassHead):
    """Softmax over s cos(theta), with logit_y = s cos(theta_y + m) for the true class y.

    Beyond theta_y = pi - m, where cos(theta_y + m) would rise again, it is s (cos(theta_y) - m sin(m)). The cosine is clipped
    to within 1e-6 of the ends: at a photo that lies on its class to 0.08 degrees the gradient is 0, not infinite.
    """

    def __init__(self, dimension: int, classes: int, settings: ArcFaceSettings | None = None) -> None:
        super().__init__(dimension, classes)
        self.settings = settings or ArcFaceSettings()
        self.inner = _ArcFaceLoss(
            num_classes=classes,
            embedding_size=dimension,
            margin=math.degrees(self.settings.m),
            scale=self.settings.s,
            weight_init_func=unit_columns,
        )

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy of the logits with margin."""
        result: Tensor = self.inner(unit(embeddings), labels)
        return result
