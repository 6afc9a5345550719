"""What kinds of FAISS index there are, what lies inside of one, and the search parameters of each layer.

    inner = make("ivf", 256, faces=10_000)
    layers(inner)                             # from the outermost: transform, refinement, lists or graph
    inner.search(queries, 10, params=parameters(inner, 40))

A factory string may wrap: ``PCA64,IVF30,Flat`` is a transform around lists, ``IVF30,PQ16,RFlat`` a refinement around them. So
nothing here looks at the outermost layer alone. What is not known here: faces, files, and how hard one has to search (`effort`).
"""

from __future__ import annotations

import math
import re
from typing import Any

from faceembed.errors import UsageError

NAMED_TYPES = ("flat", "hnsw", "ivf", "compact")
_CODES = 96  # numbers of 8 bits that `compact` keeps of a face
_WHERE = re.compile(r"^Error in .*? at \S+:\d+: (?:Error: '.*?' failed:)?")
_MOST = 160  # letters
TRAINED = 48
"""Vectors for each list that lists are trained on, at most; FAISS's least is 39."""


def factory_string(index_type: str, faces: int, dimension: int = _CODES) -> str:
    """The FAISS factory string for ``flat``, ``hnsw``, ``ivf``, ``compact`` (sized for ``faces``), or the string itself.

    ``compact`` is the centred principal directions, in 8 bits each, in lists that a graph leads to, compared by distance; what is
    found is ranked by the exact vectors beside it, so that similarities keep their meaning.
    """
    if index_type == "flat":
        return "Flat"
    if index_type == "hnsw":
        return "HNSW32"
    if index_type == "ivf":
        return f"IVF{_lists(faces)},Flat"
    if index_type == "compact":
        return f"PCA{min(dimension, _CODES)},IVF{_lists(faces)}_HNSW32,SQ8"
    return index_type


def _lists(faces: int) -> int:
    """About 4 sqrt(n) lists, each trained on at least 39 faces, FAISS's own minimum."""
    return max(1, min(int(4 * math.sqrt(faces)), faces // 39))


def bytes_in_memory(index_type: str, dimension: int, faces: int) -> int:
    """About how much memory FAISS takes to build and to hold one of our kinds: vectors or codes, ids, links and lists."""
    exact, lists = 4 * dimension, _lists(faces)
    codes = min(dimension, _CODES)
    training = TRAINED * lists * 4 * dimension
    return {
        "flat": faces * 8,  # written as vectors come
        "hnsw": faces * (exact + 8 + 4 * 2 * 33),
        "ivf": faces * (exact + 16) + lists * exact + training,
        "compact": faces * (codes + 16) + lists * (4 * codes + 4 * 2 * 33) + training,
    }[index_type]


def check_index_type(index_type: str, dimension: int) -> None:
    """Refuse a kind of index that FAISS does not know.

    Raises:
        UsageError: neither a known name nor a FAISS factory string for vectors of ``dimension``.
    """
    if index_type not in NAMED_TYPES:
        make(index_type, dimension)


def make(index_type: str, dimension: int, faces: int = 0) -> Any:
    """An empty FAISS index whose nearest are the most similar unit vectors.

    The metric is the inner product, but Euclidean distance where vectors are moved on their way in (PCA, ITQ) or where FAISS
    has that kind for it alone: of what was moved, inner products mean nothing (``PCA96,Flat`` found half of the neighbours and
    gave a face a similarity of 0.17 to itself), while distances keep their order.

    Raises:
        UsageError: FAISS does not know the string.
    """
    import faiss

    factory = factory_string(index_type, faces, dimension)
    try:
        index = _layer(faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT))
        if any(_moves(layer) for layer in layers(index)):
            index = _layer(faiss.index_factory(dimension, factory, faiss.METRIC_L2))
    except RuntimeError as error:
        try:
            index = _layer(faiss.index_factory(dimension, factory, faiss.METRIC_L2))
        except RuntimeError:
            raise UsageError(
                f"--index '{index_type}' is neither one of {', '.join(NAMED_TYPES)} nor a FAISS factory string for "
                f"vectors of {dimension} ({faiss_reason(error)})"
            ) from error
    if isinstance(index, faiss.IndexIDMap):  # ids are kept around every kind already
        index = _layer(index.index, owner=index)
    if unknown := [type(layer).__name__ for layer in layers(index) if isinstance(layer, _unsafe())]:
        raise UsageError(
            f"--index '{index_type}' makes a FAISS {unknown[0]}, which cannot be searched for any number of faces; "
            "use --index hnsw"
        )
    return index


def _unsafe() -> tuple[Any, ...]:
    import faiss

    return (faiss.IndexNSG, faiss.IndexNNDescent)


def _layer(index: Any, owner: Any = None) -> Any:
    """An index as its own class. What owns its memory lives as long as it does: FAISS's Python side does not see to that."""
    import faiss

    found: Any = faiss.downcast_index(index)
    found.referenced_objects = [index, owner]
    return found


def layers(index: Any) -> list[Any]:
    """The index, what it wraps, what that wraps, and so on."""
    import faiss

    found = [index]
    while True:
        last = found[-1]
        if isinstance(last, (faiss.IndexPreTransform, faiss.IndexIDMap)):
            found.append(_layer(last.index, last))
        elif isinstance(last, faiss.IndexRefine):
            found.append(_layer(last.base_index, last))
        else:
            return found


def _moves(layer: Any) -> bool:
    """Whether a layer adds something to every vector: a transform with a bias, or one that centres."""
    import faiss

    if not isinstance(layer, faiss.IndexPreTransform):
        return False
    steps: Any = layer.chain  # a C++ vector
    chain = [faiss.downcast_VectorTransform(steps.at(place)) for place in range(steps.size())]
    return any(
        isinstance(step, (faiss.PCAMatrix, faiss.ITQTransform, faiss.CenteringTransform))
        or (isinstance(step, faiss.LinearTransform) and step.have_bias)
        for step in chain
    )


def refined(index: Any) -> bool:
    """Whether an index ranks what another, coarser one found."""
    import faiss

    return any(isinstance(layer, faiss.IndexRefine) for layer in layers(index))


def stores_exactly(index: Any) -> bool:
    """Whether an index holds the vectors as they were added, and not codes of them."""
    import faiss

    (outermost, *inside) = layers(index)
    if isinstance(outermost, faiss.IndexRefine):
        return isinstance(faiss.downcast_index(outermost.refine_index), faiss.IndexFlat)
    return not inside and isinstance(outermost, (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexHNSWFlat))


def effort_name(index: Any) -> str:
    """What says how hard an index looks: ``nprobe`` (lists), ``efSearch`` (faces of a graph), or "" where it looks at all."""
    import faiss

    core = layers(index)[-1]
    if isinstance(core, faiss.IndexIVF):
        return "nprobe"
    return "efSearch" if isinstance(core, faiss.IndexHNSW) else ""


def most_effort(index: Any) -> int:
    """The effort that looks at everything there is."""
    import faiss

    core = layers(index)[-1]
    return int(core.nlist if isinstance(core, faiss.IndexIVF) else core.ntotal)


def parameters(index: Any, effort: int) -> Any:
    """FAISS's search parameters for an effort; they belong to one call, so that threads do not change each other's."""
    import faiss as typed

    faiss: Any = typed  # whose stubs do not know what its classes take

    if not effort_name(index):
        return None
    *wraps, core = layers(index)
    found: Any
    if isinstance(core, faiss.IndexIVF):
        found = faiss.SearchParametersIVF(nprobe=min(effort, int(core.nlist)))
        if isinstance(
            faiss.downcast_index(core.quantizer), faiss.IndexHNSW
        ):  # a graph of lists, which misses some, too
            graph = faiss.SearchParametersHNSW(efSearch=max(64, 2 * effort))
            found = faiss.SearchParametersIVF(nprobe=min(effort, int(core.nlist)), quantizer_params=graph)
    else:
        found = faiss.SearchParametersHNSW(efSearch=effort)
    for wrap in reversed(wraps):
        if isinstance(wrap, faiss.IndexPreTransform):
            found = faiss.SearchParametersPreTransform(index_params=found)
        elif isinstance(wrap, faiss.IndexRefine):
            found = faiss.IndexRefineSearchParameters(k_factor=1.0, base_index_params=found)
    return found


def faiss_reason(error: Exception) -> str:
    """What FAISS said, without where in its sources it said so, cut to a message's length."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    reason = _WHERE.sub("", lines[-1]).strip() or lines[-1]
    return reason if len(reason) <= _MOST else reason[: _MOST - 1] + "…"
