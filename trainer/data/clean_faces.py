"""What cleaning is told of photos: their embeddings, from an index that is there or from one it makes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import read_whole
from faceembed.engine.index.manifest import check_encoder, read_manifest
from faceembed.engine.index.pictures import Pictures
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.failures import read_errors
from faceembed.engine.photos.photo_file import decode_path, printable
from faceembed.engine.photos.places import as_listed
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.encodes import identities
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import embed
from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.people import People

INDEX = "photos.faiss"
NO_FACE = "no face"

Floats = NDArray[np.float32]
Notify = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class PeopleFaces:
    """What cleaning is told of the photos of a set of people."""

    vectors: dict[str, Floats]
    """Path to the embedding of its largest face, unit length; of a gated encoder, to the identity in it."""
    failures: dict[str, str]
    """Path to why there is none."""
    pictures: Pictures
    encoder: str


def embed_people(
    people: People,
    output: str | os.PathLike[str],
    settings: EmbedSettings,
    index: str | os.PathLike[str] | None = None,
    *,
    notice: Notify = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> PeopleFaces:
    """The embeddings, from an index that is there or from one that is made in ``output``.

    Raises:
        DataError: photos that the index lacks.
        UsageError: an index of all faces.
        IndexFormatError: the index is another encoder's.
    """
    settings = dataclasses.replace(settings, faces="largest")
    spec = loading.resolve_models(settings).encoder.spec
    folders = sorted({os.path.dirname(sample.path) for sample in people.samples})
    roots = [people.source] if os.path.isdir(people.source) else folders
    if index is None:
        index = os.path.join(output, INDEX)
        embed(roots, index, settings=settings, prune=True, notice=notice, progress=progress)
    files, manifest, table = read_whole(
        index, lambda files: (files, read_manifest(files, notice=notice), load_faces(files))
    )
    check_encoder(files, manifest, spec.name, spec.sha256)
    if manifest.get("choice_of_faces") != "largest":
        raise UsageError(f"{files.faiss} holds every face of a photo; make it with --faces largest")
    wanted = {sample.path for sample in people.samples}
    named = {as_listed(path, roots): path for path in wanted} | {path: path for path in wanted}
    paths = [decode_path(path) for path in table.rows.column("path").to_pylist()]
    rows = {named[path]: row for row, path in enumerate(paths) if path in named}
    errors = read_errors(files.errors)
    failures = {e.photo.path: NO_FACE if e.stage in ("detect", "align") else e.reason for e in errors}
    failures = {named[path]: reason for path, reason in failures.items() if path in named and named[path] not in rows}
    if missing := sorted(wanted - rows.keys() - failures.keys()):
        raise DataError(
            f"{files.faiss} lacks {len(missing):,} of {len(wanted):,} photos, the first is {printable(missing[0])}; "
            "embed the whole set, or leave --index out"
        )
    boxes = np.stack([table.rows.column(name).to_numpy() for name in "xywh"], axis=1)
    landmarks = table.rows.column("landmarks").combine_chunks().flatten().to_numpy().reshape(-1, 10)
    pictures = Pictures({p: boxes[i] for p, i in rows.items()}, {p: landmarks[i] for p, i in rows.items()}, spec)
    vectors = identities(table.vectors) if spec.gated else table.vectors
    return PeopleFaces({path: vectors[i] for path, i in rows.items()}, failures, pictures, spec.name)
