"""What a similarity means: rates between those measured, bounds outside, a probability that is one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from faceembed.engine.models.likelihood import fit_logistic, fit_odds, probability, strangers_as_alike
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Level, ModelSpec
from faceembed.errors import DataError, ModelError

LEVELS = tuple(Level(rate, at, at, at) for rate, at in ((1e-2, 0.5), (1e-3, 0.6), (1e-4, 0.7)))
SPEC = ModelSpec("made", "encoder", (112, 112), dimension=8, template=ARCFACE_TEMPLATE, thresholds=LEVELS)


@pytest.mark.parametrize(
    ("similarity", "rate", "side", "text"),
    [
        (0.6, 1e-3, "about", "one in 1,000 strangers is as alike"),
        (0.65, 10**-3.5, "about", "one in 3,200 strangers is as alike"),
        (0.5, 1e-2, "about", "one in 100 strangers is as alike"),
        (0.49, 1e-2, "above", "more than one in 100 strangers is as alike"),
        (0.9, 1e-4, "below", "fewer than one in 10,000 strangers is as alike"),
    ],
)
def test_strangers(similarity: float, rate: float, side: str, text: str) -> None:
    found = strangers_as_alike(SPEC, similarity)
    assert found is not None and found.rate == pytest.approx(rate) and (found.side, found.text) == (side, text)


def test_without_rates_or_odds_nothing_is_said() -> None:
    assert strangers_as_alike(dataclasses.replace(SPEC, thresholds=()), 0.5) is None
    assert probability(SPEC, 0.5) is None


def test_the_built_in_encoder_has_both() -> None:
    spec = resolve("faceembed-r29", task="encoder").spec
    values = [probability(spec, similarity) for similarity in (0.8, 0.9, 0.95)]
    assert all(value is not None for value in values) and values == sorted(values)  # type: ignore[type-var]
    assert values[0] < 0.01 and values[2] > 0.99  # type: ignore[operator]


def test_the_fit_finds_what_made_the_data() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, 200_000)
    truth = rng.random(len(scores)) < 1 / (1 + np.exp(-(6 * scores - 1)))
    slope, intercept = fit_logistic(scores, truth)
    assert slope == pytest.approx(6, rel=0.03)
    prior = np.log(truth.mean() / (1 - truth.mean()))
    assert intercept + prior == pytest.approx(-1, abs=0.05)  # at even odds


def test_classes_that_do_not_overlap_have_a_finite_slope() -> None:
    scores = np.r_[np.full(50, 0.1), np.full(50, 0.9)]
    slope, _ = fit_logistic(scores, scores > 0.5)
    assert np.isfinite(slope) and slope > 0


def test_odds_of_people() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(30, 8))
    rows = np.repeat(centres, 4, axis=0) + rng.normal(size=(120, 8)) * 0.7
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    people = [str(n // 4) for n in range(120)]
    spec = dataclasses.replace(SPEC, odds=fit_odds(rows, people))
    high, low = probability(spec, 0.95), probability(spec, -0.5)
    assert high is not None and low is not None and high > 0.9 and low < 0.1
    with pytest.raises(DataError, match="give two people, and two photos of one"):
        fit_odds(rows, [str(n) for n in range(120)])


def test_a_spec_keeps_odds_and_refuses_what_are_none() -> None:
    spec = dataclasses.replace(SPEC, odds=(3.0, -1.0))
    assert ModelSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ModelError, match="odds are"):
        dataclasses.replace(SPEC, odds=(-3.0, 1.0))
