"""The verbs that compare a few photos in memory: `verify` and `matrix`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.listing import list_photos, photo_file, printable
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report import check_matrix_size, write_matrix_html, write_matrix_png
from faceembed.engine.verbs.embed import Progress
from faceembed.errors import DataError, UsageError

Notify = Callable[[str], None]
OnProgress = Callable[[Progress], None]


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


@dataclasses.dataclass(frozen=True)
class Verification:
    """The verdict on two photos; the fields of ``verify --json``."""

    similarity: float
    """Cosine, in [-1, 1]."""
    threshold: float
    same: bool
    encoder: str
    threshold_source: str


def verify(
    photo_a: str | os.PathLike[str],
    photo_b: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    threshold: float | None = None,
    notice: Notify = lambda line: None,
) -> Verification:
    """Whether two photos show one person, by the largest face of each.

    Args:
        photo_a, photo_b: photo files.
        settings: models and runtime.
        threshold: cosine from which on they count as one person; None takes the encoder's own.
        notice: called with lines for the user.

    Raises:
        DataError: a photo cannot be read or has no face.
        UsageError: the encoder has no threshold of its own and none was given.

    Example:
        faceembed.verify("a.jpg", "b.jpg").same
    """
    settings = settings or EmbedSettings()
    spec = loading.resolve_models(settings).encoder.spec
    limit = spec.threshold if threshold is None else threshold
    if limit is None:
        raise UsageError(
            f"encoder {spec.name} has no measured threshold; give one with --threshold (see faceembed eval)"
        )
    paths = [os.path.abspath(os.fspath(photo)) for photo in (photo_a, photo_b)]
    embedded = embed_photos(paths, settings, notice=notice)
    for path in paths:
        if reason := embedded.failures.get(path):
            raise DataError(f"{printable(path)}: {reason}")
    similarity = float(embedded.vectors[paths[0]] @ embedded.vectors[paths[1]])
    source = "given" if threshold is not None else spec.threshold_source
    return Verification(similarity, limit, similarity >= limit, spec.name, source)


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Pairwise similarities; the fields of ``matrix --json`` are ``paths``, ``similarity``, ``failures``, ``encoder``."""

    paths: list[str]
    similarity: NDArray[np.float32]
    """(n, n) cosines; rows and columns of photos without a face are NaN."""
    failures: dict[str, str]
    encoder: str

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; NaN becomes null."""
        rows = [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in self.similarity]
        return {"paths": self.paths, "similarity": rows, "failures": self.failures, "encoder": self.encoder}


def matrix(
    photos: Sequence[str | os.PathLike[str]],
    *,
    settings: EmbedSettings | None = None,
    html: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
) -> Matrix:
    """The similarity of every photo to every other.

    Args:
        photos: files and folders.
        settings: models and runtime.
        html, png: also write the table with thumbnails there.
        notice: called with lines for the user.

    Raises:
        DataError: fewer than two photos, or no face in any of them.
    """
    paths = [photo.path for photo in list_photos(photos).photos]
    if len(paths) < 2:
        raise DataError(f"a matrix needs at least two photos, found {len(paths)}")
    if html is not None or png is not None:
        check_matrix_size(len(paths))
    embedded = embed_photos(paths, settings or EmbedSettings(), notice=notice)
    if not embedded.vectors:
        raise DataError(f"no face found in any of the {len(paths)} photos ({embedded.failures[paths[0]]})")
    missing = np.full(len(next(iter(embedded.vectors.values()))), np.nan, np.float32)
    stacked = np.stack([embedded.vectors.get(path, missing) for path in paths])
    result = Matrix(paths, stacked @ stacked.T, embedded.failures, embedded.encoder)
    if html is not None:
        write_matrix_html(
            html,
            paths,
            result.similarity,
            thumbnail,
            reasons=embedded.failures,
            threshold=embedded.threshold,
            encoder=embedded.encoder,
        )
    if png is not None:
        write_matrix_png(png, paths, result.similarity, thumbnail, reasons=embedded.failures)
    return result
