"""Strangers near cosine 0 without a loss in order: an embedding in which one direction that all share is folded away.

    body = laid_apart(body, embeddings)            # strangers 0.64 -> 0.14, photos of one person 0.88 -> 0.72

A network that was trained by distances puts all faces into one narrow cone. Taking the common part m away spreads them, but then a cosine
orders by angle where it nearly ordered by distance (`loop/centre.py`): FNMR at FMR 0.1 % of `resnet29-branch-128` goes from 12.3 to 15.0 %.

Here a unit embedding u keeps its length. With a = w.u along a unit vector w in which faces differ little, and r what is left of u,

    z = [r, sqrt(a^2 - s^2)] / sqrt(1 - s^2)

has length 1 for every a >= s, and of two faces, with a = s cosh(x) and b = s cosh(y),

    z1.z2 = (u1.u2 - s^2 cosh(x - y)) / (1 - s^2),

because cosh(x) cosh(y) - sinh(x) sinh(y) = cosh(x - y): the old cosine on another scale, less a second-order term for faces that lie
differently along w. So order is kept but for that term, which is 0 for equal a. The larger s, the farther strangers lie apart, and the more
faces have a < s, whose last number is 0. w is (C + k 1)^-1 m of mean m and covariance C: along it faces differ least for their mean.
Validation, FNMR at FMR 1, 0.1 and 0.01 % and the mean cosine of strangers: as it is 5.42, 12.25, 25.01 % and 0.64; s at the 1st percentile of
a 5.51, 12.67, 24.55 % and 0.20; at the 5th 5.64, 12.80, 25.10 % and 0.14; at the 20th 6.15, 13.49, 26.11 % and 0.08. A network of 512
units, taught the same cosines, reaches 6.24, 13.26, 27.08 % and 0.04.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.errors import UsageError

_RIDGE = 0.01
_CLAMPED = 0.05
_LEAST = 2  # embeddings for each of their numbers


class LaidApart(nn.Module):
    """A network and the fold behind it; embeddings keep their dimension and, but for a < s, their length.

    Args:
        body: to raw embeddings (N, D).
        dimension: D.
    """

    direction: Tensor
    rest: Tensor
    common: Tensor

    def __init__(self, body: nn.Module, dimension: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("direction", F.one_hot(torch.tensor(dimension - 1), dimension).float())  # w
        self.register_buffer("rest", torch.eye(dimension)[:-1])  # (D - 1, D): orthonormal, and to w
        self.register_buffer("common", torch.zeros(()))  # s^2

    def forward(self, x: Tensor) -> Tensor:
        """What the body takes to (N, D)."""
        return self.fold(self.body(x))

    def fold(self, embeddings: Tensor) -> Tensor:
        """Raw embeddings (N, D) to raw embeddings (N, D)."""
        along = embeddings @ self.direction[:, None]
        beyond = along.square() - self.common * embeddings.square().sum(1, keepdim=True)
        folded = torch.cat([embeddings @ self.rest.T, F.relu(beyond).sqrt()], 1)
        return folded * torch.rsqrt(1 - self.common)


@torch.no_grad()
def laid_apart(body: nn.Module, embeddings: Tensor, *, clamped: float = _CLAMPED) -> LaidApart:
    """Put a fold behind a network.

    Args:
        body: the network.
        embeddings: float32 (N, D) of training photos, as it gives them, N >= 2 D.
        clamped: the share of them that may have a < s.

    Raises:
        UsageError: too few photos, or faces that share no direction.
    """
    count, dimension = embeddings.shape
    if count < _LEAST * dimension:
        raise UsageError(
            f"{count} embeddings of {dimension} numbers are too few to say what all share; give {_LEAST * dimension}"
        )
    units = F.normalize(embeddings.double())
    mean = units.mean(0)
    centred = units - mean
    spread = centred.T @ centred / count + _RIDGE * torch.eye(dimension, dtype=torch.float64)
    direction = F.normalize(torch.linalg.solve(spread, mean), dim=0)
    least = torch.quantile(units @ direction, clamped)
    if least <= 0:
        raise UsageError("strangers share no direction: their cosines are near 0 already")
    result = LaidApart(body, dimension)
    result.direction.copy_(direction)
    # The first of a full orthonormal basis is the direction; the others span the rest.
    basis = torch.linalg.qr(torch.cat([direction[:, None], torch.eye(dimension, dtype=torch.float64)], 1)).Q
    result.rest.copy_(basis[:, 1:dimension].T)
    result.common.copy_(least**2)
    return result.eval()
