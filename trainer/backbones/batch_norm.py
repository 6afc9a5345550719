"""Batch normalisation in fine-tuning: what to do with statistics that were measured on other people's photos.

A network that was trained elsewhere normalises with running statistics. In training mode PyTorch uses those of the batch
instead, and where the two disagree (always in `resnet29` from dlib's file, whose statistics are folded away) the first
step already sees another network. Two ways out:

    calibrate_batch_norm(model, batches)   # statistics measured anew, outputs in eval mode as before; then train as usual
    freeze_batch_norm(model)               # statistics never used nor moved again, whatever model.train() says
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from faceembed.errors import DataError

_Norm = nn.modules.batchnorm._BatchNorm


class _FrozenBatchNorm1d(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> _FrozenBatchNorm1d:
        return super().train(False)


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> _FrozenBatchNorm2d:
        return super().train(False)


def freeze_batch_norm(model: nn.Module) -> int:
    """Let every batch normalisation keep its running statistics, in training mode too. Weights and biases still learn.

    Call it after a conversion to synchronised batch normalisation, if there is one. State dicts stay as they are.

    Returns:
        How many layers were frozen.
    """
    count = 0
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.__class__ = _FrozenBatchNorm1d
        elif isinstance(module, nn.BatchNorm2d):
            module.__class__ = _FrozenBatchNorm2d
        else:
            continue
        module.eval()
        count += 1
    return count


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Measure the running statistics on new data and compensate, so that outputs in eval mode stay what they were.

    With old statistics (m, v) and new ones (m', v'), weight and bias become

        weight' = weight * sqrt((v' + eps) / (v + eps)),    bias' = bias + weight * (m' - m) / sqrt(v + eps)

    so the layer computes the same function at rest, and in training mode, where batch statistics are near (m', v'), nearly
    the same. Layers without weight and bias (AdaFace's last one) cannot compensate and are left alone: freeze them, or
    accept that training mode shifts and scales the embedding's axes.

    Args:
        model: any network; its mode is as before afterwards.
        batches: float32 (N, 3, H, W) preprocessed chips, all on the model's device. Some hundred chips are enough.

    Returns:
        How many layers were calibrated.

    Raises:
        DataError: no batch.
    """
    layers = [module for module in model.modules() if isinstance(module, _Norm) and module.affine]
    sums: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)  # (C, N*H*W)
        total, squares, count = sums.get(module, (values.new_zeros(()), values.new_zeros(()), 0))
        sums[module] = (total + values.sum(1), squares + values.square().sum(1), count + values.shape[1])

    modes = {module: module.training for module in model.modules()}
    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        model.eval()
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    if layers and not sums:
        raise DataError("no chips to measure batch statistics on")
    for layer in layers:
        total, squares, count = sums[layer]
        _replace_statistics(layer, total / count, squares / count - (total / count).square())
    return len(layers)


def _replace_statistics(layer: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert layer.running_mean is not None and layer.running_var is not None
    variance = variance.clamp(min=0)
    old = (layer.running_var.double() + layer.eps).sqrt()
    weight = layer.weight.double()
    layer.bias.copy_(layer.bias.double() + weight * (mean - layer.running_mean.double()) / old)
    layer.weight.copy_(weight * (variance + layer.eps).sqrt() / old)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
