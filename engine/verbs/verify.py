"""The verb `verify`: whether two photos show one person."""

from __future__ import annotations

import dataclasses
import os

from faceembed.engine.photos.listing import printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, UsageError


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
        photo_a: a photo file.
        photo_b: another.
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
