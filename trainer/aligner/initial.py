"""A training that begins with the weights of an aligner that exists, not with random ones.

    load_weights(model, network, refiner)
    open_norms(network, pixels)

An exported file has no batch normalisations any more: each is folded into its convolution. `load_weights` puts the folded
weights back before normalisations that change nothing, so that the networks answer as the file does. Such normalisations would
change everything in the first step of a training, where they go by their batch: `open_norms` gives them the means and variances
that their layers really have on some pictures, and scales and shifts that undo them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceembed.engine.models.spec import Model
from faceembed.errors import ModelError
from faceembed.trainer.aligner.loop import to_network
from faceembed.trainer.aligner.network import AlignerNet
from faceembed.trainer.aligner.refiner import RefinerNet

Floats = NDArray[np.float32]


def load_weights(model: Model, network: AlignerNet, refiner: RefinerNet) -> None:
    """Give both networks the weights of an aligner.

    Args:
        model: an aligner that `export` wrote.
        network, refiner: of the same widths and depths; changed in place.

    Raises:
        ModelError: another kind of aligner, or one of other widths or depths.
    """
    if model.spec.decoder != "one-shot":
        raise ModelError(
            f"{model.spec.name} is no aligner of our own (its answers are read as '{model.spec.decoder}'); start from one that faceembed train aligner made"
        )
    given = list(_layers(model))
    wanted = [*_modules(network), *_modules(refiner)]
    shapes = [tuple(weight.shape) for weight, _ in given], [tuple(layer.weight.shape) for layer, _ in wanted]
    if shapes[0] != shapes[1]:
        apart = next((i for i, (a, b) in enumerate(zip(*shapes, strict=False)) if a != b), min(map(len, shapes)))
        raise ModelError(
            f"{model.spec.name} has {len(shapes[0])} layers, this network {len(shapes[1])}; they differ from layer {apart + 1} on: start from an aligner of the same [network] settings"
        )
    with torch.no_grad():
        for (weight, bias), (layer, norm) in zip(given, wanted, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            if norm is None:
                cast(nn.Parameter, layer.bias).copy_(torch.from_numpy(bias))
            else:
                _set(norm, torch.zeros(len(bias)), torch.ones(len(bias)), torch.from_numpy(bias))


@torch.no_grad()
def open_norms(network: nn.Module, pixels: Tensor) -> None:
    """Let the normalisations of a network go by a batch without a change of what it answers.

    Args:
        network: as `load_weights` left it; changed in place.
        pixels: uint8 (N, H, W, 3), what a training would show it.
    """

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # of what it does now: scale * x + shift
        shift = norm.bias - norm.running_mean * scale
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
        norm.bias.copy_(scale * mean + shift)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    training = network.training
    try:
        network.eval()(to_network(pixels))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)


def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, bias: Tensor) -> None:
    """A normalisation that adds a bias and does nothing else."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(torch.sqrt(variance + norm.eps))
    norm.bias.copy_(bias)


def _layers(model: Model) -> Iterator[tuple[Floats, Floats]]:
    """Weight and bias of a file's convolutions and fully connected layers, in the order in which it computes them."""
    import onnx  # optional: of the extra [train]
    from onnx import numpy_helper

    graph = onnx.load(model.path).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
        elif node.op_type in ("Conv", "Gemm"):
            weight, bias = (np.asarray(values[name], np.float32) for name in node.input[1:3])
            yield weight.copy(), bias.copy()


def _modules(network: nn.Module) -> Iterator[tuple[nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]]:
    """A network's layers with the normalisation after each, in the order in which `export` writes them."""
    if isinstance(network, AlignerNet):
        parts = [network.stem]
        for stage, lateral in zip(network.stages, network.laterals, strict=True):
            parts += [cast(nn.Sequential, stage), cast(nn.Sequential, lateral)]
        parts += [cast(nn.Sequential, head) for head in network.heads]
    else:
        parts = [cast(RefinerNet, network).body]
    for part in parts:
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
        for index, layer in enumerate(layers):
            if not isinstance(layer, nn.BatchNorm2d):
                follower = layers[index + 1] if index + 1 < len(layers) else None
                yield layer, follower if isinstance(follower, nn.BatchNorm2d) else None
