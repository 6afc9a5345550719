"""How real a face looks, and whether two are one person, out of embeddings alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceembed.engine.models import builtin
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.realness import Likeness, identity_of, identity_table, looks_altered, realness


def gated_spec() -> ModelSpec:
    model = builtin.find("faceembed-r29")
    assert model is not None and model.spec.gated
    return model.spec


def gated(people: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Gated embeddings of unit identities (N, D) that look real by (N,)."""
    return np.concatenate([np.sqrt(real)[:, None] * people, np.sqrt(1 - real)[:, None] * people], 1).astype(np.float32)


def people(seed: int, count: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 16))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_both_come_back(seed: int, real_a: float, real_b: float) -> None:
    spec, who = gated_spec(), people(seed, 2)
    vectors = gated(who, np.array([real_a, real_b]))
    looks = realness(vectors, spec)
    assert looks is not None
    np.testing.assert_allclose(looks, [real_a, real_b], atol=1e-6)
    likeness = Likeness.of(vectors[0], vectors[1], spec)
    cosine = float(who[0] @ who[1])
    assert likeness.identity == pytest.approx(cosine, abs=1e-5)
    table = identity_table(vectors, spec)
    assert table is not None and table[0, 1] == pytest.approx(cosine, abs=1e-5)
    share = (real_a * real_b) ** 0.5 + ((1 - real_a) * (1 - real_b)) ** 0.5
    known = identity_of(float(vectors[0] @ vectors[1]), real_a, real_b)
    if share > 0.01:
        assert known == pytest.approx(cosine, abs=1e-3)
    elif share < 0.0009:
        assert known is None


def test_without_a_gate_nothing_is_said() -> None:
    spec = dataclasses.replace(gated_spec(), gated=False)
    vectors = gated(people(1, 2), np.array([0.9, 0.1]))
    assert realness(vectors, spec) is None and identity_table(vectors, spec) is None
    likeness = Likeness.of(vectors[0], vectors[1], spec)
    assert likeness == Likeness(None, None, None)
    assert likeness.remark(0.1, 0.5, ("a.jpg", "b.jpg")) is None
    assert identity_of(0.5, None, 0.5) is None
    assert likeness.altered == (None, None) and Likeness.by(0.5, 0.9, None).altered == (False, None)


@pytest.mark.parametrize(
    ("real", "altered"), [(0.0, True), (0.49, True), (0.5, False), (1.0, False), (None, None), (float("nan"), None)]
)
def test_what_looks_altered(real: float | None, altered: bool | None) -> None:
    assert looks_altered(real) is altered


@pytest.mark.parametrize(
    ("likeness", "similarity", "remark"),
    [
        (Likeness(0.96, 0.9, 0.1), 0.55, "The same person by identity (0.96), but b.jpg looks altered (0.10)"),
        (Likeness(0.96, 0.2, 0.9), 0.55, "The same person by identity (0.96), but a.jpg looks altered (0.20)"),
        (Likeness(0.96, 0.9, 0.1), 0.8, None),  # the same person by the whole embedding
        (Likeness(0.6, 0.9, 0.1), 0.4, None),  # strangers
        (Likeness(0.72, 0.9, 0.6), 0.69, None),  # neither looks altered
    ],
)
def test_the_remark(likeness: Likeness, similarity: float, remark: str | None) -> None:
    assert likeness.remark(similarity, 0.7, ("a.jpg", "b.jpg")) == remark
