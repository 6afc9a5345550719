"""Distillation: hold a student's embeddings to a teacher's, one by one, in their relations, or both.

Relations are compared within the batch, so student and teacher may have embeddings of different dimensions. Distances and
angles are those of Park, Kim, Lu, Cho, Relational Knowledge Distillation, CVPR 2019, https://arxiv.org/abs/1904.05068.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceembed.errors import DataError, UsageError
from faceembed.trainer.losses.base import LossSettings, check_embeddings, full, no_autocast, unit

_EPSILON = 1e-12  # of a squared distance: the slope of a square root is infinite at 0


@dataclasses.dataclass(frozen=True)
class DistillationSettings(LossSettings):
    """The weights of the parts of `Distillation`; a part of weight 0 is not computed."""

    embedding: float = 1.0
    """Mean of 1 - cos(student, teacher). Needs equal dimensions."""
    similarity: float = 1.0
    """Mean squared difference of the two matrices of cosines, without their diagonals."""
    distance: float = 0.0
    """RKD-D: smooth L1 between distances, each matrix divided by its mean."""
    angle: float = 0.0
    """RKD-A: smooth L1 between the cosines of the angles of all triplets; memory grows with the cube of the batch."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        for name in _PARTS:
            self._need(getattr(self, name) >= 0, name, "0 or more")
        if not any(getattr(self, name) for name in _PARTS):
            raise UsageError(f"{self.label}: all of {', '.join(_PARTS)} are 0; one must count")


_PARTS = ("embedding", "similarity", "distance", "angle")


class Distillation(nn.Module):
    """The weighted sum of the parts that `DistillationSettings` describes. No gradient flows to the teacher.

    Every part looks at directions only. A relation needs two photos (an angle three): in a smaller batch it is 0.
    """

    def __init__(self, settings: DistillationSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or DistillationSettings()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of a batch, a scalar in float32 (float64 for float64).

        Args:
            student: (N, D) raw embeddings.
            teacher: (N, D') raw embeddings of the same photos; D' may differ where ``embedding`` is 0.

        Raises:
            DataError: another number of rows.
            UsageError: the embeddings themselves are to be compared and their dimensions differ.
        """
        check_embeddings(student)
        check_embeddings(teacher, what="the teacher's embeddings")
        if len(student) != len(teacher):
            raise DataError(
                f"{len(student)} embeddings of the student and {len(teacher)} of the teacher; expected equal"
            )
        if self.settings.embedding and student.shape[1] != teacher.shape[1]:
            raise UsageError(
                f"distillation: the student has {student.shape[1]} dimensions, the teacher {teacher.shape[1]}; "
                "set embedding = 0 and compare relations only"
            )
        with no_autocast(student):
            return self._weighted(unit(full(student)), unit(full(teacher.detach())).to(student.device))

    def _weighted(self, student: Tensor, teacher: Tensor) -> Tensor:
        total = (student * 0).sum()
        for name, part in (
            ("embedding", _embedding),
            ("similarity", _similarity),
            ("distance", _distance),
            ("angle", _angle),
        ):
            if weight := getattr(self.settings, name):
                total = total + weight * part(student, teacher)
        return total


def _embedding(student: Tensor, teacher: Tensor) -> Tensor:
    return (1 - (student * teacher.to(student)).sum(-1)).mean()


def _similarity(student: Tensor, teacher: Tensor) -> Tensor:
    difference = student @ student.T - (teacher @ teacher.T).to(student)
    return difference[_off_diagonal(difference)].square().sum() / max(len(student) * (len(student) - 1), 1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    apart = _off_diagonal(student @ student.T)
    if not apart.any():
        return student.sum() * 0
    ours, theirs = _distances(student)[apart], _distances(teacher)[apart].to(student)
    return functional.smooth_l1_loss(ours / ours.mean(), theirs / theirs.mean())


def _angle(student: Tensor, teacher: Tensor) -> Tensor:
    if len(student) < 3:
        return student.sum() * 0
    i, j, k = torch.meshgrid(*[torch.arange(len(student), device=student.device)] * 3, indexing="ij")
    apart = (i != j) & (j != k) & (i != k)
    return functional.smooth_l1_loss(_angles(student)[apart], _angles(teacher)[apart].to(student))


def _angles(units: Tensor) -> Tensor:
    """(N, N, N): entry (i, j, k) is the cosine of the angle at i between j and k."""
    towards = unit(units[None] - units[:, None])
    return towards @ towards.transpose(1, 2)


def _distances(units: Tensor) -> Tensor:
    return (units[None] - units[:, None]).square().sum(-1).clamp_min(_EPSILON).sqrt()


def _off_diagonal(square: Tensor) -> Tensor:
    return ~torch.eye(len(square), dtype=torch.bool, device=square.device)
