"""Error-versus-discard curves: recomputed, and what they say of measures that know all and nothing."""

from __future__ import annotations

import numpy as np
import pytest

from faceembed.engine.evaluate.discard import STEPS, discard_curves


def made(
    seed: int = 0,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    rng = np.random.default_rng(seed)
    labels = np.r_[np.ones(2000, bool), np.zeros(2000, bool)]
    return np.where(labels, rng.normal(0.8, 0.2, 4000), rng.normal(0, 0.15, 4000)), labels


def test_recomputed() -> None:
    scores, labels = made()
    quality = np.random.default_rng(1).normal(size=4000) + scores
    found = discard_curves(scores, labels, {"q": quality})
    assert found is not None and found.fmr == 1e-3
    assert (scores[~labels] >= found.threshold).mean() <= 1e-3
    pairs = sorted(zip(quality[labels].tolist(), scores[labels].tolist(), strict=True))
    for step, rate in enumerate(found.by_quality["q"].fnmr):
        kept = pairs[int(step * 20) :]
        assert rate == pytest.approx(sum(score < found.threshold for _, score in kept) / len(kept))
    assert found.by_quality["q"].area == pytest.approx(
        np.mean(found.by_quality["q"].fnmr) / found.by_quality["q"].fnmr[0]
    )


def test_a_measure_that_knows_all_and_one_that_knows_nothing() -> None:
    scores, labels = made()
    found = discard_curves(
        scores, labels, {"all": scores, "nothing": np.random.default_rng(2).random(4000), "wrong": -scores}
    )
    assert found is not None
    areas = {name: curve.area for name, curve in found.by_quality.items()}
    assert areas["all"] == pytest.approx(found.ideal) and found.ideal is not None and found.ideal < 0.2
    assert areas["nothing"] == pytest.approx(1, abs=0.05)
    assert areas["wrong"] is not None and areas["wrong"] > 1.1
    assert len(found.by_quality["all"].fnmr) == STEPS


def test_what_is_not_known_goes_first() -> None:
    scores, labels = made()
    limit = discard_curves(scores, labels, {"q": scores})
    assert limit is not None
    quality = np.where(scores < limit.threshold, np.nan, 1.0)
    found, best = discard_curves(scores, labels, {"q": quality}), discard_curves(scores, labels, {"q": scores})
    assert found is not None and best is not None
    assert found.by_quality["q"].fnmr[2] < found.by_quality["q"].fnmr[0]
    assert found.by_quality["q"].area == pytest.approx(best.by_quality["q"].area, abs=1e-9)


@pytest.mark.parametrize("negatives", [0, 5])
def test_too_few_strangers(negatives: int) -> None:
    scores, labels = made()
    keep = np.r_[:2000, 2000 : 2000 + negatives]
    assert discard_curves(scores[keep], labels[keep], {"q": scores[keep]}) is None
    assert discard_curves(scores, labels, {}) is None


def test_no_misses_have_no_area() -> None:
    scores = np.r_[np.full(50, 0.9), np.linspace(0, 0.3, 50)]
    found = discard_curves(scores, scores > 0.5, {"q": scores})
    assert found is not None and found.fmr == 0.1 and found.by_quality["q"].area is None and found.ideal is None
