"""The architectures by name, each with its input contract.

    model = build("ir50")
    embeddings = model(preprocess(chips, ARCHITECTURES["ir50"].spec))

Chips are cut by the engine (`engine.detect.align.warp_chips`) with the spec's template and size. The network's output is the raw
embedding: losses and the engine normalise it, and its length tells a good photo from a bad one.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import UsageError
from faceembed.trainer.backbones import (
    apart,
    branched,
    gated,
    ghostfacenet,
    inception,
    iresnet,
    mobilefacenet,
    resnet29,
    slimface,
)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One kind of network."""

    name: str
    build: Callable[[int], nn.Module]
    """Embedding dimension to a network: float32 (N, 3, H, W), preprocessed as ``spec`` says, to (N, dimension), raw."""
    spec: ModelSpec
    """The input contract and the usual dimension of a network that is trained here."""
    last: str
    """Name of the embedding layer's weight, whose first axis is the embedding's dimension (of a branch: the branch's part of it)."""
    texture: Callable[[], gated.TextureNet] = gated.TextureNet
    """Makes the gate of a gated encoder round it, as large as suits its chips."""


_SMALL_GATE = functools.partial(gated.TextureNet, (16, 48, 96), middle=128)
"""What other shapes cost, and bringing all of the chip to 128 pixels: `docs/next-encoder.md`."""


def _ir(name: str) -> Architecture:
    make = functools.partial(iresnet.IResNet, stages=iresnet.STAGES[name])
    return Architecture(name, make, iresnet.spec(name), "output_layer.3.weight")


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        _ir("ir18"),
        _ir("ir50"),
        _ir("ir101"),
        Architecture("resnet29", resnet29.ResNet29, resnet29.SPEC, "fc.weight"),
        Architecture("resnet29-131", resnet29.small, resnet29.SMALL_SPEC, "fc.weight"),
        Architecture("resnet29-branch", branched.BranchedResNet29, branched.SPEC, "fc.weight", _SMALL_GATE),
        Architecture("resnet29-branch-128", branched.ReducedBranch, branched.REDUCED_SPEC, "fc.weight", _SMALL_GATE),
        Architecture("slimface", slimface.SlimFace, slimface.SPEC, "fc.weight"),
        Architecture("mobilefacenet", mobilefacenet.MobileFaceNet, mobilefacenet.SPEC, "fc.weight"),
        Architecture("ghostfacenet", ghostfacenet.GhostFaceNet, ghostfacenet.SPEC, "fc.weight"),
        Architecture("inception-resnet-v1", inception.InceptionResNetV1, inception.SPEC, "last_linear.weight"),
    )
}


GATE = "+gate"
"""What the name of a gated encoder ends in, after that of its identity network."""


APART = "+apart"
"""What the name of a network with strangers laid apart ends in, before `GATE`."""


def find(name: str) -> Architecture:
    """The architecture of a name; with `GATE` at its end, that of the gated encoder round it, with `APART` that of the fold behind it.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name.endswith(GATE):
        return _gated(find(name.removesuffix(GATE)))
    if name.endswith(APART):
        return _apart(find(name.removesuffix(APART)))
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name.lower().replace("_", ""), ARCHITECTURES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"no architecture '{name}'; {hint}known are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _gated(identity: Architecture) -> Architecture:
    spec = dataclasses.replace(
        identity.spec, name=identity.spec.name + GATE, dimension=2 * identity.spec.dimension, gated=True
    )
    make = functools.partial(gated.build_gated, identity.build, identity.texture)
    return Architecture(identity.name + GATE, make, spec, f"identity.{identity.last}")


def _apart(folded: Architecture) -> Architecture:
    def make(dimension: int) -> nn.Module:
        return apart.LaidApart(folded.build(dimension), dimension)

    spec = dataclasses.replace(folded.spec, name=folded.spec.name + APART)
    return dataclasses.replace(folded, name=folded.name + APART, build=make, spec=spec, last=f"body.{folded.last}")


def build(name: str, *, dimension: int | None = None) -> nn.Module:
    """A network with fresh weights, in training mode.

    Args:
        name: of `ARCHITECTURES`.
        dimension: length of the embedding; the architecture's own if None.

    Raises:
        UsageError: no such architecture, or a dimension below 1.
    """
    architecture = find(name)
    if dimension is not None and dimension < 1:
        raise UsageError(f"dimension is {dimension}; it must be 1 or more")
    return architecture.build(architecture.spec.dimension if dimension is None else dimension)


def preprocess(chips: Tensor, spec: ModelSpec) -> Tensor:
    """From pixels to what a network takes: the spec's colour order, mean and scale, as the engine's front end does.

    Args:
        chips: uint8 RGB (N, H, W, 3), on any device.
        spec: the network's contract.

    Returns:
        float32 (N, 3, H, W).
    """
    pixels = chips.permute(0, 3, 1, 2).to(torch.float32)
    if spec.colour == "bgr":
        pixels = pixels.flip(1)
    mean = torch.tensor(spec.mean, dtype=torch.float32, device=pixels.device)
    return (pixels - mean[:, None, None]) * spec.scale
