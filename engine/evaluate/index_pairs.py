"""Pairs whose embeddings are in an index already: nothing is looked at or computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.index.files import IndexFiles, read_whole
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.failures import read_errors
from faceembed.errors import DataError, PairListError


def vectors_in(
    pairs: PairList, index: str | os.PathLike[str], *, notice: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, NDArray[np.float32]], dict[str, str], str, dict[str, dict[str, Any]]]:
    """The embeddings of a list's photos, or faces, as an index has them.

    Args:
        pairs: of photos, by the paths that the index has, with or without links in them; or of faces by ``face_id``.
        index: made by `embed`.
        notice: called with lines for the user.

    Returns:
        Path or id to float32 (D,), a photo's largest face; photo to the reason why it has no face; the encoder's name; and path or id to the
        columns of its row.

    Raises:
        DataError: no such index.
        PairListError: the index does not know some of them.
    """
    table, reasons, encoder = read_whole(index, lambda files: _loaded(files, notice))
    rows: dict[str, int] = {}
    if pairs.rows:
        rows = {str(face_id): row for row, face_id in enumerate(table.rows.column("face_id").to_pylist())}
    else:
        for row, photo in enumerate(table.photos()):  # a photo's first row is its largest face
            rows.setdefault(photo.path, row)
    vectors, failures, unknown = {}, {}, []
    chosen: dict[str, int] = {}
    for name in pairs.photos:
        known = name if pairs.rows or name in rows or name in reasons else os.path.realpath(name)
        if known in rows:
            vectors[name] = np.asarray(table.vectors[rows[known]], np.float32)
            chosen[name] = rows[known]
        elif known in reasons:
            failures[name] = reasons[known]
        else:
            unknown.append(name)
    if unknown:
        what = "faces" if pairs.rows else "photos"
        raise PairListError(
            f"{pairs.source}: {len(unknown)} of {len(pairs.photos)} {what} are not in {os.fspath(index)}, the first is {unknown[0]!r}; "
            "correct the list, or say with --root which folder its paths are relative to"
        )
    measured = table.rows.select([name for name in table.rows.column_names if name not in ("landmarks", "path")])
    known_rows = {name: measured.slice(row, 1).to_pylist()[0] for name, row in chosen.items()}
    return vectors, failures, encoder, known_rows


def _loaded(files: IndexFiles, notice: Callable[[str], None]) -> tuple[FaceTable, dict[str, str], str]:
    """All faces, the reasons of the photos without one, and the encoder's name."""
    if not files.exists():
        raise DataError(f"{files.faiss}: there is no index; make one: faceembed embed photos -o {files.faiss}")
    reasons = {failure.photo.path: failure.reason for failure in read_errors(files.errors)}
    return load_faces(files), reasons, str(read_manifest(files, notice=notice)["encoder"]["name"])
