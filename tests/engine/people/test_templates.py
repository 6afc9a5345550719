"""What stands for a person: recomputed in plain numpy, and what every rule must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.people.templates import BEST, RULES, Templates, template
from faceembed.errors import UsageError


def unit(count: int, seed: int, dimension: int = 16) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 7), seed=st.integers(0, 999), rule=st.sampled_from(RULES))
def test_every_rule_gives_unit_rows_whatever_the_unit_of_quality(count: int, seed: int, rule: str) -> None:
    vectors = unit(count, seed)
    quality = np.random.default_rng(seed).uniform(0.1, 1, count).astype(np.float32)
    made = template(vectors, quality, rule)
    assert made.dtype == np.float32 and made.shape == ((count if rule == "max" else 1), 16)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert np.allclose(made, template(vectors, 40 * quality, rule), atol=1e-5)


def test_the_rules_recomputed() -> None:
    vectors, quality = unit(5, 3), np.array([0.2, 0.9, 0.5, 0.8, 0.7], np.float32)
    weighted = sum(q * v for q, v in zip(quality, vectors, strict=True))
    assert np.allclose(template(vectors, quality, "quality")[0], weighted / np.linalg.norm(weighted), atol=1e-6)
    whole = vectors.sum(axis=0)
    assert np.allclose(template(vectors, quality, "mean")[0], whole / np.linalg.norm(whole), atol=1e-6)
    best = vectors[[1, 3, 4][:BEST]].sum(axis=0)
    assert np.allclose(template(vectors, quality, "best")[0], best / np.linalg.norm(best), atol=1e-6)
    assert np.array_equal(template(vectors, quality, "max"), vectors)


def test_scores_are_the_highest_cosine_of_each_person() -> None:
    people, faces = [unit(3, 1), unit(1, 2), unit(4, 3)], unit(6, 4)
    expected = [[max(float(face @ row) for row in rows) for rows in people] for face in faces]
    assert np.allclose(Templates(people).scores(faces), expected, atol=1e-6)
    assert Templates([]).scores(faces).shape == (6, 0)


def test_photos_that_cancel_each_other_out_are_alike_to_nobody() -> None:
    one = unit(1, 5)
    made = template(np.concatenate([one, -one]), np.ones(2, np.float32), "mean")
    assert not made.any()


def test_an_unknown_rule() -> None:
    with pytest.raises(UsageError, match="template 'median' is none of mean, quality, best, max"):
        template(unit(2, 0), np.ones(2, np.float32), "median")
