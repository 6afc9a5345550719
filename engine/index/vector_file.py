"""Vectors on their way to disk: a file that grows by blocks and is mapped when it is complete, as large as it may be.

    file = VectorFile(path, 256, flat=True)
    file.add(vectors)                          # float32 (N, 256), any number of times
    file.close(ids)                            # a FAISS file of a flat index, which was never in memory
    file.vectors()                             # mapped

A flat index is the vectors between a head and the ids, so its file is written as it is met. Whether the installed FAISS writes the
same bytes is tried on two vectors first (`writes_flat`); any other kind is built from the vectors, kept as ``.npy``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NPY_HEAD = 128  # bytes; NumPy's own is as long for all shapes that fit
_COPIED = 1 << 24
Floats = NDArray[np.float32]


class VectorFile:
    """A file of float32 vectors that is being written.

    Args:
        path: of the file, which is replaced.
        dimension: of the vectors.
        flat: whether it becomes a FAISS file of a flat index; else it becomes ``.npy``.
    """

    def __init__(self, path: Path, dimension: int, *, flat: bool) -> None:
        self.path, self.dimension, self.flat = path, dimension, flat
        self.count = 0
        self._file = open(path, "wb")  # noqa: SIM115 - closed by `close` or `leave`
        self._head = len(_flat_head(dimension, 0)) if flat else _NPY_HEAD
        self._file.write(bytes(self._head))

    def add(self, vectors: Floats) -> None:
        """Append vectors, (N, D)."""
        self._file.write(np.ascontiguousarray(vectors, "<f4").data)
        self.count += len(vectors)

    def vectors(self) -> Floats:
        """Those that were added, mapped."""
        self._file.flush()
        if not self.count:
            return np.zeros((0, self.dimension), np.float32)
        return np.memmap(self.path, np.float32, "r", self._head, (self.count, self.dimension))

    def close(self, ids: NDArray[np.int64]) -> None:
        """Make a file of it that others read, and flush it to disk.

        Args:
            ids: int64 (N,), for a flat index.
        """
        if self.flat:
            self._file.write(np.int64(len(ids)).tobytes())
            self._file.write(np.ascontiguousarray(ids, "<i8").data)
        self._file.seek(0)
        self._file.write(_flat_head(self.dimension, self.count) if self.flat else _npy_head(self.count, self.dimension))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def leave(self, *, keep: bool) -> None:
        """Close it, and delete it unless it is to be kept. One that `close` has made is where it was."""
        self._file.close()
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def as_flat(self, path: Path, ids: NDArray[np.int64]) -> None:
        """Write the vectors of an ``.npy`` to the FAISS file of a flat index."""
        copy = VectorFile(path, self.dimension, flat=True)
        self._file.flush()
        with open(self.path, "rb") as file:
            file.seek(self._head)
            shutil.copyfileobj(file, copy._file, _COPIED)
        copy.count = self.count
        copy.close(ids)


def map_flat(path: Path) -> tuple[NDArray[np.int64], Floats] | None:
    """Ids and vectors of the FAISS file of a flat index, mapped; None for any other file.

    The vectors are those of the ids in that order.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_FIXED)
    if len(start) < _FIXED:
        return None
    dimension, count = int(np.frombuffer(start, "<i4", 1, 4)[0]), int(np.frombuffer(start, "<i8", 1, 8)[0])
    if dimension < 1 or count < 0 or not writes_flat(dimension):
        return None
    head = _flat_head(dimension, count)
    with open(path, "rb") as file:
        if file.read(len(head)) != head or size != len(head) + count * (4 * dimension + 8) + 8:
            return None
    if not count:
        return np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
    ids = np.fromfile(path, "<i8", count, offset=len(head) + 4 * dimension * count + 8)
    return ids, np.memmap(path, np.float32, "r", len(head), (count, dimension))


@functools.cache
def writes_flat(dimension: int) -> bool:
    """Whether a flat index of the installed FAISS is the very bytes that `VectorFile` writes."""
    import faiss

    vectors = np.arange(2 * dimension, dtype=np.float32).reshape(2, dimension)
    ids = np.array([3, 1 << 40], np.int64)
    index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
    index.add_with_ids(vectors, ids)
    ours = _flat_head(dimension, 2) + vectors.tobytes() + np.int64(2).tobytes() + ids.tobytes()
    return bool(faiss.serialize_index(index).tobytes() == ours)


_FIXED = 4 + 4 + 8


def _flat_head(dimension: int, count: int) -> bytes:
    """What stands before the vectors, as faiss/impl/index_write.cpp writes it: `write_index_header` of the map and of what is inside."""

    def header() -> bytes:
        unused = np.int64(1 << 20).tobytes()
        return b"".join(
            (
                np.int32(dimension).tobytes(),
                np.int64(count).tobytes(),
                unused,
                unused,
                b"\x01",  # is_trained
                np.int32(0).tobytes(),  # METRIC_INNER_PRODUCT
            )
        )

    return b"IxM2" + header() + b"IxFI" + header() + np.int64(count * dimension).tobytes()


def _npy_head(count: int, dimension: int) -> bytes:
    """The head of an ``.npy`` of version 1.0 (NEP 1), filled up to a length that is known before the shape is."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dimension}), }}".encode()
    length = _NPY_HEAD - 10
    return b"\x93NUMPY\x01\x00" + np.uint16(length).tobytes() + text.ljust(length - 1) + b"\n"
