"""Intervals that tell the truth: exact where few errors were seen, over people where pairs share them; and flaws of lists, said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.figures import evaluate
from faceembed.engine.evaluate.flaws import flaws_of, people_of
from faceembed.engine.evaluate.intervals import auc_bounds, eer_interval, exact_eer, share_bounds
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import Pair, PairList


@pytest.mark.parametrize(
    ("count", "total", "expected"),  # R: binom.test(count, total)$conf.int
    [
        (0, 10, (0, 0.3085)),
        (10, 10, (0.6915, 1)),
        (1, 10, (0.0025, 0.4450)),
        (5, 100, (0.0164, 0.1128)),
        (3, 300, (0.0021, 0.0289)),
    ],
)
def test_exact_bounds_of_known_tables(count: int, total: int, expected: tuple[float, float]) -> None:
    assert share_bounds(count, total) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 400), st.data())
@settings(max_examples=40, deadline=None)
def test_exact_bounds_are_a_mirror_and_hold_the_share(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    low, high = share_bounds(count, total)
    assert 0 <= low <= count / total <= high <= 1
    other = share_bounds(total - count, total)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=1e-9)


def drawn(seed: int, each: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.r_[rng.normal(apart, 1, each), rng.normal(0, 1, each)], np.r_[np.ones(each, bool), np.zeros(each, bool)]


@pytest.mark.parametrize("each", [2, 10, 100])
def test_no_error_is_no_certainty(each: int) -> None:
    scores, labels = np.r_[np.full(each, 0.9), np.full(each, 0.1)], np.r_[np.ones(each, bool), np.zeros(each, bool)]
    interval = eer_interval(scores, labels)
    assert interval.low == 0
    assert interval.high == pytest.approx(share_bounds(0, each, alpha=0.025)[1], abs=1e-9)
    assert interval.high > min(0.8, 0.9 * 3 / each)  # the rule of three
    assert "exact" in interval.how and "independent" in interval.how
    low, high = auc_bounds(scores, labels)
    assert low < 1 and high == 1


@pytest.mark.parametrize("each", [10, 50, 300])
def test_the_truth_is_covered(each: int) -> None:
    """As `benchmarks/intervals.py` measures it on LFW's scores; here on a few made draws, whose EER and AUC are known."""
    truth = 0.012
    apart = 2 * 2.2571  # two standard deviations on either side leave 1.2 %
    area = 0.99929  # normal: Phi(apart / sqrt(2))
    found = [drawn(seed, each, apart) for seed in range(60)]
    inside = [low <= truth <= high for low, high in (exact_eer(metrics.roc(*one)) for one in found)]
    areas = [low <= area <= high for low, high in (auc_bounds(*one) for one in found)]
    assert sum(inside) >= 55 and sum(areas) >= 54


def test_many_errors_are_the_bootstrap_of_before() -> None:
    scores, labels = drawn(0, 2000, 2.0)
    interval = eer_interval(scores, labels, resamples=200)
    assert interval.ends == metrics.bootstrap_eer(metrics.roc(scores, labels), resamples=200)
    assert interval.how == "bootstrap, pairs taken as independent"


def crowd(people: int, photos: int, seed: int = 0) -> PairList:
    """Pairs of all couples of photos of one person, and as many of two people; some people are hard."""
    pairs = [
        Pair(f"/d/p{p}/{i}.jpg", f"/d/p{p}/{j}.jpg", True, "same")
        for p in range(people)
        for i in range(photos)
        for j in range(i)
    ]
    rng = np.random.default_rng(seed)
    for _ in range(len(pairs)):
        a, b = rng.choice(people, 2, replace=False)
        pairs.append(Pair(f"/d/p{a}/{rng.integers(photos)}.jpg", f"/d/p{b}/{rng.integers(photos)}.jpg", False, "other"))
    return PairList("made", tuple(pairs))


def test_people_who_share_pairs_widen_the_interval() -> None:
    pairs = crowd(30, 8)
    people = people_of(pairs)
    assert people is not None and people.shape == (len(pairs), 2)
    hard = np.random.default_rng(1).normal(size=30)  # a person's photos are all alike or all unlike
    scores = np.array([(2 if pair.label else 0) + hard[a] for pair, (a, _) in zip(pairs, people, strict=True)])
    scores += np.random.default_rng(2).normal(size=len(scores)) * 0.5
    alone, together = eer_interval(scores, pairs.labels), eer_interval(scores, pairs.labels, people=people)
    assert together.how == "people resampled"
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert together == eer_interval(scores, pairs.labels, people=people)
    result = evaluate(pairs, np.tanh(scores), resamples=100)
    assert result.eer_ci_how == "people resampled"


@pytest.mark.parametrize(
    ("pair", "known"),
    [
        (Pair("/d/p1/a.jpg", "/d/p2/b.jpg", True, "same"), False),  # one person in two folders
        (Pair("/d/p1/a.jpg", "/d/p1/b.jpg", False, "other"), False),  # two people in one
        (Pair("/d/p1/a.jpg", "/d/p1/b.jpg", False, "fake"), True),
        (Pair("/d/p1/a.jpg", "/d/p1/b.jpg", None, None), False),
    ],
)
def test_folders_are_people_only_where_the_labels_agree(pair: Pair, known: bool) -> None:
    pairs = PairList("made", (*crowd(12, 3).pairs, pair))
    assert (people_of(pairs) is not None) == known
    assert people_of(crowd(9, 3)) is None


def test_repeats_contradictions_and_selves_are_counted_and_said() -> None:
    same, other = Pair("a", "b", True, "same"), Pair("a", "c", False, "other")
    extra = (Pair("b", "./a", True, "same"), same, Pair("c", "a", True, "same"), Pair("d", "d", True, "same"))
    pairs = PairList("made", (same, other, Pair("e", "f", False, "other"), *extra))
    flaws = flaws_of(pairs)
    assert (flaws.repeated, flaws.with_itself, flaws.contradictory) == (2, 1, 1)
    assert flaws.once.tolist() == [True, True, True, False, False, True, True]
    assert flaws.texts() == [
        "2 pairs repeat another pair of the list; intervals count them once",
        "1 pair of a photo with itself",
        "1 pair with both labels",
    ]
    result = evaluate(pairs, [0.9, 0.1, 0.0, 0.9, 0.9, 0.1, 1.0])
    assert (result.pairs, result.repeated_pairs, result.pairs_with_itself, result.contradictory_pairs) == (7, 2, 1, 1)
    assert result.flaws == flaws.texts()


def test_copies_of_pairs_are_no_evidence() -> None:
    two = (Pair("a", "b", True, "same"), Pair("a", "c", False, "other"))
    few, many = (evaluate(PairList("made", two * times), [0.9, 0.1] * times) for times in (1, 2000))
    assert many.eer_ci == few.eer_ci and many.auc_ci == few.auc_ci
    assert many.eer_ci[1] > 0.8
    assert many.fnmr_ci["1e-1"] == share_bounds(0, 1)


def test_every_kind_of_negatives_has_its_own_rates(tmp_path: Path) -> None:
    lines = ["path_a,path_b,label,kind"] + [f"s{i}a,s{i}b,1," for i in range(12)]
    for number, kind in enumerate(("other", "fake", "kin", "Twin")):
        lines += [f"{kind}{i}a,{kind}{i}b,0,{kind}" for i in range(10 + number)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines))
    pairs = read_pairs(path)
    assert pairs.negative_kinds == ("other", "fake", "kin", "twin")
    offset = {"same": 0.6, "other": 0.0, "fake": 0.5, "kin": 0.2, "twin": 0.7}
    scores = np.array([offset[pair.kind or ""] for pair in pairs]) + np.random.default_rng(0).normal(
        0, 0.05, len(pairs)
    )
    result = evaluate(pairs, scores)
    assert list(result.kinds) == ["other", "fake", "kin", "twin"]
    for kind, rates in result.kinds.items():
        chosen = pairs.labels | (pairs.kinds == kind)
        assert (rates.eer, rates.threshold) == metrics.eer(scores[chosen], pairs.labels[chosen])
        assert rates.negatives == (pairs.kinds == kind).sum()
        assert rates.eer_ci[0] <= rates.eer <= rates.eer_ci[1]
        assert rates.fnmr_at_fmr["1e-1"] is not None and rates.fnmr_at_fmr["1e-2"] is None
    assert result.kinds["twin"].eer > 0.8 and result.kinds["kin"].eer < 0.2
    assert (result.eer_other, result.eer_fake) == (result.kinds["other"].eer, result.kinds["fake"].eer)
    fields = json.loads(json.dumps(result.to_json_dict(), allow_nan=False))
    assert fields["kinds"]["kin"]["eer"] == result.kinds["kin"].eer
    assert fields["cannot_tell"]["kinds.kin.fnmr_at_fmr.1e-2"] == "needs 100 negatives, there are 12"
