"""What the aligner minimises: score, box and landmarks.

Scores learn the overlap of the box they come with (quality focal loss, https://arxiv.org/abs/2006.04388, equation 2), so that
of several answers for one face the best ranks first; boxes learn by distance IoU (https://arxiv.org/abs/1911.08287), landmarks
by a smooth L1 in units of the face's side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LIMIT = 6.0  # of the logarithm of a distance in strides: 400 strides


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Weights of the parts."""

    score: float = 1.0
    box: float = 2.0
    landmarks: float = 10.0
    beta: float = 0.01
    """Landmark error, in units of the face's side, up to which the loss is quadratic."""
    gamma: float = 2.0
    """Focus of the score's loss on what is wrong."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """The loss and what it is made of."""

    total: Tensor
    score: Tensor
    box: Tensor
    landmarks: Tensor
    """Mean distance of landmarks in units of the face's side, unweighted."""


def flatten(outputs: Sequence[Tensor]) -> Tensor:
    """The network's maps as (N, P, 15), in the order of `targets.points`."""
    return torch.cat([level.flatten(2) for level in outputs], dim=2).transpose(1, 2)


def aligner_loss(
    answers: Tensor, state: Tensor, values: Tensor, places: Tensor, strides: Tensor, settings: LossSettings
) -> Parts:
    """The loss of a batch.

    Args:
        answers: (N, P, 15) from `flatten`.
        state: (N, P) as in `targets.Targets`.
        values: (N, P, 19) as there.
        places: (P, 2).
        strides: (P,).
        settings: weights.
    """
    image, place = torch.nonzero(state == 1, as_tuple=True)
    mine, wanted = answers[image, place].float(), values[image, place]
    point, stride = places[place], strides[place, None]
    reach = torch.exp(mine[:, 1:5].clamp(max=LIMIT)) * stride
    box = torch.cat([point - reach[:, :2], point + reach[:, 2:]], dim=1)
    overlap, distance = _distance_iou(box, wanted[:, :4])
    quality = overlap.detach().clamp(0, 1)
    count = quality.sum().clamp(min=1.0)

    target = torch.zeros_like(answers[..., 0])
    target[image, place] = quality
    logits = answers[..., 0].float()
    focus = (target - logits.sigmoid()).abs().pow(settings.gamma)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus
    score = each[state >= 0].sum() / count

    side = (wanted[:, 2:4] - wanted[:, :2]).clamp(min=1.0).prod(dim=1).sqrt()
    marks = point[:, None] + mine[:, 5:].reshape(-1, 5, 2) * stride[:, None]
    error = (marks - wanted[:, 4:14].reshape(-1, 5, 2)) / side[:, None, None]
    smooth = F.smooth_l1_loss(error, torch.zeros_like(error), beta=settings.beta, reduction="none").mean(dim=2)
    landmarks = ((smooth * wanted[:, 14:]).mean(dim=1) * quality).sum() / count
    boxes = (distance * quality).sum() / count
    total = settings.score * score + settings.box * boxes + settings.landmarks * landmarks
    apart = error.detach().norm(dim=2).mean(dim=1)
    return Parts(total, score.detach(), boxes.detach(), (apart * quality).sum() / count)


def _distance_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes row by row, and one minus it plus the centres' distance over the hull's diagonal."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1)
    overlap = shared / (areas - shared).clamp(min=1e-6)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    return overlap, 1 - overlap + apart.square().sum(dim=1) / hull.square().sum(dim=1).clamp(min=1e-6)
