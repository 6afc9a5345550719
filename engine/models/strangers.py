"""What a spec keeps of strangers: how far their similarities spread, and template vectors of some training people.

    spread, templates = describe(embeddings, people)         # unit rows of training people's photos, and whose each is
    spec = dataclasses.replace(spec, spread=spread, templates=templates)
    read_templates(spec)                                     # float32 (K, D), unit length

The precision gate measures in these units and against these vectors. A template is one photo's embedding without a name, a byte a number:
it need not be exact, as both sides of a comparison take the same. Base64 of 64 of them is 22 KB for 256 numbers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.errors import DataError, ModelError

TEMPLATES = 64
_BLOCK = 1024  # rows compared at a time
_LEVELS = 127


def describe(embeddings: NDArray[np.float32], people: Sequence[str]) -> tuple[float, str]:
    """The strangers' spread and templates of an encoder, for its spec.

    Args:
        embeddings: float32 (N, D), unit length, at fp32: photos of training people, one face each.
        people: whose each row is.

    Returns:
        Standard deviation of the cosine over all pairs of two people's photos; and the templates as the spec keeps them: the first photo
        of each of `TEMPLATES` people, evenly from those sorted by name.

    Raises:
        DataError: rows that are not finite and of unit length, or fewer than two people.
    """
    if len(embeddings) != len(people) or not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
        raise DataError("strangers are described by embeddings of unit length, a person to each")
    names = sorted(set(people))
    if len(names) < 2:
        raise DataError(f"{len(names)} people are too few to tell how far strangers spread; give photos of two or more")
    who = np.searchsorted(names, list(people))
    first = [int(np.flatnonzero(who == place)[0]) for place in range(len(names))]
    chosen = [first[place] for place in np.linspace(0, len(names) - 1, min(TEMPLATES, len(names))).astype(int)]
    return _spread(embeddings.astype(np.float32), who), write_templates(embeddings[chosen])


def _spread(embeddings: NDArray[np.float32], who: NDArray[np.int64]) -> float:
    count, total, squares = 0, 0.0, 0.0
    for _, values, strangers in stranger_pairs(embeddings, who):
        cosines = values[strangers].astype(np.float64)
        count, total, squares = count + cosines.size, total + cosines.sum(), squares + np.square(cosines).sum()
    return round(float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0))), 5)


def stranger_pairs(
    embeddings: NDArray[np.float32], who: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
    """All pairs of two people's photos, each once, some rows at a time.

    Args:
        embeddings: float32 (N, D), unit length.
        who: (N,) the number of the person of each row.

    Yields:
        The first of B rows; their cosines with all, float32 (B, N) in [-1, 1]; and which of these are the pairs, bool (B, N).
    """
    columns = np.arange(len(who))
    for start in range(0, len(who), _BLOCK):
        rows = columns[start : start + _BLOCK]
        pairs = (who[rows, None] != who[None]) & (rows[:, None] < columns[None])
        yield start, np.clip(embeddings[rows] @ embeddings.T, -1, 1), pairs


def write_templates(rows: NDArray[np.float32]) -> str:
    """Unit vectors (K, D) as text: a byte a number, scaled to each row's largest, in base64."""
    scaled = rows / np.abs(rows).max(axis=1, keepdims=True) * _LEVELS
    return base64.b64encode(np.rint(scaled).astype(np.int8).tobytes()).decode()


def read_templates(spec: ModelSpec) -> NDArray[np.float32]:
    """The template vectors of a spec: float32 (K, D) of unit length; (0, D) where it keeps none.

    Raises:
        ModelError: they are damaged.
    """
    try:
        raw = np.frombuffer(base64.b64decode(spec.templates, validate=True), np.int8)
        rows = raw.reshape(-1, max(spec.dimension, 1)).astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise ModelError(f"model {spec.name}: its templates are damaged ({error}); export it again") from error
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ModelError(f"model {spec.name}: its templates are damaged (one has no direction); export it again")
    unit: NDArray[np.float32] = rows / lengths
    return unit
