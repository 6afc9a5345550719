"""The verb `search`: the faces of an index that are most similar to those of query photos."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from faceembed.engine.index.store import FaceIndex, Hit, check_encoder
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError


def search(
    index: str | os.PathLike[str],
    queries: Sequence[str | os.PathLike[str]],
    *,
    k: int = 10,
    settings: EmbedSettings | None = None,
    notice: Notify = lambda line: None,
) -> list[tuple[str, list[Hit] | str]]:
    """The faces of an index that are most similar to those of query photos.

    Args:
        index: made by `embed`.
        queries: photo files and folders; the largest face of each is looked for.
        k: hits per query.
        settings: models and runtime; the encoder must be the index's.
        notice: called with lines for the user.

    Returns:
        For each query photo its path and either its hits, most similar first, or the reason why there is no embedding.

    Raises:
        IndexFormatError: the index was made by another encoder.
        DataError: no such index, it is empty, or no queries.
    """
    settings = settings or EmbedSettings()
    opened = FaceIndex(index)
    spec = loading.resolve_models(settings).encoder.spec
    check_encoder(opened.files, opened.manifest, spec.name, spec.sha256)
    paths = [photo.path for photo in list_photos(queries).photos]
    if not paths:
        raise DataError("no query photos in what was given")
    embedded = embed_photos(paths, settings, notice=notice)
    found = [path for path in paths if path in embedded.vectors]
    hits = opened.search(np.stack([embedded.vectors[path] for path in found]), k=k) if found else []
    by_path = dict(zip(found, hits, strict=True))
    return [(path, by_path[path] if path in by_path else embedded.failures[path]) for path in paths]
