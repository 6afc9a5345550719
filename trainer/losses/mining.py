"""Hard examples of a batch: which photos to compare, chosen by how wrong the encoder still is about them.

    anchors, positives, negatives = mine_triplets(embeddings, labels, "batch-hard")
    first, second, same = mine_pairs(embeddings, labels)
    loss = AdaptiveMargin()(embeddings[first], embeddings[second], same)

The miners are pytorch-metric-learning's, on cosines. A deepfake has a label of its own: it is a negative of everyone, the person
it pretends to be included, and usually the hardest one. Choosing has no gradient.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.miners import BatchEasyHardMiner, BatchHardMiner, TripletMarginMiner
from torch import Tensor

from faceembed.errors import UsageError
from faceembed.trainer.losses.base import check_labels, full, no_autocast, unit

TRIPLETS = ("all", "violating", "hard", "semihard", "batch-hard")
PAIRS = ("all", "hard", "semihard")
Triplets = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def mine_triplets(embeddings: Tensor, labels: Tensor, which: str = "batch-hard", *, margin: float = 0.2) -> Triplets:
    """Anchor, positive (the anchor's person) and negative (another) of each chosen triplet.

    Args:
        embeddings: (N, D) raw.
        labels: (N,) whole numbers.
        which: ``all``; ``violating``: positives not at least ``margin`` more alike than negatives; ``hard``: those of which
            the negative is the more alike; ``semihard``: the other violating ones (Schroff et al., FaceNet, CVPR 2015);
            ``batch-hard``: for each anchor its least alike positive and its most alike negative (Hermans, Beyer, Leibe, In
            Defense of the Triplet Loss, 2017).
        margin: in cosine.

    Returns:
        Three int64 (T,) of positions in the batch; T may be 0.

    Raises:
        DataError: labels that do not fit.
        UsageError: ``which`` is unknown.
    """
    if which not in TRIPLETS:
        raise UsageError(f"mining '{which}' is unknown; expected {' or '.join(TRIPLETS)}")
    labels = check_labels(embeddings, labels)
    if which == "batch-hard":
        miner = BatchHardMiner(distance=CosineSimilarity())
    else:
        kind = "all" if which == "violating" else which
        reach = 3.0 if which == "all" else margin  # cosines differ by 2 at most: every triplet violates 3
        miner = TripletMarginMiner(margin=reach, type_of_triplets=kind, distance=CosineSimilarity())
    with no_autocast(embeddings):
        anchors, positives, negatives = miner(unit(full(embeddings)), labels)
    return anchors.long(), positives.long(), negatives.long()


@torch.no_grad()
def mine_pairs(
    embeddings: Tensor, labels: Tensor, *, positives: str = "all", negatives: str = "hard"
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of a batch for a pair loss.

    Args:
        embeddings: (N, D) raw.
        labels: (N,) whole numbers.
        positives: ``all``, or ``hard``: for each photo the least alike one of its person.
        negatives: ``all``; ``hard``: for each photo the most alike one of others; ``semihard``: the most alike one that is
            still less alike than the photo's chosen positive (needs ``positives`` ``hard``).

    Returns:
        first, second: int64 (P,) positions in the batch, positives before negatives. A pair may come in both orders.
        same: float32 (P,) of 1 and 0.

    Raises:
        DataError: labels that do not fit.
        UsageError: a choice that is unknown, or the two do not go together.
    """
    if positives not in ("all", "hard") or negatives not in PAIRS:
        raise UsageError(
            f"mining of positives '{positives}' and negatives '{negatives}'; expected all or hard, and {' or '.join(PAIRS)}"
        )
    if positives == "all" and negatives == "semihard":
        raise UsageError("mining of semihard negatives compares each with one positive: choose positives hard")
    labels = check_labels(embeddings, labels)
    miner = BatchEasyHardMiner(pos_strategy=positives, neg_strategy=negatives, distance=CosineSimilarity())
    with no_autocast(embeddings):
        a, p, b, n = miner(unit(full(embeddings)), labels)
    same = torch.cat([torch.ones(len(a)), torch.zeros(len(b))]).to(embeddings.device)
    return torch.cat([a, b]).long(), torch.cat([p, n]).long(), same
