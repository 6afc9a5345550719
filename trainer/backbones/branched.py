"""`resnet29-branch`: dlib's network, and beside its last blocks a branch that learns what another encoder knows.

    embedding = |d| [a d / |d| + b, w]

d (N, 128) is dlib's own embedding, computed as ever, and w (N, 128) the branch's: blocks of its own behind dlib's first seven, which
both share, and an embedding layer. a and b (128) lay strangers apart as far as the teachers say (`batches/targets.py`). So nothing that
dlib's network knows is lost, whatever the branch learns, for a third more work.

w is not brought to unit length: a branch that learned by least squares makes short vectors where it is unsure, and then counts less beside
d. With unit parts 15.9 and 34.9 % of pairs were missed at FMR 0.1 and 0.01 %, so 15.1 and 28.6 % (validation; `docs/next-encoder.md`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceembed.errors import UsageError
from faceembed.trainer.backbones.resnet29 import SPEC as OWN_SPEC
from faceembed.trainer.backbones.resnet29 import Block, ResNet29

SPEC = dataclasses.replace(OWN_SPEC, name="resnet29-branch", dimension=2 * OWN_SPEC.dimension)
REDUCED_SPEC = dataclasses.replace(OWN_SPEC, name="resnet29-branch-128", dimension=OWN_SPEC.dimension)
SHARED = 7
"""Blocks of 32 and 64 channels."""
_FOREIGN = 0.1  # chips of another aligner, or of another encoder's precision, leave less
_RIDGE = 1e-4  # of the mean square of an input


class BranchedResNet29(nn.Module):
    """Chips (N, 3, 150, 150) to embeddings (N, 128 + D), not normalised. dlib's part computes as in eval mode, and learns nothing.

    Args:
        dimension: of the whole embedding: more than 128.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, dimension: int = SPEC.dimension) -> None:
        super().__init__()
        if dimension <= OWN_SPEC.dimension:
            raise UsageError(
                f"dimension is {dimension}; that of resnet29-branch is {OWN_SPEC.dimension} and its branch's"
            )
        self.own = ResNet29()
        self.blocks = nn.Sequential(
            *(Block(*_channels(block), halve=block.halve) for block in _blocks(self.own)[SHARED:])
        )
        self.fc = nn.Linear(self.own.fc.in_features, dimension - OWN_SPEC.dimension)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(OWN_SPEC.dimension))
        self.freeze_own()

    def freeze_own(self) -> None:
        """Leave dlib's part as it is; to be said again where all parameters were made to learn."""
        self.own.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> BranchedResNet29:
        """As for any module, but that dlib's part stays in eval mode."""
        super().train(mode)
        self.own.eval()
        return self

    def begin_branch(self) -> None:
        """The branch's blocks become copies of dlib's: what it learns from."""
        with torch.no_grad():
            for mine, theirs in zip(self.blocks, _blocks(self.own)[SHARED:], strict=True):
                mine.load_state_dict(theirs.state_dict())

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """dlib's embedding (N, 128), and the branch's last map, averaged (N, 256)."""
        own = self.own
        shared = F.max_pool2d(F.relu(own.bn1(own.conv1(x))), 3, 2)
        shared = own.blocks[:SHARED](shared)
        return own.fc(own.blocks[SHARED:](shared).mean((2, 3))), self.blocks(shared).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, 150, 150) to (N, dimension)."""
        embedding, features = self.parts(x)
        length = torch.linalg.vector_norm(embedding, dim=1, keepdim=True)
        joined = torch.cat([self.scale * embedding / length + self.shift, self.fc(features)], 1)
        found: Tensor = length * joined
        return found


class ReducedBranch(nn.Module):
    """A `BranchedResNet29` whose embedding is turned and cut to fewer numbers: an index of half the size, and the same similarities.

    Args:
        dimension: of what is left.
    """

    def __init__(self, dimension: int = REDUCED_SPEC.dimension) -> None:
        super().__init__()
        self.whole = BranchedResNet29()
        self.fc = nn.Linear(SPEC.dimension, dimension, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, 3, 150, 150) to (N, dimension)."""
        found: Tensor = self.fc(self.whole(x))
        return found


@torch.no_grad()
def reduced(body: BranchedResNet29, embeddings: Tensor, *, dimension: int = REDUCED_SPEC.dimension) -> ReducedBranch:
    """Cut an embedding to the directions in which it has most to say: principal components, nothing taken away before.

    Cosines are what is to stay, so the directions are the eigenvectors of the second moment of unit embeddings, not of their covariance.
    From 256 numbers to 128, FNMR at FMR 1, 0.1 and 0.01 % went from 7.31, 14.64, 28.34 to 7.25, 14.72, 29.56 % (validation).

    Args:
        body: the network.
        embeddings: float32 (N, 256) of training photos, N >= 256, as the network gives them.
        dimension: of what is left.

    Raises:
        UsageError: too few photos, or more numbers than there are.
    """
    if len(embeddings) < SPEC.dimension or not 0 < dimension <= SPEC.dimension:
        raise UsageError(
            f"{len(embeddings)} embeddings cannot say which {dimension} of {SPEC.dimension} numbers count; give {SPEC.dimension} photos or more"
        )
    units = F.normalize(embeddings.double())
    directions = torch.linalg.eigh(units.T @ units).eigenvectors.flip(1)
    result = ReducedBranch(dimension)
    result.whole.load_state_dict(body.state_dict())
    result.fc.weight.copy_(directions[:, :dimension].T)
    return result.eval()


@torch.no_grad()
def fit_parts(body: BranchedResNet29, batches: Iterable[Tensor], targets: Tensor) -> float:
    """Lay dlib's part where the teachers have it, and give the branch's embedding layer the least squares.

    Args:
        body: the network, with dlib's weights in it; it is put into eval mode.
        batches: what it takes, in the order of ``targets``.
        targets: float32 (M, dimension): dlib's part, as one of the teachers, first.

    Returns:
        The mean cosine to the targets afterwards, on these very crops.

    Raises:
        UsageError: targets of another dimension, or whose first part is not dlib's.
    """
    if targets.shape[1] != OWN_SPEC.dimension + body.fc.out_features:
        raise UsageError(f"the teachers have {targets.shape[1]} numbers, the network {SPEC.dimension}")
    body.eval()
    found = [[part.double().cpu() for part in body.parts(batch)] for batch in batches]
    own, features = (torch.cat(parts) for parts in zip(*found, strict=True))
    units = F.normalize(own)
    first, rest = targets[:, : OWN_SPEC.dimension].double(), targets[:, OWN_SPEC.dimension :].double()
    centred, wanted = units - units.mean(0), first - first.mean(0)
    scale = (centred * wanted).sum() / centred.square().sum()
    missed = float((scale * centred - wanted).square().sum() / wanted.square().sum())
    if missed > _FOREIGN:
        raise UsageError(
            f"the first of teachers.indexes is not dlib-resnet's: {100 * missed:.0f} % of it is something else; name dlib's index first"
        )
    body.scale.copy_(scale)
    body.shift.copy_(first.mean(0) - scale * units.mean(0))
    features = torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], 1)
    gram = features.T @ features
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram, features.T @ rest)
    body.fc.weight.copy_(weights[:-1].T)
    body.fc.bias.copy_(weights[-1])
    joined = torch.cat([scale * units + body.shift.double().cpu(), features @ weights], 1)
    return float(F.cosine_similarity(joined, targets.double()).mean())


def _blocks(own: ResNet29) -> list[Block]:
    return [block for block in own.blocks if isinstance(block, Block)]


def _channels(block: Block) -> tuple[int, int]:
    return block.conv1.in_channels, block.conv1.out_channels
