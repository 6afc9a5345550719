"""Fitting a start's embedding layer to teachers before training: the first steps then need not undo random weights.

cosine = fit_embedding(body, "fc.weight", batches, targets)       # 0.71: how near the start comes without learning anything
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from faceembed.errors import UsageError
from faceembed.trainer.backbones.branched import BranchedResNet29, fit_parts

_RIDGE = 1e-4  # of the mean square of an input


def fit_start(body: nn.Module, last: str, batches: Iterable[Tensor], targets: Tensor) -> float:
    """`fit_embedding`, or of a network with a branch, `fit_parts`."""
    if isinstance(body, BranchedResNet29):
        return fit_parts(body, batches, targets)
    return fit_embedding(body, last, batches, targets)


@torch.no_grad()
def fit_embedding(body: nn.Module, last: str, batches: Iterable[Tensor], targets: Tensor) -> float:
    """Give the embedding layer the weights with the least squared distance to targets.

    Args:
        body: the network; it is put into eval mode.
        last: name of the embedding layer's weight.
        batches: what the network takes, (N, 3, H, W), in the order of ``targets``.
        targets: float32 (M, D), finite.

    Returns:
        The mean cosine to the targets afterwards, on these very crops.

    Raises:
        UsageError: the network does not end in a linear layer of D outputs.
    """
    layer = body.get_submodule(last.rpartition(".")[0])
    if not isinstance(layer, nn.Linear) or layer.out_features != targets.shape[1]:
        raise UsageError(f"a start that teachers are to teach must end in a linear layer of {targets.shape[1]} outputs")
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().double().cpu()))
    body.eval()
    try:
        for batch in batches:
            body(batch)
    finally:
        hook.remove()
    inputs, wanted = torch.cat(seen), targets.double()
    if layer.bias is not None:
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], 1)
    gram = inputs.T @ inputs
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + ridge, inputs.T @ wanted)
    layer.weight.copy_(weights[: layer.in_features].T)
    if layer.bias is not None:
        layer.bias.copy_(weights[-1])
    return float(nn.functional.cosine_similarity(inputs @ weights, wanted).mean())
