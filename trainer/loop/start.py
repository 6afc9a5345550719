"""What a training begins with: a network of an architecture, or of a start's weights, and the contract of what comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones.apart import laid_apart
from faceembed.trainer.backbones.branched import REDUCED_SPEC, BranchedResNet29, reduced
from faceembed.trainer.backbones.checkpoints import load_encoder
from faceembed.trainer.backbones.gated import GatedEncoder
from faceembed.trainer.backbones.registry import APART, GATE, build, find
from faceembed.trainer.recipes.settings import Model as ModelConfig


@dataclasses.dataclass(frozen=True)
class Start:
    """The network before training."""

    body: nn.Module
    spec: ModelSpec
    arch: str


def make_start(config: ModelConfig) -> Start:
    """Build the network, with the weights of its start or random ones (seed PyTorch before).

    Raises:
        ModelError: a start that cannot be read, or is of another architecture.
        UsageError: no such architecture, or a dimension that the start has not.
    """
    if not config.start:
        architecture = find(config.arch)
        body = build(config.arch, dimension=config.dimension or None)
        spec = dataclasses.replace(architecture.spec, dimension=config.dimension or architecture.spec.dimension)
        return Start(body, spec, config.arch)
    try:
        body, spec, arch = load_encoder(config.start, arch=config.arch or None)
    except ModelError as error:
        raise ModelError(str(error).replace("leave --arch out", "change model.arch or leave it out")) from error
    if config.dimension not in (0, spec.dimension):
        raise UsageError(
            f"model.dimension is {config.dimension}, but {config.start} has {spec.dimension}; leave it out to keep that"
        )
    return Start(body, spec, arch)


@torch.no_grad()
def reshaped(start: Start, config: ModelConfig, inputs: Iterable[Tensor]) -> Start:
    """The start with a shorter embedding (``model.reduce``) and with strangers laid apart (``model.apart``), where these are asked for.

    Args:
        start: the network; it is put into eval mode.
        config: what is asked for.
        inputs: what the network takes, of some thousand training photos.

    Raises:
        UsageError: ``reduce`` of a network without a branch, too few photos, or strangers that lie apart already.
    """
    body, arch, spec = start.body.eval(), start.arch, start.spec
    embeddings = torch.cat([body(x).float().cpu() for x in inputs])
    if config.reduce:
        if not isinstance(body, BranchedResNet29):
            raise UsageError(f"model.reduce is for resnet29-branch, and {config.start} is {arch}; set model.reduce = 0")
        body = reduced(body.cpu(), embeddings, dimension=config.reduce)
        embeddings = body.fc(embeddings)
        arch, spec = REDUCED_SPEC.name, dataclasses.replace(spec, name=REDUCED_SPEC.name, dimension=config.reduce)
    if config.apart:
        body = laid_apart(body.cpu(), embeddings)
        arch, spec = arch + APART, dataclasses.replace(spec, name=spec.name + APART)
    return Start(body, spec, arch)


def gated(start: Start) -> Start:
    """The gated encoder round a start (seed PyTorch before); one that is gated already as it is."""
    if isinstance(start.body, GatedEncoder):
        return start
    body = GatedEncoder(start.body, find(start.arch).texture())
    spec = dataclasses.replace(start.spec, dimension=2 * start.spec.dimension, gated=True)
    return Start(body, spec, start.arch + GATE)


def trained_spec(start: Start, config: ModelConfig) -> ModelSpec:
    """The contract of what comes out: that of the start, without what was measured on the start's own weights."""
    name = start.spec.name
    if config.start and not name.endswith("-tuned"):
        name = f"{name}-tuned"
    return dataclasses.replace(
        start.spec, name=name, source="trained with faceembed", threshold=None, threshold_source="", sha256=""
    )
