"""Training of a FAISS index without what FAISS prints on the way.

Where there are fewer than 39 vectors a centroid, FAISS writes a warning to the process's stderr, past everything that could hold it back
(``-q``, a server's log). It only says that the quantiser may be coarse; how well an index finds is measured, not guessed from a count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Where indexes, quantisers and transforms keep the parts that are trained with them.
_PARTS = ("index", "quantizer", "base_index", "refine_index", "storage", "pq", "rq", "lsq", "aq", "prq", "plsq")


def train(index: Any, vectors: NDArray[np.float32]) -> None:
    """Train an index of any kind.

    Raises:
        RuntimeError: FAISS's own, as when there are fewer vectors than centroids.
    """
    _hush(index, set())
    index.train(vectors)


def _hush(part: Any, seen: set[int]) -> None:
    """Take one vector a centroid for enough, in an index and all that it is made of."""
    import faiss

    if isinstance(part, faiss.Index):
        part = faiss.downcast_index(part)
    elif isinstance(part, faiss.VectorTransform):
        part = faiss.downcast_VectorTransform(part)
    if int(part.this) in seen:
        return
    seen.add(int(part.this))
    if isinstance(clustering := getattr(part, "cp", None), faiss.ClusteringParameters):
        clustering.min_points_per_centroid = 1
    chain = getattr(part, "chain", None)  # of transforms before an index
    inner = [getattr(part, name, None) for name in _PARTS]
    inner += [chain.at(number) for number in range(chain.size())] if chain is not None else []
    for one in inner:
        if hasattr(one, "this"):
            _hush(one, seen)
