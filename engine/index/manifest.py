"""The JSON file of an index, which says what made it: its format, and whose embeddings the index holds.

A copy of it is in the metadata of the table of faces, for the day it is damaged: a shell empties it for
``faceembed search p.faiss q.jpg --json > p.faiss.json`` before the command can object.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from faceembed.engine.index.faiss_file import AGAIN
from faceembed.engine.index.files import IndexFiles
from faceembed.errors import DataError, IndexFormatError
from faceembed.files import atomic_write

FORMAT = 2
_READ = (1, 2)  # 1: every vector was stored, also where copies of a photo have the same, and no effort was measured
_MANIFEST = {"encoder": dict, "dimension": int, "faces": int, "no_face": int, "failed": int, "next_face_id": int}
COPY = "faceembed"
"""The name of the copy in the table's metadata."""
FIELD = "derived"
"""What was made from the index (`derived`)."""
FORGOTTEN = "forgotten"
"""In it: the copy has taken the JSON's place, and does not know of what was made after it was written."""


def read_manifest(
    files: IndexFiles, *, notice: Callable[[str], None] = lambda line: None, mend: bool = False
) -> dict[str, Any]:
    """The JSON file of an index, or its copy where it is damaged.

    Args:
        notice: called with a line where the copy is used.
        mend: write it anew then; for who holds the lock.

    Raises:
        DataError: there is no such index.
        IndexFormatError: it is damaged and there is no copy, or of a format that this version does not read.
    """
    try:
        manifest: dict[str, Any] = json.loads(files.json.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"no index at {files.faiss}; make one with: faceembed embed PHOTOS -o {files.faiss.name}"
        ) from error
    except OSError as error:
        raise IndexFormatError(f"{files.json} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        if (copy := _copy_of(files)) is None:
            raise IndexFormatError(f"{files.json} is damaged ({error}); make the index again with --fresh") from error
        manifest = {**copy, FIELD: {**copy.get(FIELD, {}), FORGOTTEN: [files.json.name]}}
        done = "written anew from" if mend else "read from"
        notice(
            f"{files.json} is damaged ({error}) and was {done} the copy in {files.parquet.name}, which does not know of clusters, "
            "links and maps made since"
        )
        if mend:
            with atomic_write(files.json, "w") as file:
                file.write(json.dumps(manifest, indent=2) + "\n")
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise IndexFormatError(f"{files.json} is not the JSON of an index; {AGAIN}")
    if manifest["format"] not in _READ:
        raise IndexFormatError(f"{files.json} has format {manifest['format']}, this version reads {FORMAT}")
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            raise IndexFormatError(f"{files.json} is damaged: no '{name}' in it; {AGAIN}")
    return manifest


def _copy_of(files: IndexFiles) -> dict[str, Any] | None:
    """The copy in the table of faces; None without one, as of versions before."""
    try:
        with open(files.parquet, "rb") as file:
            copy = json.loads((pq.read_schema(file).metadata or {})[COPY.encode()])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return copy if isinstance(copy, dict) else None


def check_encoder(files: IndexFiles, manifest: dict[str, Any], name: str, sha256: str) -> None:
    """Refuse an index of another encoder: its similarities would mean nothing.

    Raises:
        IndexFormatError: the digests differ.
    """
    stored, digest = (str(manifest["encoder"].get(key)) for key in ("name", "sha256"))
    if digest != sha256:
        raise IndexFormatError(
            f"{files.faiss} was made with encoder {stored} ({digest[:12]}), not {name} ({sha256[:12]}); "
            f"use --encoder {stored}, or make it again with --fresh"
        )
