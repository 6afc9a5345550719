"""A network in PyTorch in the form in which the engine looks into encoders: gradients, and checkpoints that are not ONNX yet."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from faceembed.engine.explain.subject import Subject, cut_largest, exact
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.counting import count_faces
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import UsageError
from faceembed.install import pip_install

if TYPE_CHECKING:
    from faceembed.trainer.gradients.attack_gradient import Network


def open_network_subject(
    settings: EmbedSettings,
    photos: Sequence[str],
    *,
    arch: str | None,
    purpose: str,
    count: bool = False,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> tuple[Subject, Network]:
    """Load a network, and cut the largest face out of each photo.

    Args:
        settings: aligner and runtime; its ``encoder`` is a checkpoint's file, or any that the engine takes. PyTorch computes in
            fp32, and on ``cuda`` where ``auto`` finds one.
        photos: files.
        arch: the architecture of another project's checkpoint.
        purpose: what needs the network, for messages.
        count: also count the faces of each photo, which looks at it a second time.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        ModelError: no such encoder, a damaged one, or one that PyTorch cannot run.
        UsageError: PyTorch is not installed.
    """
    settings = exact(settings)
    network = _open_network(settings, arch, purpose)
    files = [photo_file(path) for path in photos]
    cutter = loading.open_cutter(settings, network.spec, loading.resolve_aligner(settings), files, notice=notice)
    chips, failures, seen = cut_largest(cutter, files, progress)
    notice(f"{network.name} in PyTorch on {network.device}")
    runtime = {"device": str(network.device), "runtime": "pytorch", "precision": "fp32"}
    found = count_faces(cutter, [file for file in files if file.path in chips]) if count else seen
    return Subject(network.spec, network, chips, failures, runtime, found), network


def _open_network(settings: EmbedSettings, arch: str | None, purpose: str) -> Network:
    if importlib.util.find_spec("torch") is None:
        raise UsageError(f"{purpose} needs PyTorch, which is not installed; run: {pip_install('train')}")
    from faceembed.trainer.gradients.attack_gradient import open_network  # optional: PyTorch

    return open_network(settings.encoder, arch=arch, device=settings.runtime.device, batch=settings.photos_a_batch())
