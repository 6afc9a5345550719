"""The rows that describe faces, and their columns on disk (parquet)."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from faceembed.engine.photos.photo_columns import PhotoColumns
from faceembed.engine.photos.photo_file import PhotoFile, decode_path
from faceembed.errors import IndexFormatError

FACE_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("face_id", pa.int64()),
    ("path", pa.string()),  # through `encode_path`
    ("face", pa.int32()),  # 0 for a photo's first face
    ("x", pa.float32()),  # the box, continuous pixels of the full upright photo
    ("y", pa.float32()),
    ("w", pa.float32()),
    ("h", pa.float32()),
    ("landmarks", pa.list_(pa.float32(), 10)),  # x, y of left eye, right eye, nose tip, left and right mouth corner
    ("score", pa.float32()),
    ("norm", pa.float32()),
    ("image_width", pa.int32()),
    ("image_height", pa.int32()),
    ("size", pa.int64()),  # of the file, bytes
    ("mtime_ns", pa.int64()),
    ("ctime_ns", pa.int64()),  # 0 where it was not looked at
    ("digest", pa.string()),  # of the file's bytes, `digest_of`; empty where they were not read
    ("real", pa.float32()),  # how real the face looks to a gated encoder, 0 to 1; null without a gate
    (
        "quality",
        pa.float32(),
    ),  # the share of training photos with a smaller norm, 0 to 1; null where the encoder keeps none
    ("sharpness", pa.float32()),  # variance of the chip's Laplacian; null where chips stay on a card
    ("yaw", pa.float32()),  # degrees, an estimate from the landmarks
    ("roll", pa.float32()),
    ("first_ms", pa.int64()),  # of a track in a video: when it begins and ends, milliseconds; null for a photo
    ("last_ms", pa.int64()),
    ("frames", pa.int32()),  # in which its face was found
)
_SINCE_THEN: dict[str, Any] = {
    "ctime_ns": 0,
    "digest": "",
    "real": None,
    **dict.fromkeys(("quality", "sharpness", "yaw", "roll", "first_ms", "last_ms", "frames")),
}
"""Columns that tables of older versions lack, and what they mean there."""
FACE_SCHEMA = pa.schema(list(FACE_COLUMNS))


PHOTO_COLUMNS = ("path", "size", "mtime_ns", "ctime_ns", "digest")
"""The columns of a table of faces that say which file a face is from."""


def photos_of(rows: pa.Table) -> list[PhotoFile]:
    """The file of each row of a table with `PHOTO_COLUMNS`."""
    columns = [rows.column(name).to_pylist() for name in PHOTO_COLUMNS]
    return [PhotoFile(decode_path(path), *rest) for path, *rest in zip(*columns, strict=True)]


def paths_of(rows: pa.Table) -> list[str]:
    """The path of each row's file, alone."""
    return [decode_path(path) for path in rows.column("path").to_pylist()]


def file_columns(photos: Sequence[PhotoFile]) -> dict[str, list[Any]]:
    """The values of `PHOTO_COLUMNS`."""
    columns = PhotoColumns.of(photos)
    return {
        "path": columns.encoded_paths(),
        "size": columns.sizes,
        "mtime_ns": columns.mtimes,
        "ctime_ns": columns.ctimes,
        "digest": columns.digests,
    }


def read_parquet(path: str | os.PathLike[str], columns: Sequence[str] | None = None, *, advice: str) -> Any:
    """A parquet file as an Arrow table.

    Args:
        path: any file name; Arrow by itself opens only names that are UTF-8.
        columns: those wanted, all of which must be there; None for those of `FACE_SCHEMA` and whatever else there is.
        advice: what to do if it is damaged, for the message.

    Raises:
        IndexFormatError: missing, damaged, or without one of the columns.
    """
    with _said(path, advice):
        opened = _opened(path)
        lacking = _lacking(opened.schema_arrow.names)
        wanted = [name for name in columns if name not in lacking] if columns else None
        table = _completed(opened.read(wanted, use_threads=False), lacking, columns)
    return _checked(table, path, columns, advice)


def row_batches(path: str | os.PathLike[str], *, rows: int, advice: str) -> Iterator[Any]:
    """The same file in tables of up to ``rows`` rows, of which one is in memory at a time.

    Raises:
        IndexFormatError: as `read_parquet`.
    """
    with _said(path, advice):
        opened = _opened(path)
        lacking = _lacking(opened.schema_arrow.names)
        for batch in opened.iter_batches(rows, use_threads=False):
            yield _checked(_completed(pa.Table.from_batches([batch]), lacking, None), path, None, advice)


def has_column(path: str | os.PathLike[str], name: str) -> bool:
    """Whether a parquet file that can be read has a column."""
    return name in _opened(path).schema_arrow.names


def _opened(path: str | os.PathLike[str]) -> Any:
    # Mapped, and not given to Arrow as a Python file: its threads may still read from one after an error closed it.
    with open(path, "rb") as file:
        data = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    # In this thread alone: with threads of Arrow's own a process now and then aborts at its end
    # (https://github.com/apache/arrow/issues/34314; 1 of 31 scripts that embedded twice).
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


@contextlib.contextmanager
def _said(path: str | os.PathLike[str], advice: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise IndexFormatError(f"{os.fspath(path)} cannot be read ({reason}); {advice}") from error


def _completed(table: Any, lacking: Sequence[str], columns: Sequence[str] | None) -> Any:
    """With the columns that older versions did not write, as far as they are wanted."""
    for name in lacking if columns is None else [name for name in columns if name in lacking]:
        values = pa.array([_SINCE_THEN[name]] * len(table), FACE_SCHEMA.field(name).type)
        at = min(FACE_SCHEMA.get_field_index(name), len(table.column_names))
        table = table.add_column(at, FACE_SCHEMA.field(name), values)
    return table


def _checked(table: Any, path: str | os.PathLike[str], columns: Sequence[str] | None, advice: str) -> Any:
    if missing := [name for name in columns or FACE_SCHEMA.names if name not in table.column_names]:
        raise IndexFormatError(f"{os.fspath(path)} has no column '{missing[0]}'; {advice}")
    return table


def _lacking(names: Sequence[str]) -> list[str]:
    """The columns that a table of faces is too old to have."""
    return [name for name in _SINCE_THEN if name not in names] if {"face_id", "landmarks"} <= set(names) else []
