"""An encoder that is looked into by `attack` and `explain`, and the faces of the photos that it is shown.

    subject = open_subject(settings, ["a.jpg", "b.jpg"])
    vectors, _ = subject.encoder.encode(subject.faces(["a.jpg", "b.jpg"]))

Precision ``auto`` means fp32 here: similarities that are compared before and after a small change must not move by themselves.
What is not known here: PyTorch (`faceembed.trainer.gradients.subject` opens a checkpoint in the same form).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.listing import PhotoFile, photo_file, printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import Progress
from faceembed.errors import DataError

Notify = Callable[[str], None]
OnProgress = Callable[[Progress], None]
Chips = NDArray[np.uint8]
"""(N, H, W, 3) RGB, or one (H, W, 3)."""
Vectors = NDArray[np.float32]
"""(N, D) of unit length."""


class Encodes(Protocol):
    """An `Encoder`, or anything else that embeds chips."""

    def encode(self, chips: Chips) -> tuple[Vectors, NDArray[np.float32]]:
        """Chips (N, H, W, 3) to embeddings (N, D) of unit length, and their norms (N,)."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """A gated encoder without its gate: who somebody is, whatever the face is taken for.

    What covers a part of a face looks made up to the gate, which then decides the similarity wherever it is: maps of the whole
    embedding show that and nothing else (of 9 pairs of people in the wild, 5 had a map whose correlation with that of the
    identity was 0.2 to 0.7).
    """

    encoder: Encodes

    def encode(self, chips: Chips) -> tuple[Vectors, NDArray[np.float32]]:
        """Chips (N, H, W, 3) to identities (N, D / 2) of unit length, and the norms (N,) of the whole embeddings."""
        vectors, norms = self.encoder.encode(chips)
        return identities(vectors), norms


def identities(vectors: Vectors) -> Vectors:
    """The unit identities (N, D) in gated embeddings (N, 2 D): both halves point the same way, and never are both 0."""
    total = vectors.reshape(len(vectors), 2, vectors.shape[1] // 2).sum(1)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)


def identity(encoder: Encodes, spec: ModelSpec) -> Encodes:
    """What of an encoder knows people: all of it, or of a gated one its `Identity`."""
    return Identity(encoder) if spec.gated else encoder


@dataclasses.dataclass(frozen=True)
class Subject:
    """An encoder and the largest face of each photo."""

    spec: ModelSpec
    encoder: Encodes
    chips: dict[str, Chips]
    """Photo to its face, (H, W, 3)."""
    failures: dict[str, str]
    """Photo to the reason why it has none."""
    runtime: dict[str, str]
    """What computes the embeddings: ``device``, ``runtime``, ``precision``."""

    def vectors(self, chips: Chips) -> Vectors:
        """Embeddings of chips (N, H, W, 3)."""
        return self.encoder.encode(chips)[0]

    def faces(self, paths: Sequence[str]) -> Chips:
        """The chips of these photos, (N, H, W, 3).

        Raises:
            DataError: one of them has no face.
        """
        for path in paths:
            if path not in self.chips:
                raise DataError(f"{printable(path)}: {self.failures[path]}")
        return np.stack([self.chips[path] for path in paths])


def open_subject(
    settings: EmbedSettings,
    photos: Sequence[str],
    *,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Subject:
    """Load an encoder, and cut the largest face out of each photo.

    Args:
        settings: models and runtime; ``faces`` is taken as ``largest``.
        photos: files; one that cannot be read is a failure, not an error.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        ModelError: no such encoder, or a damaged one.
        DeviceError: what was asked for cannot serve.
    """
    settings = exact(settings)
    models = loading.resolve_models(settings)
    files = [photo_file(path) for path in photos]
    pipeline = loading.open_pipeline(settings, models, files, notice=notice)
    chips, failures = cut_largest(pipeline.cutter, files, progress)
    choice = pipeline.encoder.choice
    runtime = {"device": choice.device, "runtime": choice.runtime, "precision": choice.precision}
    return Subject(models.encoder.spec, pipeline.encoder, chips, failures, runtime)


def exact(settings: EmbedSettings) -> EmbedSettings:
    """Settings with fp32 for ``auto``, and one face a photo."""
    runtime = settings.runtime
    if runtime.precision == "auto":
        runtime = dataclasses.replace(runtime, precision="fp32")
    return dataclasses.replace(settings, faces="largest", runtime=runtime)


def cut_largest(
    cutter: Cutter, photos: Sequence[PhotoFile], progress: OnProgress
) -> tuple[dict[str, Chips], dict[str, str]]:
    """Chips by path, and reasons by path."""
    chips: dict[str, Chips] = {}
    failures: dict[str, str] = {}
    for cut in cutter.cut(photos):
        for place, chip in zip(cut.faces.photo.tolist(), cut.chips, strict=True):
            chips[cut.photos[place].path] = chip
        failures.update({failure.photo.path: failure.reason for failure in cut.failures})
        progress(Progress(len(chips) + len(failures), len(photos), len(chips), len(failures)))
    return chips, failures
