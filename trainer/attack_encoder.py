"""The encoder under attack, and its faces: chips through the engine's own pipeline, embeddings from whatever can give them.

Noise needs no gradient, so any encoder of the engine can be measured, without PyTorch. Gradients need the network in PyTorch: a
checkpoint or ``dlib-resnet``, through `trainer.checkpoints`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from faceembed.engine import loading
from faceembed.engine.chips import Cutter
from faceembed.engine.embed import Progress
from faceembed.engine.errors import UsageError
from faceembed.engine.photos import PhotoFile
from faceembed.engine.settings import EmbedSettings

if TYPE_CHECKING:
    from faceembed.trainer.attack_gradient import Network

Method = Literal["noise", "fgsm", "pgd"]
Notify = Callable[[str], None]
OnProgress = Callable[[Progress], None]
Chips = NDArray[np.uint8]
"""(N, H, W, 3) RGB."""
Vectors = NDArray[np.float32]
"""(N, D) of unit length."""

METHODS: tuple[Method, ...] = ("noise", "fgsm", "pgd")


@dataclasses.dataclass(frozen=True)
class Victim:
    """An encoder and the faces of a list's photos."""

    name: str
    chips: dict[str, NDArray[np.uint8]]
    """Photo to its largest face, (H, W, 3)."""
    failures: dict[str, str]
    """Photo to the reason why there is none."""
    encode: Callable[[Chips], Vectors]
    network: Network | None
    """In PyTorch; None where the engine computes."""
    runtime: dict[str, str]
    """What computes the embeddings: ``device``, ``runtime``, ``precision``."""


def open_victim(
    settings: EmbedSettings,
    photos: Sequence[str],
    *,
    method: Method,
    arch: str | None,
    notice: Notify,
    progress: OnProgress,
) -> Victim:
    """Load the encoder and cut the largest face out of each photo.

    Precision ``auto`` means fp32 here. PyTorch computes on ``cuda`` where ``auto`` finds one.

    Raises:
        ModelError: no such encoder, or a damaged one.
        UsageError: gradients are wanted of an encoder that has none, or PyTorch is not installed.
    """
    runtime = settings.runtime
    if runtime.precision == "auto":
        runtime = dataclasses.replace(runtime, precision="fp32")
    settings = dataclasses.replace(settings, faces="largest", runtime=runtime)
    files = [_photo(path) for path in photos]
    if method == "noise" and not _is_checkpoint(settings.encoder):
        models = loading.resolve_models(settings)
        pipeline = loading.open_pipeline(settings, models, files, notice=notice)
        chips, failures = _cut(pipeline.cutter, files, progress)
        choice = pipeline.encoder.choice
        computed = {"device": choice.device, "runtime": choice.runtime, "precision": choice.precision}
        return Victim(
            models.encoder.spec.name, chips, failures, lambda c: pipeline.encoder.encode(c)[0], None, computed
        )
    network = _open_network(settings, arch, method)
    cutter = loading.open_cutter(settings, network.spec, loading.resolve_aligner(settings), files, notice=notice)
    chips, failures = _cut(cutter, files, progress)
    notice(f"{network.name} in PyTorch on {network.device}")
    computed = {"device": str(network.device), "runtime": "pytorch", "precision": "fp32"}
    return Victim(network.name, chips, failures, network.encode, network, computed)


def _is_checkpoint(encoder: str) -> bool:
    return os.path.isfile(encoder) and not encoder.lower().endswith(".onnx")


def _open_network(settings: EmbedSettings, arch: str | None, method: str) -> Network:
    if settings.encoder.lower().endswith(".onnx"):
        raise UsageError(
            f"{method} needs gradients, which {settings.encoder} has none of; give a checkpoint or dlib-resnet, or use noise"
        )
    if importlib.util.find_spec("torch") is None:
        raise UsageError(f"{method} needs PyTorch, which is not installed; run: pip install 'faceembed[train]'")
    from faceembed.trainer.attack_gradient import open_network

    return open_network(settings.encoder, arch=arch, device=settings.runtime.device, batch=settings.batch_size)


def _cut(
    cutter: Cutter, photos: Sequence[PhotoFile], progress: OnProgress
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, str]]:
    chips: dict[str, NDArray[np.uint8]] = {}
    failures: dict[str, str] = {}
    for cut in cutter.cut(photos):
        for place, chip in zip(cut.faces.photo.tolist(), cut.chips, strict=True):
            chips[cut.photos[place].path] = chip
        failures.update({failure.photo.path: failure.reason for failure in cut.failures})
        progress(Progress(len(chips) + len(failures), len(photos), len(chips), len(failures)))
    return chips, failures


def _photo(path: str) -> PhotoFile:
    info = os.stat(path)
    return PhotoFile(path, info.st_size, info.st_mtime_ns)
