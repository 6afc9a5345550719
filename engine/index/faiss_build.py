"""Building a FAISS index of vectors in memory or mapped from a file, and writing it without a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.kinds import TRAINED, faiss_reason, layers, make
from faceembed.engine.index.training import check_number, train
from faceembed.errors import UsageError
from faceembed.files import atomic_write

_ADDED = 65_536  # vectors at a time
_TRAINED = 65_536  # vectors that are enough for whatever has no lists


def build_faiss(vectors: NDArray[np.float32], ids: NDArray[np.int64], index_type: str) -> Any:
    """An `IndexIDMap2` over a trained index of `kinds.make`.

    Args:
        vectors: float32 (F, D), unit length.
        ids: int64 (F,).
        index_type: ``flat``, ``hnsw``, ``ivf`` or a FAISS factory string.

    Raises:
        UsageError: FAISS does not know the string, or there are too few faces to train it.
    """
    import faiss

    check_number(index_type, vectors.shape[1], len(vectors), there=f"{len(vectors):,}")
    inner = make(index_type, vectors.shape[1], len(vectors))
    index = faiss.IndexIDMap2(inner)
    if len(vectors):
        try:
            if not inner.is_trained:
                train(inner, _sample(vectors, inner))
            if index_type == "flat":  # grows once; in blocks its memory would grow to twice as much
                index.add_with_ids(vectors, ids)
            else:
                for start in range(0, len(vectors), _ADDED):
                    index.add_with_ids(vectors[start : start + _ADDED], ids[start : start + _ADDED])
        except RuntimeError as error:
            raise UsageError(
                f"--index '{index_type}' cannot be trained on {len(vectors)} faces "
                f"({faiss_reason(error)}); use --index flat or more photos"
            ) from error
    return index


def _sample(vectors: NDArray[np.float32], index: Any) -> NDArray[np.float32]:
    """What an index is trained on: all, or as many as serve, evenly from all; FAISS turns all that it is given at once."""
    most = max(_TRAINED, TRAINED * int(getattr(layers(index)[-1], "nlist", 0)))
    if len(vectors) <= most:
        return vectors
    return np.ascontiguousarray(vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:most])])


def write_faiss(index: Any, path: Path) -> None:
    """Write an index whole or not at all, through a buffer of a megabyte.

    Raises:
        OSError: the disk is full, say.
    """
    import faiss as typed

    faiss: Any = typed  # whose stubs do not know what its classes take

    failed: list[OSError] = []

    def write(data: bytes) -> int:
        try:
            file.write(data)
        except OSError as error:
            failed.append(error)
            raise
        return len(data)

    with atomic_write(path) as file:
        try:
            writer = faiss.PyCallbackIOWriter(write, 1 << 20)
            faiss.write_index(index, writer)
            del writer
        except RuntimeError:
            if failed:
                raise failed[0] from None
            raise
