"""The verb `search`: the faces of an index that are most similar to those of query photos."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from faceembed.engine.index.manifest import check_encoder
from faceembed.engine.index.store import FaceIndex, Hit, Track
from faceembed.engine.index.tracks import Seen, TrackRule, tracks_of
from faceembed.engine.models.thresholds import threshold_of
from faceembed.engine.photos.archives.names import SEPARATOR
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.few_photos import Embedded, embed_photos
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
        queries: photo files and folders; the largest face of each is looked for, of a video's frames (``fps``) each track by its best one.
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
    track: Track | None = None
    """Where it stands for a track of a video."""

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
    asked = _asked(embedded, paths, notice)
    vectors = [embedded.faces[path][number] for path, number, _ in asked if number is not None]
    hits = iter(opened.search(np.stack(vectors), k=k) if vectors else [])
    result = []
    for path, number, track in asked:
        if number is None:
            result.append(Query(path, 0, 0, None, [], [], limit, embedded.failures[path]))
            continue
        real = realness(embedded.faces[path][number : number + 1], spec)
        mine, looks = next(hits), None if real is None else float(real[0])
        alike = [Likeness.by(hit.similarity, looks, hit.real) for hit in mine]
        result.append(Query(path, number, embedded.found.get(path, 1), looks, mine, alike, limit, track=track))
    return result


def _asked(embedded: Embedded, paths: Sequence[str], notice: Notify) -> list[tuple[str, int | None, Track | None]]:
    """What is looked for, in the order of ``paths``: each face by its number, of a video each track by its best one; None where there is none."""
    faces = [(path, number) for path in paths for number in range(len(embedded.faces.get(path, ())))]
    tracks: dict[tuple[str, int], Track] = {}
    shown: set[str] = set()
    rule = TrackRule.of(embedded.spec)
    if rule and faces:
        boxes, norms = (
            np.concatenate([embedded.places[path][part] for path in paths if path in embedded.places])
            for part in (0, 1)
        )
        every = np.concatenate([embedded.faces[path] for path in paths if path in embedded.faces])
        for track in tracks_of(Seen([path for path, _ in faces], boxes, norms.tolist(), every), rule):
            shown |= {faces[row][0] for row in track.rows}
            tracks[faces[track.best]] = Track(track.first_ms, track.last_ms, len(track.rows))
    videos = {path.rpartition(SEPARATOR)[0] for path in shown}
    empty = [path for path in paths if path not in embedded.faces and path.rpartition(SEPARATOR)[0] in videos]
    if empty:
        notice(f"{len(empty):,} frames of videos that show faces have none, the first is {printable(empty[0])}")
    asked: list[tuple[str, int | None, Track | None]] = []
    for path in paths:
        if path in embedded.faces:
            numbers = range(len(embedded.faces[path]))
            asked += [(path, n, tracks.get((path, n))) for n in numbers if path not in shown or (path, n) in tracks]
        elif path not in empty:
            asked.append((path, None, None))
    return asked
