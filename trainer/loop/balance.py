"""Balancing a start: weights of the usual size, so that a learning rate means what it means elsewhere; the outputs stay.

AdamW moves every weight by about the learning rate in a step, however large it is. The filters of dlib's network are 7 to 50 times
smaller than He et al. (2015, https://arxiv.org/abs/1502.01852, eq. 10) would draw them: root mean square 0.0006 to 0.017, as its
normalisations take any size. A step of 2e-5 there is a step of 1e-3 elsewhere, and a few dozen of them lose what the network knew.

A convolution whose output goes into a batch normalisation alone may be multiplied by k: the statistics become k m and
k^2 (v + eps) - eps, and what is normalised is what it was. So may the embedding layer, if nothing follows it: only the length of
embeddings changes, which losses and the engine divide by.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_Norm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def balance_weights(body: nn.Module, last: str, example: Tensor) -> int:
    """Enlarge weights that are smaller than usual, without changing the direction of any embedding in eval mode.

    Args:
        body: the network, in eval mode.
        last: name of the embedding layer's weight.
        example: what the network takes, (N, 3, H, W); shows which layer follows which.

    Returns:
        How many layers were enlarged.
    """
    embedding = body.get_submodule(last.rpartition(".")[0])
    pairs, final = _followed_by_norm(body, embedding, example)
    count = 0
    for convolution, norm in pairs:
        factor = _factor(convolution.weight)
        if factor <= 1 or norm.running_mean is None or norm.running_var is None:
            continue
        convolution.weight.mul_(factor)
        if convolution.bias is not None:
            convolution.bias.mul_(factor)
        norm.running_mean.mul_(factor)
        norm.running_var.copy_((norm.running_var.double() + norm.eps) * factor**2 - norm.eps)
        count += 1
    if final and isinstance(embedding, nn.Linear) and (factor := _factor(embedding.weight)) > 1:
        embedding.weight.mul_(factor)
        if embedding.bias is not None:
            embedding.bias.mul_(factor)
        count += 1
    return count


def _factor(weight: Tensor) -> float:
    """He's standard deviation over the root mean square."""
    usual = math.sqrt(2 / weight[0].numel())
    return usual / max(float(weight.square().mean().sqrt()), 1e-12)


def _followed_by_norm(
    body: nn.Module, embedding: nn.Module, example: Tensor
) -> tuple[list[tuple[nn.Conv2d, _Norm]], bool]:
    """Convolutions with the batch normalisation that takes their output, and whether the embedding layer ends the network.

    Which tensor goes where is seen while an example runs; an output that several layers take is left out.
    """
    made: dict[int, nn.Conv2d] = {}
    taken: dict[int, list[nn.Module]] = {}
    kept: list[Tensor] = []  # so that no tensor's identity is given to another
    ends: list[Tensor] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for value in inputs:
            if isinstance(value, Tensor):
                taken.setdefault(id(value), []).append(module)
                kept.append(value)

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        kept.append(output)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module
        if module is embedding:
            ends.append(output)

    leaves = [module for module in body.modules() if not list(module.children())]
    hooks = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    hooks += [leaf.register_forward_hook(after) for leaf in leaves]
    try:
        result = body(example)
    finally:
        for hook in hooks:
            hook.remove()
    pairs = []
    for key, convolution in made.items():
        takers = taken.get(key, [])
        if len(takers) == 1 and isinstance(takers[0], _Norm):
            pairs.append((convolution, takers[0]))
    return pairs, bool(ends) and ends[0] is result
