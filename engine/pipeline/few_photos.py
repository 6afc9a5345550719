"""A few photos, embedded in memory: the largest face of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.listing import photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.progress import Notify, OnProgress, Progress
from faceembed.engine.pipeline.settings import EmbedSettings


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Photos and the embedding of the largest face of each."""

    vectors: dict[str, NDArray[np.float32]]
    """Path to float32 (D,), unit length."""
    failures: dict[str, str]
    """Path to the reason why there is no embedding."""
    encoder: str
    threshold: float | None
    """The encoder's own threshold, if one was measured."""
    runtime: dict[str, str]


def embed_photos(
    paths: Iterable[str],
    settings: EmbedSettings,
    *,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Embedded:
    """Embed the largest face of each photo, in memory.

    Args:
        paths: photo files; one that cannot be read is a failure, not an error.
        settings: models and runtime; ``faces`` is taken as ``largest``.
        notice: called with lines for the user.
        progress: called after every batch.
    """
    settings = dataclasses.replace(settings, faces="largest")
    models = loading.resolve_models(settings)
    photos = [photo_file(path) for path in dict.fromkeys(paths)]
    pipeline = loading.open_pipeline(settings, models, photos, notice=notice)
    vectors: dict[str, NDArray[np.float32]] = {}
    failures: dict[str, str] = {}
    for outcome in pipeline.run(photos):
        for place, vector in zip(outcome.faces.photo.tolist(), outcome.faces.embeddings, strict=True):
            vectors[outcome.photos[place].path] = vector
        failures.update({failure.photo.path: failure.reason for failure in outcome.failures})
        progress(Progress(len(vectors) + len(failures), len(photos), len(vectors), len(failures)))
    spec, choice = models.encoder.spec, pipeline.encoder.choice
    runtime = {"device": choice.device, "runtime": choice.runtime, "precision": choice.precision}
    return Embedded(vectors, failures, spec.name, spec.threshold, runtime)
