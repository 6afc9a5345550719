"""An encoder that is looked into by `attack` and `explain`, and the faces of the photos that it is shown.

    subject = open_subject(settings, ["a.jpg", "b.jpg"])
    vectors, _ = subject.encoder.encode(subject.faces(["a.jpg", "b.jpg"]))

Precision ``auto`` means fp32 here: similarities that are compared before and after a small change must not move by themselves.
What is not known here: PyTorch (`faceembed.trainer.gradients.subject` opens a checkpoint in the same form).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.photo_file import PhotoFile, photo_file, printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.counting import count_faces
from faceembed.engine.pipeline.encodes import Chips, Encodes, Vectors
from faceembed.engine.pipeline.progress import Notify, OnProgress, Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.unit import NO_EMBEDDING, is_sound
from faceembed.errors import DataError

_BATCH = 32


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
    found: dict[str, int] = dataclasses.field(default_factory=dict)
    """Photo to the number of its faces: of all, where they were counted; else of those seen on the way to the largest."""

    @property
    def several(self) -> int:
        """Photos that show several faces, of which the largest was taken."""
        return sum(number > 1 for number in self.found.values())

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
    count: bool = False,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Subject:
    """Load an encoder, and cut the largest face out of each photo.

    Args:
        settings: models and runtime; ``faces`` is taken as ``largest``.
        photos: files; one that cannot be read is a failure, not an error.
        count: also count the faces of each photo, which looks at it a second time.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        ModelError: no such encoder, or a damaged one.
        DeviceError: what was asked for cannot serve.
    """
    settings = exact(settings)
    models = loading.resolve_models(settings)
    files = [photo_file(path) for path in photos]
    pipeline = loading.open_pipeline(settings, models, files, notice=notice)
    chips, failures, seen = cut_largest(pipeline.cutter, files, progress)
    _leave_out(pipeline.encoder, chips, failures)
    choice = pipeline.encoder.choice
    runtime = {"device": choice.device, "runtime": choice.runtime, "precision": choice.precision}
    found = count_faces(pipeline.cutter, [file for file in files if file.path in chips]) if count else seen
    return Subject(models.encoder.spec, pipeline.encoder, chips, failures, runtime, found)


def _leave_out(encoder: Encodes, chips: dict[str, Chips], failures: dict[str, str]) -> None:
    """Make failures of the photos whose faces the encoder has no embedding of."""
    paths = list(chips)
    for start in range(0, len(paths), _BATCH):
        part = paths[start : start + _BATCH]
        for path, sound in zip(
            part, is_sound(encoder.encode(np.stack([chips[path] for path in part]))[0]), strict=True
        ):
            if not sound:
                failures[path] = NO_EMBEDDING
                del chips[path]


def exact(settings: EmbedSettings) -> EmbedSettings:
    """Settings with fp32 for ``auto``, and one face a photo."""
    runtime = settings.runtime
    if runtime.precision == "auto":
        runtime = dataclasses.replace(runtime, precision="fp32")
    return dataclasses.replace(settings, faces="largest", runtime=runtime)


def cut_largest(
    cutter: Cutter, photos: Sequence[PhotoFile], progress: OnProgress
) -> tuple[dict[str, Chips], dict[str, str], dict[str, int]]:
    """Chips, reasons, and the number of faces seen on the way, each by path."""
    chips: dict[str, Chips] = {}
    seen: dict[str, int] = {}
    failures: dict[str, str] = {}
    with contextlib.closing(cutter.cut(photos)) as cuts:
        for cut in cuts:
            for place, beside, chip in zip(cut.faces.photo.tolist(), cut.faces.beside.tolist(), cut.chips, strict=True):
                chips[cut.photos[place].path] = chip
                seen[cut.photos[place].path] = 1 + beside
            failures.update({failure.photo.path: failure.reason for failure in cut.failures})
            progress(Progress(len(chips) + len(failures), len(photos), len(chips), len(failures)))
    return chips, failures, seen
