"""The verb `search`: the faces of an index that are most similar to those of query photos."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from faceembed.engine.index.manifest import check_encoder
from faceembed.engine.index.store import FaceIndex, Hit
from faceembed.engine.models.thresholds import threshold_of
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.realness import Likeness, looks_altered, realness
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
        settings: models and runtime; the encoder must be the index's. With ``faces="all"`` every face of a photo is looked for,
            each with an entry of its own, largest first.
        notice: called with lines for the user.

    Returns:
        For each query photo its path and either its hits, most similar first, or the reason why there is no embedding.

    Raises:
        IndexFormatError: the index was made by another encoder.
        DataError: no such index, it is empty, or no queries.
    """
    found = search_faces(index, queries, k=k, settings=settings, notice=notice)
    return [(query.path, query.reason if query.reason is not None else query.hits) for query in found]


@dataclasses.dataclass(frozen=True)
class Query:
    """One face that was looked for, or a photo without any."""

    path: str
    face: int
    """Its number in its photo, the largest is 0."""
    faces: int
    """How many faces its photo has."""
    real: float | None
    """How real it looks to a gated encoder, 0 to 1."""
    hits: list[Hit]
    """Most similar first."""
    likenesses: list[Likeness]
    """Of it and each hit: their identities' cosine, and how real both look. Its parts are None without a gate, or where the index does
    not say how real the hit looks."""
    threshold: float | None
    """Similarity below which a hit is no match: given, or the encoder's own, if one was measured."""
    reason: str | None = None
    """Why nothing was looked for."""

    @property
    def altered(self) -> bool | None:
        """Whether it looks altered to a gated encoder."""
        return looks_altered(self.real)


def search_faces(
    index: str | os.PathLike[str],
    queries: Sequence[str | os.PathLike[str]],
    *,
    k: int = 10,
    settings: EmbedSettings | None = None,
    count: bool = False,
    threshold: float | None = None,
    fmr: float | None = None,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    pages: bool = False,
    fps: float | None = None,
    notice: Notify = lambda line: None,
) -> list[Query]:
    """The same with all that is known of each query; arguments and errors as for `search`.

    Args:
        count: count the faces of photos of which the largest is looked for; else ``faces`` is 1.
        threshold: what `Query.threshold` is; None takes the encoder's own.
        fmr: the false match rate instead, of those that were measured for the encoder.
        exclude: which files of folders are left out, as for `embed`.
        include: which of them are taken, as for `embed`.
        pages: whether the further pages of TIFFs are photos too.
        fps: frames a second of videos that are photos; None: none.
    """
    settings = settings or EmbedSettings()
    opened = FaceIndex(index, notice=notice)
    spec = loading.resolve_models(settings).encoder.spec
    limit, _ = threshold_of(spec, given=threshold, fmr=fmr)
    check_encoder(opened.files, opened.manifest, spec.name, spec.sha256)
    listing = list_photos(queries, choice=Choice(tuple(exclude), tuple(include), pages, fps))
    for line in listing.remarks():
        notice(line)
    paths = [photo.path for photo in listing.photos]
    if not paths:
        raise DataError("no query photos in what was given")
    embedded = embed_photos(paths, settings, every=settings.faces == "all", count=count, notice=notice)
    asked = [embedded.faces[path] for path in paths if path in embedded.faces]
    hits = iter(opened.search(np.concatenate(asked), k=k) if asked else [])
    result = []
    for path in paths:
        if path not in embedded.faces:
            result.append(Query(path, 0, 0, None, [], [], limit, embedded.failures[path]))
            continue
        real = realness(embedded.faces[path], spec)
        for number in range(len(embedded.faces[path])):
            mine, looks = next(hits), None if real is None else float(real[number])
            alike = [Likeness.by(hit.similarity, looks, hit.real) for hit in mine]
            result.append(Query(path, number, embedded.found.get(path, 1), looks, mine, alike, limit))
    return result
