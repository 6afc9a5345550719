"""The JSON file of an index, which says what made it: its format, and whose embeddings the index holds."""

from __future__ import annotations

import json
from typing import Any

from faceembed.engine.index.faiss_file import AGAIN
from faceembed.engine.index.files import IndexFiles
from faceembed.errors import DataError, IndexFormatError

FORMAT = 2
_READ = (1, 2)  # 1: every vector was stored, also where copies of a photo have the same, and no effort was measured
_MANIFEST = {"encoder": dict, "dimension": int, "faces": int, "no_face": int, "failed": int, "next_face_id": int}


def read_manifest(files: IndexFiles) -> dict[str, Any]:
    """The JSON file of an index.

    Raises:
        DataError: there is no such index.
        IndexFormatError: it is damaged, or of a format that this version does not read.
    """
    try:
        manifest: dict[str, Any] = json.loads(files.json.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"no index at {files.faiss}; make one with: faceembed embed PHOTOS -o {files.faiss.name}"
        ) from error
    except (OSError, ValueError) as error:
        raise IndexFormatError(f"{files.json} is damaged ({error}); make the index again with --fresh") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise IndexFormatError(f"{files.json} is not the JSON of an index; {AGAIN}")
    if manifest["format"] not in _READ:
        raise IndexFormatError(f"{files.json} has format {manifest['format']}, this version reads {FORMAT}")
    for name, kind in _MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            raise IndexFormatError(f"{files.json} is damaged: no '{name}' in it; {AGAIN}")
    return manifest


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
