"""Files that were made from an index and say who is in it: clusters, folders of links, maps.

The index's description keeps their paths, so that whoever is taken out of the index goes from them, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from faceembed.engine.index.clusters.links import has_links
from faceembed.engine.index.clusters.output import SCHEMA, read_clusters, write_clusters
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.lock import writing
from faceembed.engine.index.manifest import FIELD, FORGOTTEN, read_manifest
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.errors import FaceEmbedError
from faceembed.files import atomic_write

CLUSTERS, LINKS, PAGES = "clusters", "links", "pages"
_NUMBER = re.compile(r"(\d+)-")
_PATIENCE_SECONDS = 60


def note(index: str | os.PathLike[str], kind: str, path: str | os.PathLike[str], notice: Callable[[str], None]) -> None:
    """Keep in an index's description that a file was made from it; where that cannot be written, a line says so."""
    where = encode_path(os.path.abspath(path))
    faiss = IndexFiles.of(index).faiss
    try:
        if where in derived(read_manifest(IndexFiles.of(index)), kind):
            return
        with writing(faiss, wait_seconds=_PATIENCE_SECONDS):
            files = IndexFiles.of(faiss).ready()
            manifest = read_manifest(files, notice=notice, mend=True)
            made = dict(manifest.get(FIELD, {}))
            made[kind] = sorted({*made.get(kind, []), where})
            with atomic_write(files.json, "w") as file:
                json.dump({**manifest, FIELD: made}, file, indent=2)
                file.write("\n")
    except (OSError, FaceEmbedError) as error:
        notice(
            f"{faiss} cannot keep that {printable(where)} was made from it ({error}): name that to `faceembed remove` yourself"
        )


def derived(manifest: dict[str, Any], kind: str) -> list[str]:
    """The paths of that kind that were noted, as `encode_path` writes them."""
    return list(manifest.get(FIELD, {}).get(kind, []))


def is_forgetful(manifest: dict[str, Any]) -> bool:
    """Whether files may have been made of the index that are not noted, as the notes were damaged once."""
    return bool(manifest.get(FIELD, {}).get(FORGOTTEN))


def known_clusters_of(manifest: dict[str, Any], more: Collection[str] = ()) -> Iterator[str]:
    """The clusters' files that are still there, those noted and ``more``."""
    noted = [decode_path(path) for path in derived(manifest, CLUSTERS)]
    for path in dict.fromkeys([*map(os.path.abspath, more), *noted]):
        if path in more or os.path.exists(path):
            yield path


def without_faces(path: str, face_ids: Collection[int]) -> int:
    """Take faces out of a file of clusters; returns how many there were."""
    rows, about = read_clusters(path)
    kept = ~np.isin(rows.column("face_id").to_numpy(), list(face_ids))
    if kept.all():
        return 0
    rows = rows.filter(pa.array(kept))
    clusters = rows.column("cluster").to_numpy()
    sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    repeats = [None if other in face_ids else other for other in rows.column("duplicate_of").to_pylist()]
    rows = _with(rows, "size", sizes[2][sizes[1].ravel()] if len(clusters) else clusters)
    write_clusters(path, _with(rows, "duplicate_of", repeats), about)
    return int((~kept).sum())


def with_paths(path: str, now: Callable[[str], str]) -> None:
    """Change the paths in a file of clusters."""
    rows, about = read_clusters(path)
    paths = [encode_path(now(decode_path(text))) for text in rows.column("path").to_pylist()]
    write_clusters(path, _with(rows, "path", paths), about)


def _with(rows: pa.Table, name: str, values: Any) -> pa.Table:
    at = SCHEMA.get_field_index(name)
    return rows.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type))


def without_links(manifest: dict[str, Any], face_ids: Collection[int]) -> int:
    """Delete the links to faces in the folders of links; returns how many there were."""
    count = 0
    for folder in map(Path, map(decode_path, derived(manifest, LINKS))):
        for link in folder.glob("person-*/*") if has_links(folder) else ():
            number = _NUMBER.match(link.name)
            if link.is_symlink() and number and int(number[1]) in face_ids:
                link.unlink()
                count += 1
                with contextlib.suppress(OSError):  # others are in it
                    link.parent.rmdir()
    return count


def with_links(manifest: dict[str, Any], now: Callable[[str], str]) -> int:
    """Let the links in the folders of links lead to where their photos are now; returns how many were changed."""
    count = 0
    for folder in map(Path, map(decode_path, derived(manifest, LINKS))):
        for link in folder.glob("person-*/*") if has_links(folder) else ():
            if link.is_symlink() and (after := now(before := os.readlink(link))) != before:
                fresh = link.with_name(f".{link.name}.tmp")
                with contextlib.suppress(FileNotFoundError):  # of a run that was killed
                    fresh.unlink()
                fresh.symlink_to(after)
                fresh.replace(link)
                count += 1
    return count
