"""How real a face looks: the cross-entropy of a gated encoder's logit, photos and deepfakes each counting half.

    loss = 1/2 mean_real(-log p') + 1/2 mean_fake(-log(1 - p')),   with targets 1 - smoothing and smoothing for 1 and 0

Balanced, because pair lists hold several photos a deepfake, and a prior learned from them would not be that of any archive.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def authenticity_loss(logits: Tensor, fake: Tensor, *, smoothing: float | Tensor = 0.0) -> Tensor:
    """The loss of a batch.

    Args:
        logits: (N,) of p, the probability that the face is that of a photo.
        fake: bool (N,).
        smoothing: in [0, 0.5): how far the targets stay from 0 and 1; or (N,), of each.

    Returns:
        A scalar, in fp32; of the one kind alone where a batch holds no other.
    """
    target = (~fake).float() * (1 - 2 * smoothing) + smoothing
    each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    halves = [each[kind].mean() for kind in (fake, ~fake) if bool(kind.any())]
    return sum(halves[1:], halves[0]) / len(halves)
