"""A dataset of faces: many objects, each whole, so that any number of machines write it and many tools read it.

    OUT/manifest.json             what made it: encoder, settings, version; counts of the last run
    OUT/shards/<id>.parquet       one row a face, with its embedding
    OUT/errors/<id>.parquet       the shard's photos without a face, and why
    OUT/plan/<number>.parquet     which photos make which shard, a row group a shard

A shard's id is the hash of its photos, their sizes and times, and of what makes the embeddings. So a shard is done if its object is
there and its footer counts as many photos as the plan; nothing is appended, and work done twice gives the same object once.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.distribute.store import Store
from faceembed.engine.index.update import TRANSIENT
from faceembed.engine.photos.columns import column
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import encode_path
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import IndexFormatError, UsageError

MANIFEST = "manifest.json"
LEASE = "lease.json"
"""Who writes it now, where there is nothing to lock but objects."""
FORMAT = 1
SAMPLE = 32
"""Embeddings of each shard that its footer holds, to train an index on without reading the shards."""
DTYPES = {"float32": pa.float32(), "float16": pa.float16()}
_ERRORS = pa.schema(
    [
        ("path", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("ctime_ns", pa.int64()),
        ("digest", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Footer:
    """What a shard's footer says."""

    photos: int
    faces: int
    failures: int
    no_face: int
    transient: int
    """Failures that the next run tries again: photos that could not be read."""
    precision: str
    """Of the encoder on the node that computed it."""


def open_manifest(store: Store, fingerprint: dict[str, Any], *, dtype: str, fresh: bool) -> dict[str, Any]:
    """The description of a dataset, made if there is none.

    Raises:
        IndexFormatError: it was made by another encoder or with other settings, or is damaged.
        UsageError: something else lies there.
    """
    settings = {**fingerprint, "embedding": dtype}
    found = None if fresh else read_manifest(store)
    if found is None:
        if not fresh and (others := sorted(store.sizes("").keys() - {LEASE})):
            raise UsageError(
                f"{store.address} is no dataset of ours and not empty (it holds {others[0]}); give another -o"
            )
        found = {"format": FORMAT, **settings, "fingerprint": sorted(fingerprint)}
        write_manifest(store, found)
    else:
        different = sorted(key for key in settings if found.get(key) != settings[key])
        if different:
            raise IndexFormatError(
                f"{store.address} was made with another {', '.join(different)} ({found.get(different[0])!r}, now "
                f"{settings[different[0]]!r}); give another -o, or --fresh to start over"
            )
    return found


def read_manifest(store: Store) -> dict[str, Any] | None:
    """The description of a dataset; None if there is none.

    Raises:
        IndexFormatError: it is damaged.
    """
    data = store.read(MANIFEST)
    if data is None:
        return None
    try:
        found = dict(json.loads(data))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}, this version reads {FORMAT}")
    except (ValueError, TypeError, KeyError) as error:
        raise IndexFormatError(f"{store.address}/{MANIFEST} is damaged ({error}); start over with --fresh") from error
    return found


def fingerprint_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What made the embeddings of a dataset.

    Raises:
        KeyError: the description is damaged.
    """
    return {key: manifest[key] for key in manifest["fingerprint"]}


def write_manifest(store: Store, manifest: dict[str, Any]) -> None:
    """Put the description there."""
    store.write(MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())


def shard_name(shard: str) -> str:
    """Where a shard's faces are."""
    return f"shards/{shard}.parquet"


def errors_name(shard: str) -> str:
    """Where its photos without a face are."""
    return f"errors/{shard}.parquet"


def write_shard(
    store: Store,
    shard: str,
    rows: Any,
    vectors: NDArray[np.float32],
    failures: Sequence[Failure],
    *,
    photos: int,
    precision: str,
    dtype: str,
) -> Footer:
    """Put a finished shard there, its failures first: where the shard is, all of it is.

    Args:
        rows: a table of `FACE_SCHEMA`; ``face_id`` is made here, of the photo's path and the face's number.
        vectors: float32 (F, D), row for row.
        photos: how many there were.
        precision: they were encoded at.
        dtype: of the embeddings on disk, one of `DTYPES`.

    Raises:
        DataError: the store cannot be reached.
        OSError: the disk is full, say.
    """
    dimension = vectors.shape[1]
    if dtype == "float16":
        flat = pa.Array.from_buffers(pa.float16(), vectors.size, [None, pa.py_buffer(vectors.astype(np.float16))])
    else:
        flat = column(vectors.ravel(), pa.float32())
    ids = _face_ids(rows)
    rows = rows.set_column(0, FACE_SCHEMA.field("face_id"), column(ids, pa.int64()))
    no_face = sum(failure.stage in ("detect", "align") for failure in failures)
    transient = sum(failure.stage in TRANSIENT for failure in failures)
    footer = Footer(photos, len(rows), len(failures), no_face, transient, precision)
    picked = vectors[:: max(1, len(vectors) // SAMPLE)][:SAMPLE].astype(np.float16)
    about = {
        "faceembed": json.dumps(dataclasses.asdict(footer)),
        "sample": base64.b64encode(picked.tobytes()).decode(),
    }
    table = rows.append_column("embedding", pa.FixedSizeListArray.from_arrays(flat, dimension))
    write_failures(store, shard, failures)
    store.write(shard_name(shard), _parquet(table.replace_schema_metadata(about)))
    return footer


def write_failures(store: Store, name: str, failures: Sequence[Failure]) -> None:
    """Put the photos without a face there, of a shard or of the listing."""
    store.write(errors_name(name), _parquet(_error_table(failures)))


def read_footer(store: Store, shard: str) -> Footer | None:
    """What a shard's footer says; None where it is damaged or not there. No face is read."""
    try:
        with store.opened(shard_name(shard)) as file:
            return footer_of(pq.read_schema(file))
    except (pa.ArrowException, KeyError, TypeError, ValueError, FileNotFoundError):
        return None


def footer_of(schema: Any) -> Footer:
    """The same of a schema that was read already.

    Raises:
        KeyError, TypeError, ValueError: it is no shard's.
    """
    return Footer(**json.loads((schema.metadata or {})[b"faceembed"]))


def sample_of(schema: Any) -> NDArray[np.float32]:
    """The embeddings that a shard's footer holds: float32 (up to `SAMPLE`, D), unit length within float16's precision."""
    dimension = schema.field("embedding").type.list_size
    data = base64.b64decode(schema.metadata[b"sample"])
    return np.frombuffer(data, np.float16).reshape(-1, dimension).astype(np.float32)


def embeddings_of(table: Any) -> NDArray[np.float32]:
    """The embeddings of a shard's rows: float32 (F, D)."""
    lists = table.column("embedding").combine_chunks()
    kind = np.float16 if lists.type.value_type == pa.float16() else np.float32
    values = lists.flatten()
    data = (
        np.frombuffer(values.buffers()[1], kind)[values.offset : values.offset + len(values)]
        if len(values)
        else np.zeros(0, kind)
    )
    return np.asarray(data.reshape(-1, lists.type.list_size), np.float32)


def _parquet(table: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="none", use_dictionary=False)
    return out.getvalue()


def _error_table(failures: Sequence[Failure]) -> Any:
    rows = [
        (encode_path(f.photo.path), f.stage, f.reason, f.photo.size, f.photo.mtime_ns, f.photo.ctime_ns, f.photo.digest)
        for f in failures
    ]
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in _ERRORS]
    return pa.Table.from_arrays(
        [column(list(values), field.type) for values, field in zip(columns, _ERRORS, strict=True)], schema=_ERRORS
    )


def _face_ids(rows: Any) -> NDArray[np.int64]:
    """63 bits of the hash of path and number: the same in every run, and in every shard another."""
    names = zip(rows.column("path").to_pylist(), rows.column("face").to_pylist(), strict=True)
    digests = (blake3.blake3(f"{path}\0{face}".encode()).digest(8) for path, face in names)
    return np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], np.int64)
