"""`faceembed index`: an index of a dataset, out of core.

    index_dataset("people/", "people.faiss", index_type="compact", memory=8 << 30)

Shards go one after the other through `index.assembly`, which ends `embed` too; in memory is what FAISS holds, and nothing besides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faceembed.engine.distribute.dataset import embeddings_of, errors_name, footer_of, read_manifest, shard_name
from faceembed.engine.distribute.store import Access, Store
from faceembed.engine.index.assembly import Assembly
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.kinds import NAMED_TYPES, bytes_in_memory, check_index_type
from faceembed.engine.index.lock import writing
from faceembed.engine.index.manifest import read_manifest as read_manifest_of
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.training import check_number
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, decode_path, encode_path
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import DataError, IndexFormatError, UsageError
from faceembed.version import __version__

MEMORY = 8 << 30
FLAT_FACES = 200_000
"""Faces up to which `auto` searches them all: some milliseconds a query."""


@dataclasses.dataclass(frozen=True)
class IndexReport:
    """What was made; the fields of ``index --json``."""

    faces: int
    no_face: int
    failed: int
    shards: int
    kind: str
    """``flat``, ``hnsw``, ``ivf``, ``compact`` or a FAISS factory string."""
    bytes: int
    """Of all files of the index."""
    bytes_in_memory: int
    """Of the FAISS file, which a search holds in memory."""
    search: list[dict[str, Any]]
    """How hard it is searched for each k, and what share of the nearest was found when that was measured."""
    seconds: float
    index: str

    def to_json_dict(self) -> dict[str, Any]:
        """As plain types; paths are valid UTF-8."""
        return {**dataclasses.asdict(self), "index": encode_path(self.index)}


def index_dataset(
    dataset: str,
    output: str | os.PathLike[str],
    *,
    index_type: str = "auto",
    memory: int = MEMORY,
    access: Access | None = None,
    notice: Callable[[str], None] = lambda line: None,
) -> IndexReport:
    """Make an index of a dataset, in place of one of that name.

    Args:
        dataset: a folder or an address that `embed_dataset` filled.
        output: the index's name, ending in ``.faiss``.
        index_type: ``auto``, ``flat``, ``hnsw``, ``ivf``, ``compact`` or a FAISS factory string.
        memory: bytes that building it may take.
        access: how object stores are reached.
        notice: called with lines for the user.

    Raises:
        DataError: there is no dataset, or it holds no faces.
        IndexFormatError: a shard is damaged.
        UsageError: the kind cannot be made of these faces, or needs more memory.
        IndexBusyError: another process writes the index.
    """
    started = time.perf_counter()
    store = Store.of(dataset, access or Access())
    manifest = read_manifest(store)
    if manifest is None:
        raise DataError(f"no dataset at {dataset}; make one with: faceembed embed PHOTOS -o {dataset}")
    shards = sorted(name.removesuffix(".parquet") for name in store.sizes("shards"))
    dimension = int(manifest["dimension"])
    faces = sum(_faces_in(store, shard) for shard in shards)
    if not faces:
        raise DataError(f"{dataset} holds no faces yet; `faceembed status {dataset}` says how far it is")
    kind = _kind(index_type, dimension, faces, memory)
    files = IndexFiles.of(output)
    files.faiss.parent.mkdir(parents=True, exist_ok=True)
    with writing(files.faiss):
        files = files.ready()
        failures = list(_failures(store))
        no_face = sum(failure.stage in ("detect", "align") for failure in failures)
        about = {key: manifest[key] for key in manifest["fingerprint"]}
        description = {
            **about,
            **dict.fromkeys(("device", "runtime", "precision"), "none"),
            "index": kind,
            "roots": list(manifest.get("roots", [])),
            "selections": [],
            "derived": {},
            "removed": [],
            "faces": faces,
            "no_face": no_face,
            "failed": len(failures) - no_face,
            "next_face_id": faces,
            "faceembed": __version__,
        }
        with contextlib.closing(Assembly(files, dimension, kind)) as assembly:
            for shard in shards:
                assembly.add(_faces_of(store, shard, len(assembly)))
            if len(assembly) != faces:
                raise IndexFormatError(
                    f"{dataset} has changed meanwhile: {len(assembly):,} faces, {faces:,} before; run it again"
                )
            assembly.finish(failures, description, kind, notice=notice)
    from_disk = IndexFiles.of(output)
    sizes = {path: path.stat().st_size for path in from_disk.all_files() if path.exists()}
    return IndexReport(
        faces=faces,
        no_face=no_face,
        failed=len(failures) - no_face,
        shards=len(shards),
        kind=kind,
        bytes=sum(sizes.values()),
        bytes_in_memory=sizes[from_disk.faiss],
        search=list(read_manifest_of(from_disk)["search"]),
        seconds=round(time.perf_counter() - started, 3),
        index=str(from_disk.faiss),
    )


def _kind(index_type: str, dimension: int, faces: int, memory: int) -> str:
    """The kind to build.

    Raises:
        UsageError: it needs more memory, or cannot be made of so few.
    """
    if index_type == "auto":
        if faces <= FLAT_FACES:
            return "flat"
        return (
            "ivf" if bytes_in_memory("ivf", dimension, faces) <= memory else _kind("compact", dimension, faces, memory)
        )
    check_index_type(index_type, dimension)
    check_number(index_type, dimension, faces, there=f"{faces:,}")
    if index_type in NAMED_TYPES and (needed := bytes_in_memory(index_type, dimension, faces)) > memory:
        smaller = "" if index_type == "compact" else ", or --index compact"
        raise UsageError(
            f"--index {index_type} of {faces:,} faces takes about {needed / (1 << 30):.1f} GiB of memory, and --memory allows "
            f"{memory / (1 << 30):.1f}; allow more{smaller}"
        )
    return index_type


def _table(store: Store, shard: str) -> Any:
    try:
        with store.opened(shard_name(shard)) as file:
            return pq.ParquetFile(file).read(use_threads=False)
    except (pa.ArrowException, ValueError) as error:
        raise _damaged(store, shard, error) from error


def _damaged(store: Store, shard: str, error: Exception) -> IndexFormatError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return IndexFormatError(
        f"{store.address}/{shard_name(shard)} is damaged ({reason}); run `faceembed embed` into it again"
    )


def _faces_in(store: Store, shard: str) -> int:
    try:
        with store.opened(shard_name(shard)) as file:
            return footer_of(pq.read_schema(file)).faces
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise _damaged(store, shard, error) from error


def _faces_of(store: Store, shard: str, first_id: int) -> FaceTable:
    """A shard's faces, with ids from ``first_id``, and vectors of unit length also where they were kept in float16."""
    table = _table(store, shard)
    vectors = embeddings_of(table)
    if table.schema.field("embedding").type.value_type == pa.float16():
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = table.select(FACE_SCHEMA.names).replace_schema_metadata(None)
    ids = column(np.arange(first_id, first_id + len(rows)), pa.int64())
    return FaceTable(rows.set_column(0, FACE_SCHEMA.field("face_id"), ids), vectors)


def _failures(store: Store) -> Iterator[Failure]:
    for name in sorted(store.sizes("errors")):
        with store.opened(errors_name(name.removesuffix(".parquet"))) as file:
            table = pq.ParquetFile(file).read(use_threads=False)
        for row in table.to_pylist():
            photo = PhotoFile(decode_path(row["path"]), row["size"], row["mtime_ns"], row["ctime_ns"], row["digest"])
            yield Failure(photo, row["stage"], row["reason"])
