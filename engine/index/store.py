"""The face index: a FAISS index of embeddings, a parquet table of faces, and a JSON file that says what made them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.assembly import ROWS, VECTOR_ID, Assembly
from faceembed.engine.index.copies import Groups
from faceembed.engine.index.effort import Effort, Searcher
from faceembed.engine.index.faiss_file import AGAIN, ids_of, inner_of, read_faiss, reconstruct
from faceembed.engine.index.files import IndexFiles, read_whole
from faceembed.engine.index.kinds import stores_exactly
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.vector_file import map_flat
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.photos.rows import FACE_SCHEMA, has_column, read_parquet, row_batches
from faceembed.errors import DataError, IndexFormatError, UsageError


@dataclasses.dataclass(frozen=True)
class Track:
    """When somebody is seen in a video; times in milliseconds from its beginning."""

    first_ms: int
    last_ms: int
    frames: int
    """In which the face was found."""


@dataclasses.dataclass(frozen=True)
class Hit:
    """One face found by a search."""

    path: str
    face: int
    similarity: float
    face_id: int
    real: float | None = None
    """How real the face looks to a gated encoder, 0 to 1; None without a gate, or in an index that is older than this."""
    track: Track | None = None
    """Where the face stands for a track of a video."""


def write_index(
    files: IndexFiles,
    faces: FaceTable,
    failures: list[Failure],
    manifest: dict[str, Any],
    index_type: str,
    *,
    notice: Callable[[str], None] = lambda line: None,
) -> None:
    """Write a whole new set of files and exchange it for the old one, all or nothing.

    What is built is tried before it is written: on some of its own faces, against exact search.

    Raises:
        UsageError: an index of this kind cannot be made of these faces, or does not find what is nearest.
    """
    with contextlib.closing(Assembly(files, faces.vectors.shape[1], index_type)) as new:
        new.add(faces)
        new.finish(failures, manifest, index_type, notice=notice)


class FaceIndex:
    """An index opened for searching. `search` may be called from several threads.

    Args:
        path: the index.
        notice: called with a line where its description is damaged and the copy of it is used.

    Example:
        index = FaceIndex("people.faiss")
        hits = index.search(embeddings, k=10)
    """

    def __init__(self, path: str | os.PathLike[str], *, notice: Callable[[str], None] = lambda line: None) -> None:
        read_whole(path, lambda files: self._load(files, notice))

    def _load(self, files: IndexFiles, notice: Callable[[str], None]) -> None:
        self.files = files
        self.manifest = read_manifest(self.files, notice=notice)
        index = read_faiss(self.files.faiss)
        columns = (
            "face_id",
            "path",
            "face",
            "real",
            "first_ms",
            "last_ms",
            "frames",
            *((VECTOR_ID,) if self.manifest["format"] > 1 else ()),
        )
        table = read_parquet(self.files.parquet, columns, advice=AGAIN)
        self._paths = table.column("path")
        self._faces = table.column("face").to_numpy()
        self._real = table.column("real")
        self._tracks = [table.column(name) for name in ("first_ms", "last_ms", "frames")]
        self._ids = table.column("face_id").to_numpy()
        self._dimension = int(index.d)
        first = _vector_ids(table)
        rows = _rows_of(index, self.files, self._ids, first)
        self._groups = Groups(self._ids, first)
        self._group_of = self._groups.of(first[rows])  # by position in FAISS
        vectors = _exact_vectors(self.files, index, len(table))
        exact = None if vectors is None else lambda places: vectors[rows[places]]
        inner = inner_of(index)
        self._searcher = Searcher(inner, _effort(self.files, self.manifest, inner), exact=exact)

    def __len__(self) -> int:
        return len(self._ids)

    def search(self, embeddings: NDArray[np.float32], *, k: int = 10) -> list[list[Hit]]:
        """The most similar faces.

        Args:
            embeddings: float32 (Q, D), unit length, of the index's own encoder.
            k: hits per query; fewer come back only if the index holds fewer faces.

        Returns:
            For each query its hits, most similar first; of equally similar ones the one with the smallest ``face_id`` first,
            whatever k is.

        Raises:
            DataError: the index is empty.
            UsageError: ``k`` or the dimension does not fit.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        if len(self) == 0:
            raise DataError(f"{self.files.faiss} holds no faces")
        if embeddings.ndim != 2 or embeddings.shape[1] != self._dimension:
            raise UsageError(f"queries have shape {embeddings.shape}, the index holds vectors of {self._dimension}")
        found: list[list[Hit]] = [[] for _ in embeddings]
        left, wanted = np.arange(len(embeddings)), min(k, len(self))
        stored = int(self._searcher.index.ntotal)
        fetched = min(wanted + 1, stored)
        while len(left):
            places, similarity = self._searcher.nearest(embeddings[left], fetched)
            open_ended = []
            for number, row_places, values in zip(left.tolist(), places, similarity, strict=True):
                rows, alike = self._expanded(row_places, values)
                # One more than wanted was looked at: unless it is less alike, others that are as alike may not have been seen.
                if fetched < stored and (len(alike) < wanted or not values[-1] < alike[wanted - 1]):
                    open_ended.append(number)
                else:
                    pairs = zip(rows[:wanted].tolist(), alike[:wanted].tolist(), strict=True)
                    found[number] = [self._hit(row, value) for row, value in pairs]
            left, fetched = np.array(open_ended, np.int64), min(2 * fetched, stored)
        return found

    def _expanded(
        self, places: NDArray[np.int64], similarity: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows of all faces whose vectors were found, by (-similarity, face_id), and their similarities."""
        there = places >= 0  # not so where vectors are not finite, as versions before stored them
        places, similarity = places[there], similarity[there]
        groups, first = np.unique(self._group_of[places], return_index=True)  # copies that are stored each: once
        rows, place = self._groups.members(groups)
        alike = similarity[first][place]
        order = np.lexsort((self._ids[rows], -alike))
        return rows[order], alike[order]

    def _hit(self, row: int, similarity: float) -> Hit:
        path = decode_path(self._paths[row].as_py())
        face, face_id, real = int(self._faces[row]), int(self._ids[row]), self._real[row].as_py()
        return Hit(path, face, similarity, face_id, real, self._track(row))

    def _track(self, row: int) -> Track | None:
        first, last, frames = (values[row].as_py() for values in self._tracks)
        return None if first is None else Track(first, last, frames)


def load_faces(files: IndexFiles) -> FaceTable:
    """All faces of an index with their vectors, row for row.

    Raises:
        IndexFormatError: a file is missing or damaged, or they do not belong together.
    """
    rows = read_parquet(files.parquet, advice=AGAIN)
    index = read_faiss(files.faiss)
    wanted = rows.column("face_id").to_numpy()
    first = _vector_ids(rows)
    _rows_of(index, files, wanted, first)
    if VECTOR_ID in rows.column_names:
        rows = rows.drop_columns([VECTOR_ID])
    vectors = _exact_vectors(files, index, len(rows))
    if vectors is None:
        ids = ids_of(index)
        order = np.argsort(ids, kind="stable")
        vectors = reconstruct(index)[order[np.searchsorted(ids[order], first)]]
    if wrong := int((~np.isfinite(vectors).all(axis=1)).sum()):
        raise _not_finite(files, wrong)
    return FaceTable(rows, np.asarray(vectors, np.float32))


def face_pieces(files: IndexFiles, *, rows: int = ROWS) -> Iterator[FaceTable]:
    """The same in tables of up to ``rows`` faces, of which one is in memory at a time.

    The vectors stay in their file where they are stored as they are, else the index is in memory.

    Raises:
        IndexFormatError: as `load_faces`.
    """
    mapped = None if files.vectors.exists() else map_flat(files.faiss)
    if mapped is None and not files.vectors.exists():
        table = load_faces(files)
        for start in range(0, len(table), rows):
            yield FaceTable(table.rows.slice(start, rows), table.vectors[start : start + rows])
        return
    every = read_parquet(files.parquet, ("face_id", *(VECTOR_ID,) * has_column(files.parquet, VECTOR_ID)), advice=AGAIN)
    wanted, first = every.column("face_id").to_numpy(), _vector_ids(every)
    if mapped is None:
        index = read_faiss(files.faiss)
        stored, vectors = ids_of(index), _exact_vectors(files, index, len(every))
        assert vectors is not None
        places = np.arange(len(every))
        del index
    else:
        stored, vectors = mapped
        order = np.argsort(stored, kind="stable")
        places = (
            order[np.searchsorted(stored[order], first).clip(max=max(len(stored) - 1, 0))] if len(stored) else first
        )
    _check_ids(stored, wanted, first, files)
    start = 0
    for table in row_batches(files.parquet, rows=rows, advice=AGAIN):
        part = np.asarray(vectors[places[start : start + len(table)]], np.float32)
        if wrong := int((~np.isfinite(part).all(axis=1)).sum()):
            raise _not_finite(files, wrong)
        start += len(table)
        yield FaceTable(table.select(FACE_SCHEMA.names).replace_schema_metadata(None).cast(FACE_SCHEMA), part)


def _vector_ids(table: Any) -> NDArray[np.int64]:
    """The id under which each face's vector is stored: its own in an index that is older than `VECTOR_ID`."""
    name = VECTOR_ID if VECTOR_ID in table.column_names else "face_id"
    values: NDArray[np.int64] = table.column(name).to_numpy()
    return values


def _rows_of(index: Any, files: IndexFiles, ids: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each stored vector's face, by its position in FAISS.

    Raises:
        IndexFormatError: the vectors are of other faces.
    """
    stored, order = ids_of(index), np.argsort(ids, kind="stable")
    _check_ids(stored, ids, first, files)
    return np.asarray(order[np.searchsorted(ids[order], stored)], np.int64)


def _check_ids(stored: NDArray[np.int64], ids: NDArray[np.int64], first: NDArray[np.int64], files: IndexFiles) -> None:
    wanted = np.sort(ids) if len(stored) == len(ids) else np.unique(first)
    if not np.array_equal(np.sort(stored), wanted) or not np.isin(first, stored).all():
        raise IndexFormatError(
            f"{files.faiss} holds {len(stored)} vectors and {files.parquet.name} {len(ids)} rows that "
            f"do not belong together: they hold other faces; {AGAIN}"
        )


def _not_finite(files: IndexFiles, wrong: int) -> IndexFormatError:
    return IndexFormatError(
        f"{files.faiss} holds {wrong} faces whose embedding is not finite, as versions before stored them; {AGAIN}"
    )


def _exact_vectors(files: IndexFiles, index: Any, faces: int) -> NDArray[np.float32] | None:
    """The vectors beside a lossy index, row for row, mapped from their file; None for an index that holds them itself.

    Raises:
        IndexFormatError: the file is gone, damaged or of other faces.
    """
    if not files.vectors.exists():
        if index.ntotal and not stores_exactly(inner_of(index)):
            raise IndexFormatError(f"{files.faiss} needs {files.vectors.name}, which is gone; {AGAIN}")
        return None
    try:
        vectors: NDArray[np.float32] = np.load(files.vectors, mmap_mode="r" if files.vectors.stat().st_size else None)
    except (OSError, ValueError, EOFError) as error:
        raise IndexFormatError(f"{files.vectors} cannot be read ({error}); {AGAIN}") from error
    if vectors.shape != (faces, index.d) or vectors.dtype != np.float32:
        raise IndexFormatError(f"{files.vectors} and {files.parquet.name} hold other faces; {AGAIN}")
    return vectors


def _effort(files: IndexFiles, manifest: dict[str, Any], inner: Any) -> Effort:
    """How hard this index has to be searched.

    Raises:
        IndexFormatError: what is kept of it is damaged.
    """
    if "search" not in manifest:
        return Effort.assumed(inner)
    try:
        effort = Effort.from_json(manifest["search"], manifest.get("unlinked", ()))
        if not all(0 <= place < inner.ntotal for place in effort.unlinked):
            raise ValueError("positions are out of range")
        return effort
    except (TypeError, ValueError, KeyError) as error:
        raise IndexFormatError(f"{files.json} is damaged: 'search' in it ({error}); {AGAIN}") from error
