"""Vectors that are there more than once, bit for bit: copies of one photo.

A graph of neighbours whose next 32 are all copies of one vector leads nowhere else: of 1,500 vectors and 500 copies of one, 163 no
longer found themselves (FAISS 1.15.1, HNSW). So each vector is stored once, and an answer names all faces that have it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BLOCK = 65_536  # vectors in memory at a time
_AT_ONCE = 8_192  # of them as 64-bit numbers


def first_with(vectors: Floats, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each vector the smallest id among those that equal it, its own included.

    Args:
        vectors: float32 (F, D), in memory or mapped from a file.
        ids: int64 (F,), each once.

    Returns:
        int64 (F,).
    """
    parts = [keys_of(vectors[start : start + _BLOCK]) for start in range(0, len(vectors), _BLOCK)]
    return first_by(np.concatenate(parts) if parts else np.zeros(0, np.uint64), ids, lambda rows: vectors[rows])


def keys_of(vectors: Floats) -> NDArray[np.uint64]:
    """A number for each vector, equal for equal ones: uint64 (F,)."""
    bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
    rng = np.random.default_rng(0)
    words = bits.view(np.uint64) if bits.shape[1] % 2 == 0 else bits  # of two numbers each: half the work, and no copy
    odd = rng.integers(1 << 62, size=words.shape[1], dtype=np.int64).astype(np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.empty(len(bits), np.uint64)
    for start in range(0, len(bits), _AT_ONCE):
        keys[start : start + _AT_ONCE] = words[start : start + _AT_ONCE].astype(np.uint64, copy=False) @ odd
    return keys


def first_by(
    keys: NDArray[np.uint64], ids: NDArray[np.int64], vectors_at: Callable[[NDArray[np.int64]], Floats]
) -> NDArray[np.int64]:
    """`first_with` of vectors that are not in memory.

    Args:
        keys: uint64 (F,) from `keys_of`.
        ids: int64 (F,), each once.
        vectors_at: gives the vectors of rows; asked only for those that share a key.
    """
    found = ids.copy()
    if len(keys) < 2:
        return found
    order = np.lexsort((ids, keys))
    sorted_keys = keys[order]
    begins = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
    ends = np.r_[begins[1:], len(order)]
    for begin, end in zip(begins[ends - begins > 1].tolist(), ends[ends - begins > 1].tolist(), strict=True):
        left = order[begin:end]  # by id; nearly always all are equal, but a key is no proof
        while len(left):
            same = _same_as_first(left, vectors_at)
            found[left[same]] = ids[left[0]]
            left = left[~same]
    return found


def _same_as_first(rows: NDArray[np.int64], vectors_at: Callable[[NDArray[np.int64]], Floats]) -> NDArray[np.bool_]:
    def bits(some: NDArray[np.int64]) -> NDArray[np.uint32]:
        return np.ascontiguousarray(vectors_at(some), np.float32).view(np.uint32)

    first = bits(rows[:1])
    parts = [(bits(rows[at : at + _BLOCK]) == first).all(1) for at in range(0, len(rows), _BLOCK)]
    return np.concatenate(parts)


class Groups:
    """Which faces share a vector.

    Args:
        ids: int64 (F,) of the faces.
        first: int64 (F,) from `first_with`.
    """

    def __init__(self, ids: NDArray[np.int64], first: NDArray[np.int64]) -> None:
        self._order = np.lexsort((ids, first))
        self._firsts, self._starts = np.unique(first[self._order], return_index=True)
        self._ends = np.r_[self._starts[1:], len(ids)]

    def of(self, first: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each group, by the id of its first face."""
        return np.searchsorted(self._firsts, first).astype(np.int64)

    def members(self, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of all faces of some groups, by id within each; and for each row the place of its group in ``groups``."""
        sizes = (self._ends - self._starts)[groups]
        place = np.repeat(np.arange(len(groups)), sizes)
        within = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self._order[self._starts[groups][place] + within], place
