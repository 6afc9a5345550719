"""Checkpoints: one file with the weights, their architecture and the contract of their input.

    save_checkpoint("best.pt", arch="resnet29", dimension=128, spec=spec, model=model.state_dict(), training={...})
    model, spec, arch = load_encoder("best.pt")

A file appears whole or not at all: a full disk leaves the older one as it was. Opening one from elsewhere runs no code of
its (`foreign.load_pickle`).
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceembed.engine.models import dlib_resnet, sface
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Colour, ModelSpec
from faceembed.errors import ModelError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.backbones.branched import BranchedResNet29
from faceembed.trainer.backbones.foreign import is_safetensors, load_pickle, read_weights
from faceembed.trainer.backbones.registry import APART, ARCHITECTURES, GATE, find
from faceembed.trainer.backbones.resnet29 import ResNet29, load_dlib
from faceembed.trainer.backbones.slimface import SlimFace, load_sface

FORMAT = "faceembed-checkpoint"
VERSION = 1
DLIB, SFACE = "dlib-resnet", "sface"
_DLIB_ARCHS = ("resnet29", "resnet29-131", "resnet29-branch")  # but for the first with a last layer that training fits


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file of ours holds."""

    arch: str
    dimension: int
    spec: ModelSpec
    model: dict[str, Tensor]
    training: dict[str, Any] | None
    """What training needs to go on; None in a file made for use alone."""


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    arch: str,
    dimension: int,
    spec: ModelSpec,
    model: Mapping[str, Tensor],
    training: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint; one of that name is replaced only once the new one is complete.

    Args:
        path: the file; its folder must exist.
        arch: name of the architecture.
        dimension: length of the embedding.
        spec: the input contract; its ``dimension`` must be ``dimension``.
        model: the network's state dict.
        training: tensors, numbers, texts, lists and dicts only, as `weights_only` reads no more.

    Raises:
        ModelError: the file cannot be written; the older one of that name, if any, is untouched.
        UsageError: no such architecture.
    """
    find(arch)
    if spec.dimension != dimension:
        raise ModelError(f"cannot save {path}: dimension {dimension}, but its spec says {spec.dimension}")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "arch": arch,
        "dimension": dimension,
        "spec": spec.to_json(),
        "model": {name: value.detach() for name, value in model.items()},
        "training": training,
    }
    try:
        with atomic_write(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch's zip writer turns a failed write into a RuntimeError
        raise ModelError(f"cannot save {path}: {why_not_written(error)}") from error


def why_not_written(error: OSError | RuntimeError) -> str:
    """What went wrong while writing a file atomically, and what to do, in some words."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and start again, what was there before is intact"
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return str(error).strip().splitlines()[0]


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of ours onto the CPU.

    Raises:
        ModelError: not there, damaged, of a newer version, or another kind of file.
    """
    if (checkpoint := _load_ours(path)) is None:
        raise ModelError(
            f"{path} is not a checkpoint of faceembed; for another project's give its architecture: --arch"
        )
    return checkpoint


def _load_ours(path: str | os.PathLike[str]) -> Checkpoint | None:
    if is_safetensors(path):
        return None
    content = load_pickle(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    if content.get("version") != VERSION:
        raise ModelError(
            f"{path} is a checkpoint of version {content.get('version')}, this faceembed reads {VERSION}; upgrade it"
        )
    try:
        spec = ModelSpec.from_json(content["spec"], where=str(path))
        return Checkpoint(content["arch"], content["dimension"], spec, content["model"], content["training"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} is a damaged checkpoint ({error})") from error


def load_encoder(
    source: str | os.PathLike[str], *, arch: str | None = None, colour: Colour | None = None
) -> tuple[nn.Module, ModelSpec, str]:
    """A network with the weights of a checkpoint, in eval mode on the CPU.

    Args:
        source: a checkpoint of ours or of another project (see `foreign`), or ``dlib-resnet`` for its CC0 weights in a
            `resnet29`, or ``sface`` for what a `slimface` takes over of it (Apache-2.0): all but its first layers.
        arch: the architecture; needed for other projects' files, which do not name it.
        colour: channel order of the network's input, for files that do not tell.

    Returns:
        The network, its input contract and the architecture's name.

    Raises:
        ModelError: unreadable, or the weights are another architecture's.
        UsageError: no such architecture, or a colour that must be given, or contradicts the file.
    """
    if arch is not None:
        find(arch)
    if os.fspath(source) == DLIB:
        return _dlib(arch)
    if os.fspath(source) == SFACE:
        return _sface(arch)
    if (checkpoint := _load_ours(source)) is None:
        if arch is None:
            raise ModelError(
                f"{source} is not a checkpoint of faceembed; say its architecture: --arch {'|'.join(ARCHITECTURES)}"
            )
        return _foreign(source, arch, colour)
    if arch not in (None, checkpoint.arch):
        raise ModelError(f"{source} holds '{checkpoint.arch}', not '{arch}'; leave --arch out")
    if colour not in (None, checkpoint.spec.colour):
        raise UsageError(f"{source} takes {checkpoint.spec.colour}, not {colour}; leave --colour out")
    if checkpoint.arch.removesuffix(GATE).removesuffix(APART) not in ARCHITECTURES:
        raise ModelError(f"{source} holds '{checkpoint.arch}', which this faceembed does not know; upgrade it")
    model = find(checkpoint.arch).build(checkpoint.dimension)
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        raise ModelError(f"{source}: its weights do not fit '{checkpoint.arch}' ({_first_lines(error)})") from error
    return model.eval(), checkpoint.spec, checkpoint.arch


def _foreign(source: str | os.PathLike[str], arch: str, colour: Colour | None) -> tuple[nn.Module, ModelSpec, str]:
    architecture = find(arch)
    weights = read_weights(source, architecture)
    if weights.colour is None and colour is None:
        raise UsageError(
            f"{source} does not say whether it takes RGB or BGR, and a wrong guess costs accuracy silently; "
            "give --colour: bgr for original AdaFace weights, rgb for CVLface's"
        )
    if weights.colour is not None and colour not in (None, weights.colour):
        raise UsageError(f"{source} takes {weights.colour}, not {colour}; leave --colour out")
    with torch.device("meta"):
        model = architecture.build(weights.dimension)
    model.load_state_dict(weights.state, assign=True)
    model.float()
    spec = dataclasses.replace(
        architecture.spec,
        colour=weights.colour or colour or architecture.spec.colour,
        dimension=weights.dimension,
        source=str(Path(source).absolute()),
    )
    return model.eval(), spec, arch


def _dlib(arch: str | None) -> tuple[nn.Module, ModelSpec, str]:
    if arch not in (None, *_DLIB_ARCHS):
        raise ModelError(f"{DLIB} is a 'resnet29', not '{arch}'; leave --arch out")
    arch = arch or _DLIB_ARCHS[0]
    spec = resolve(DLIB, task="encoder").spec if arch == _DLIB_ARCHS[0] else find(arch).spec
    model = find(arch).build(spec.dimension)
    if isinstance(model, BranchedResNet29):
        load_dlib(model.own, dlib_resnet.package_layers())
        model.begin_branch()
        return model.eval(), spec, arch
    assert isinstance(model, ResNet29)
    load_dlib(model, dlib_resnet.package_layers(), last_too=arch == _DLIB_ARCHS[0])
    return model.eval(), spec, arch


def _sface(arch: str | None) -> tuple[nn.Module, ModelSpec, str]:
    slim = find("slimface")
    if arch not in (None, slim.name):
        raise ModelError(f"{SFACE} can start a '{slim.name}', not '{arch}'; leave --arch out")
    model = slim.build(slim.spec.dimension)
    assert isinstance(model, SlimFace)
    load_sface(model, sface.package_graph())
    return model.eval(), slim.spec, slim.name


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])
