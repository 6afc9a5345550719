"""Training of a FAISS index without what FAISS prints on the way.

Where there are fewer than 39 vectors a centroid, FAISS writes a warning to the process's stderr, past everything that could hold it back
(``-q``, a server's log). It only says that the quantiser may be coarse; how well an index finds is measured, not guessed from a count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.kinds import make
from faceembed.errors import UsageError

# Where indexes, quantisers and transforms keep the parts that are trained with them.
_PARTS = (
    *("index", "quantizer", "base_index", "refine_index", "storage", "q1", "fine_quantizer"),
    *("pq", "refine_pq", "rq", "lsq", "prq", "plsq", "aq"),
)


def check_number(index_type: str, dimension: int, faces: int, *, there: str) -> None:
    """Refuse a kind of index that cannot be trained on so few faces.

    Args:
        index_type: as for `kinds.make`.
        dimension: of the vectors.
        faces: how many there are, or can be at most; 0 makes an empty index of any kind.
        there: how many there are, in words.

    Raises:
        UsageError: it needs more, or FAISS does not know the string.
    """
    needed = least_vectors(make(index_type, dimension, faces))
    if 0 < faces < needed:
        raise UsageError(
            f"--index '{index_type}' needs {needed:,} different faces to be trained on, and there are {there}; "
            f"use --index flat or hnsw, or more photos"
        )


def train(index: Any, vectors: NDArray[np.float32]) -> None:
    """Train an index of any kind.

    Raises:
        RuntimeError: FAISS's own, as when there are fewer vectors than centroids.
    """
    lent: list[tuple[Any, Any]] = []
    _hush(index, set(), lent)
    try:
        index.train(vectors)
    finally:
        for transform, _ in lent:
            transform.pq = None


def least_vectors(index: Any) -> int:
    """How many vectors an index of any kind must be trained on at least: as many as it makes centroids, or keeps directions."""
    return _least(index, set())


def _least(part: Any, seen: set[tuple[int, str]]) -> int:
    import faiss as typed

    faiss: Any = typed  # whose stubs do not know all of it

    part = _as_itself(part)
    if (key := (int(part.this), type(part).__name__)) in seen:
        return 0
    seen.add(key)
    needed = [_least(inner, seen) for inner in _inside(part)]
    if isinstance(part, faiss.IndexIVF):
        needed.append(1 if part.quantizer_trains_alone in (1, "\x01") else int(part.nlist))  # a C++ char
    elif isinstance(part, faiss.ProductQuantizer):
        needed.append(int(part.ksub))
    elif isinstance(part, faiss.OPQMatrix):
        needed.append(256)  # centroids, of a quantiser that it makes itself
    elif isinstance(part, (faiss.ITQTransform, faiss.PCAMatrix)):
        needed.append(int(part.d_out))
    elif isinstance(
        part, faiss.ResidualQuantizer
    ):  # starts with a PCA to all dimensions; a LocalSearchQuantizer starts anywhere
        needed += [int(part.d), 1 << max(faiss.vector_to_array(part.nbits).tolist(), default=0)]
    return max(needed, default=1)


def _hush(part: Any, seen: set[tuple[int, str]], lent: list[tuple[Any, Any]]) -> None:
    """Take one vector a centroid for enough, in an index and all that it is made of.

    Args:
        part: of the index.
        seen: address and class of the parts that are done.
        lent: transforms that were given a quantiser to train with, and that quantiser, which must live until they have.
    """
    import faiss

    part = _as_itself(part)
    if (key := (int(part.this), type(part).__name__)) in seen:
        return
    seen.add(key)
    if isinstance(clustering := getattr(part, "cp", None), faiss.ClusteringParameters):
        clustering.min_points_per_centroid = 1
    if isinstance(part, faiss.OPQMatrix) and part.pq is None:  # it would make this one itself, past us
        quantiser = faiss.ProductQuantizer(part.d_out, part.M, 8)
        part.pq = quantiser
        lent.append((part, quantiser))
    for inner in _inside(part):
        _hush(inner, seen, lent)


def _as_itself(part: Any) -> Any:
    """A part as its own class, where FAISS hands it out as one that it is derived from."""
    import faiss as typed

    faiss: Any = typed  # whose stubs do not know all of it

    casts = (
        (faiss.Index, faiss.downcast_index),
        (faiss.VectorTransform, faiss.downcast_VectorTransform),
        (faiss.AdditiveQuantizer, faiss.downcast_AdditiveQuantizer),
        (faiss.Quantizer, faiss.downcast_Quantizer),
    )
    return next((cast(part) or part for kind, cast in casts if isinstance(part, kind)), part)


def _inside(part: Any) -> Iterator[Any]:
    """What a part is made of."""
    for name in _PARTS:
        if hasattr(inner := getattr(part, name, None), "this"):
            yield inner
    if (chain := getattr(part, "chain", None)) is not None:  # of transforms before an index
        yield from (chain.at(number) for number in range(chain.size()))
    if hasattr(part, "subquantizer"):  # of products of additive quantisers
        yield from (part.subquantizer(number) for number in range(part.nsplits))
