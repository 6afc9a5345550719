"""What a training begins with: a network of an architecture, or of a start's weights, and the contract of what comes out."""

from __future__ import annotations

import dataclasses

from torch import nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import ModelError, UsageError
from faceembed.trainer.backbones.checkpoints import load_encoder
from faceembed.trainer.backbones.gated import GatedEncoder
from faceembed.trainer.backbones.registry import GATE, build, find
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
