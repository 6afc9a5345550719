"""A new set of an index's files, put together from pieces of which one is in memory at a time.

    with contextlib.closing(Assembly(files, dimension, "flat")) as new:
        for piece in pieces:
            new.add(piece)                     # rows and vectors
        new.finish(failures, manifest, "flat")

What stays in memory of a face is 24 bytes: its id, a number that tells copies of its vector, and the id under which that is stored.
Rows go through a file of Arrow's, as the last column of the table, the id of the first copy, is known only when all vectors have
been seen. Kinds of index that FAISS builds are in memory once, and nothing besides.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.index.copies import first_by, keys_of
from faceembed.engine.index.faiss_build import build_faiss, write_faiss
from faceembed.engine.index.faiss_file import inner_of, is_lossless
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.manifest import COPY, FORMAT
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.trial import found_text, tried
from faceembed.engine.index.vector_file import VectorFile, writes_flat
from faceembed.engine.photos.columns import column, numbers
from faceembed.engine.photos.failures import Failure, format_errors
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.files import atomic_write
from faceembed.plain import to_json

VECTOR_ID = "vector_id"
"""Column of the parquet file: the ``face_id`` under which the face's vector is in the FAISS file, the smallest of those that have
these very bits."""
ROWS = 65_536
"""Rows in memory at a time, and in a row group of the table."""
_ROWS_FILE = "rows.arrow"
_VECTORS_FILE = "vectors.raw"
_ONCE_FILE = "once.raw"


class Assembly:
    """Files in the making; leaving it without `finish` leaves the index as it was.

    Args:
        files: of the index; whoever makes one holds its lock.
        dimension: of the vectors, where none are added.
        index_type: the kind that will most likely be finished with: a flat one is written as vectors come.
    """

    def __init__(self, files: IndexFiles, dimension: int, index_type: str) -> None:
        self._files = files
        files.clear_staged()
        self._dimension, self._index_type = dimension, index_type
        self._spilled: Any = None
        self._once: VectorFile | None = None
        self._rows: list[Any] = []
        self._waiting = 0
        self._ids: list[NDArray[np.int64]] = []
        self._keys: list[NDArray[np.uint64]] = []

    @functools.cached_property
    def _direct(self) -> bool:
        """Whether the vectors go straight into the file of a flat index."""
        return self._index_type == "flat" and writes_flat(self._dimension)

    @functools.cached_property
    def _vectors(self) -> VectorFile:
        files = self._files
        place = files.staged(files.faiss) if self._direct else files.partial / _VECTORS_FILE
        return VectorFile(place, self._dimension, flat=self._direct)

    def close(self) -> None:
        """Remove what was needed on the way."""
        if self._spilled is not None:
            self._spilled.close()
        self._vectors.leave(keep=self._direct)
        if self._once is not None:
            self._once.leave(keep=False)
        with contextlib.suppress(FileNotFoundError):
            self._rows_path.unlink()

    def __len__(self) -> int:
        return self._vectors.count

    def add(self, faces: FaceTable) -> None:
        """Add faces with their ids in ``face_id``."""
        if len(faces) and not self._ids:
            self._dimension = faces.vectors.shape[1]
        for start in range(0, len(faces), ROWS):
            rows, vectors = faces.rows.slice(start, ROWS), faces.vectors[start : start + ROWS]
            self._vectors.add(vectors)
            self._ids.append(numbers(rows.column("face_id")).copy())
            self._keys.append(keys_of(vectors))
            self._rows.append(rows)
            self._waiting += len(rows)
            if self._waiting >= ROWS:
                self._spill()

    def finish(
        self,
        failures: Sequence[Failure],
        manifest: dict[str, Any],
        index_type: str,
        *,
        notice: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Make the files and exchange them for the old ones, all or nothing.

        What is built is tried before it is written: on some of its own faces, against exact search.

        Raises:
            UsageError: an index of this kind cannot be made of these faces, or does not find what is nearest. It may be finished
                with another kind then.
        """
        files = self._files
        ids = np.concatenate(self._ids) if self._ids else np.zeros(0, np.int64)
        self._ids = [ids]
        keys = np.concatenate(self._keys) if self._keys else np.zeros(0, np.uint64)
        self._keys = [keys]
        vectors = self._vectors.vectors()
        first = first_by(keys, ids, lambda rows: vectors[rows])
        searched: dict[str, Any] = {"search": [], "unlinked": ()}
        if index_type == "flat" and writes_flat(self._vectors.dimension):
            if self._direct:
                self._vectors.close(ids)
            else:
                self._vectors.as_flat(files.staged(files.faiss), ids)
        else:
            searched = self._built(ids, first, vectors, index_type, notice)
        about = {"format": FORMAT, **manifest, **searched}
        self._write_table(first, about)
        with atomic_write(files.staged(files.errors), "w") as file:
            file.write(format_errors(failures))
        with atomic_write(files.staged(files.json), "w") as file:
            file.write(to_json(about, indent=2) + "\n")
        files.exchange()

    def _built(
        self,
        ids: NDArray[np.int64],
        first: NDArray[np.int64],
        vectors: NDArray[np.float32],
        index_type: str,
        notice: Callable[[str], None],
    ) -> dict[str, Any]:
        """Build with FAISS and write; what the description says of searching it."""
        files = self._files
        once = np.ones(len(ids), bool) if index_type == "flat" else first == ids
        stored = vectors if once.all() else self._without_copies(vectors, once)
        index = build_faiss(stored, ids[once], index_type)
        lossless = is_lossless(index, stored)
        effort = tried(inner_of(index), stored, index_type, exact=None if lossless else lambda places: stored[places])
        if effort.steps:
            notice(found_text(index_type, effort, len(stored)))
        write_faiss(index, files.staged(files.faiss))
        if not lossless:
            self._vectors.close(ids)
            os.replace(self._vectors.path, files.staged(files.vectors))
        return {"search": effort.to_json(), "unlinked": effort.unlinked}

    def _without_copies(self, vectors: NDArray[np.float32], once: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The vectors to be stored, mapped from a file of their own."""
        if self._once is not None:
            self._once.leave(keep=False)
        self._once = VectorFile(self._files.partial / _ONCE_FILE, self._dimension, flat=False)
        for start in range(0, len(vectors), ROWS):
            self._once.add(vectors[start : start + ROWS][once[start : start + ROWS]])
        return self._once.vectors()

    def _write_table(self, first: NDArray[np.int64], about: dict[str, Any]) -> None:
        start = 0
        schema = FACE_SCHEMA.append(pa.field(VECTOR_ID, pa.int64()))
        with (
            atomic_write(self._files.staged(self._files.parquet)) as file,
            pq.ParquetWriter(file, schema.with_metadata({COPY: to_json(about)})) as writer,
        ):
            for rows in self._tables():
                ids = column(first[start : start + len(rows)], pa.int64())
                writer.write_table(_with(rows, ids, schema))
                start += len(rows)

    @property
    def _rows_path(self) -> Path:
        return self._files.partial / _ROWS_FILE

    def _spill(self) -> None:
        """Put the rows in memory into the file of rows."""
        if self._spilled is None:
            self._spilled = pa.ipc.new_file(os.fspath(self._rows_path), FACE_SCHEMA)
        for batch in pa.concat_tables(self._rows).combine_chunks().to_batches():
            self._spilled.write_batch(batch)
        self._rows, self._waiting = [], 0

    def _tables(self) -> Iterator[Any]:
        if self._spilled is None:
            if self._rows:
                yield pa.concat_tables(self._rows).combine_chunks()
            return
        if self._rows:
            self._spill()
        self._spilled.close()
        with pa.memory_map(os.fspath(self._rows_path)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(number)])


def _with(rows: Any, ids: Any, schema: Any) -> Any:
    return pa.Table.from_arrays([*rows.select(FACE_SCHEMA.names).columns, ids], schema=schema)
