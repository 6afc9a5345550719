"""FAISS says nothing past us while an index is made, tried and written, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.index import training
from faceembed.engine.index.faiss_build import build_faiss
from faceembed.engine.index.faiss_file import inner_of
from faceembed.engine.index.kinds import make
from faceembed.engine.index.trial import tried
from faceembed.errors import UsageError

COUNT, DIMENSION = 300, 32

# Parts that are trained by clustering, each where FAISS's factory can put it. Too few vectors for all of them.
KINDS = [
    *("IVF16,Flat", "IVF16_HNSW8,Flat", "IVF16(PQ4x4np),Flat", "IMI2x4,Flat", "IVF8,RaBitQ", "IVF16,PQ4x4fsr"),
    *("PQ4x4np", "PQ4x4fs", "PQ4x4np,RFlat", "PQ4x4np,Refine(PQ8x4np)", "PCA16,IVF16,PQ4x4np", "IVF16,PQ4x4np,RFlat"),
    *("OPQ2_16,Flat", "IDMap,OPQ2,IVF8,PQ4x4fs,RFlat", "ITQ16,LSH", "IVF16,PQ4+4"),
    *("HNSW8_PQ4x4np", "HNSW8_8+PQ4", "HNSW8_2x3+PQ4", "Residual16,PQ4x4", "Residual2x4,PQ4x4"),
    *("RQ2x5", "RQ2x4_1x5", "LSQ2x3", "PRQ2x2x5", "PLSQ2x2x3", "RQ4x4fs", "PRQ2x2x4fs"),
    *("IVF8,RQ2x5", "IVF8,PRQ2x2x5", "IVF8,RQ4x4fs"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two that share a core wait for each other most of the time."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    found = np.random.default_rng(0).normal(size=(COUNT, DIMENSION)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_warning_of_faiss(kind: str, vectors: NDArray[np.float32], capfd: pytest.CaptureFixture[str]) -> None:
    assert build_faiss(vectors, np.arange(COUNT), kind).ntotal == COUNT
    out, err = capfd.readouterr()
    assert out + err == ""


def test_a_kind_that_cannot_be_searched_is_one_line(vectors: NDArray[np.float32]) -> None:
    index = build_faiss(vectors, np.arange(COUNT), "Residual16,PQ4x4")
    with pytest.raises(UsageError, match=r"--index 'Residual16,PQ4x4' cannot be searched \(.*not implemented\)"):
        tried(inner_of(index), vectors, "Residual16,PQ4x4", exact=lambda places: vectors[places])


def test_it_would_be_heard(
    vectors: NDArray[np.float32], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: FAISS trains without having been hushed."""
    monkeypatch.setattr(training, "_hush", lambda part, seen, lent: None)
    for kind in (
        "IVF16,Flat",
        "OPQ2_16,Flat",
        "PRQ2x2x5",
        "Residual2x4,PQ4x4",
        "IVF16,PQ4+4",
        "PQ4x4np,Refine(PQ8x4np)",
    ):
        build_faiss(vectors, np.arange(COUNT), kind)
        assert "clustering" in "".join(capfd.readouterr()), kind


def test_a_lent_quantiser_is_taken_back(vectors: NDArray[np.float32]) -> None:
    """It belongs to us, and FAISS would go on pointing to it."""
    index = make("OPQ2_16,Flat", DIMENSION)
    training.train(index, vectors)
    transform = faiss.downcast_VectorTransform(index.chain.at(0))
    assert transform.pq is None and transform.is_trained
    plain = faiss.index_factory(DIMENSION, "OPQ2_16,Flat", faiss.METRIC_INNER_PRODUCT)
    plain.train(vectors)
    expected = faiss.vector_to_array(faiss.downcast_VectorTransform(plain.chain.at(0)).A)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(faiss.vector_to_array(transform.A), expected)  # and the rotation is FAISS's own
    with pytest.raises(RuntimeError):
        training.train(make("OPQ2_16,Flat", DIMENSION), vectors[:10])


@pytest.mark.parametrize(
    "kind", [*KINDS, "Flat", "HNSW8", "SQ8", "PCA16,Flat", "PCAW16,SQ8", "LSH", "LSHt", "IVF2,RaBitQ"]
)
def test_how_many_vectors_a_kind_needs(kind: str, vectors: NDArray[np.float32]) -> None:
    """So many are enough, and one fewer is refused by FAISS itself."""
    needed = training.least_vectors(make(kind, DIMENSION))
    assert 1 <= needed <= COUNT
    index = make(kind, DIMENSION)
    if not index.is_trained:
        training.train(index, vectors[:needed])
    index.add(vectors[:needed])
    if needed > 1:
        with pytest.raises(RuntimeError):
            training.train(make(kind, DIMENSION), vectors[: needed - 1])
        with pytest.raises(
            UsageError, match=f"needs {needed} different faces to be trained on, and there are {needed - 1};"
        ):
            build_faiss(vectors[: needed - 1], np.arange(needed - 1), kind)
