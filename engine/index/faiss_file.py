"""The FAISS file of an index: vectors under the faces' ids, as they were added, whatever kind of index holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.kinds import faiss_reason, layers
from faceembed.errors import IndexFormatError

_COMPARED = 65_536  # vectors at a time
AGAIN = "make the index again with --fresh"


def read_faiss(path: Path) -> Any:
    """The FAISS file of an index.

    Raises:
        IndexFormatError: damaged, or another kind of file.
    """
    import faiss

    try:
        index: Any = faiss.deserialize_index(np.fromfile(path, np.uint8))
    except (OSError, RuntimeError, MemoryError) as error:
        raise IndexFormatError(f"{path} cannot be read ({faiss_reason(error)}); {AGAIN}") from error
    if not isinstance(index, faiss.IndexIDMap2):
        raise IndexFormatError(f"{path} is a FAISS {type(index).__name__}, not an IndexIDMap2 of faces; {AGAIN}")
    return index


def inner_of(index: Any) -> Any:
    """What an `IndexIDMap2` gives ids to, alive as long as it is used."""
    import faiss

    inner: Any = faiss.downcast_index(index.index)
    inner.referenced_objects = [index]
    return inner


def ids_of(index: Any) -> NDArray[np.int64]:
    """The ids of an `IndexIDMap2` in the order they were added."""
    import faiss

    ids: NDArray[np.int64] = faiss.vector_to_array(index.id_map)
    return ids


def reconstruct(index: Any) -> NDArray[np.float32]:
    """The vectors of an `IndexIDMap2` in the order they were added."""
    import faiss

    inner = faiss.downcast_index(index.index)
    core = layers(inner)[-1]
    if isinstance(core, faiss.IndexIVF):
        core.make_direct_map()
    vectors: NDArray[np.float32] = inner.reconstruct_n(0, inner.ntotal)
    return vectors


def is_lossless(index: Any, vectors: NDArray[np.float32]) -> bool:
    """Whether the index gives back these very vectors, (n, d) in the order they were added."""
    import faiss

    inner = faiss.downcast_index(index.index)
    core = layers(inner)[-1]
    try:
        if isinstance(core, faiss.IndexIVF):
            core.make_direct_map()
        return all(
            np.array_equal(inner.reconstruct_n(start, len(part)), part)
            for start in range(0, max(1, len(vectors)), _COMPARED)
            for part in (vectors[start : start + _COMPARED],)
        )
    except RuntimeError:  # the type does not reconstruct
        return False
