"""Metrics against scikit-learn, against counting by hand, and against what must hold for any scores."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from faceembed.engine.evaluate import metrics
from faceembed.errors import DataError


def draw(seed: int, positives: int, negatives: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.r_[np.ones(positives, bool), np.zeros(negatives, bool)])
    scores = rng.normal(size=len(labels)) * 0.15 + np.where(labels, 0.4, 0.0)
    return (np.round(scores, 1) if ties else scores), labels


# Few distinct values, so that ties are common; eighths are exact in binary.
samples = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def split(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 8 for score, _ in rows]), np.array([label for _, label in rows])


@pytest.mark.parametrize(
    ("positive", "negative", "rate", "threshold"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0.0, 0.5),  # apart: the middle of the gap
        ([0.1, 0.2], [0.9, 0.8], 1.0, 0.5),  # the wrong way round
        ([0.5, 0.5], [0.5, 0.5], 0.5, 0.5),  # nothing but one tie
        ([0.9, 0.3], [0.4, 0.1], 0.5, 0.35),  # one of two wrong on either side
        ([0.9, 0.8, 0.7, 0.2], [0.75, 0.3, 0.1, 0.0], 0.25, 0.5),  # point (1/4, 1/4) holds for 0.3 < t <= 0.7
        ([0.8], [0.6, 0.4], 0.0, 0.7),
        # (0, 1) at t > 0.9, (0, 1/2) at 0.9, (1/3, 1/2) at 0.5, (1/3, 0) at 0.3: crossing 2/3 along the last piece
        ([0.9, 0.3], [0.5, 0.1, 0.0], 1 / 3, 0.5 - (1 / 3) * 0.2),
    ],
)
def test_eer_of_hand_made_tables(positive: list[float], negative: list[float], rate: float, threshold: float) -> None:
    scores = positive + negative
    labels = [True] * len(positive) + [False] * len(negative)
    assert metrics.eer(scores, labels) == pytest.approx((rate, threshold), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("positives", "negatives"), [(300, 300), (40, 1000), (1000, 7), (1, 1)])
def test_against_scikit_learn(positives: int, negatives: int, ties: bool) -> None:
    scores, labels = draw(positives, positives, negatives, ties=ties)
    curve = metrics.roc(scores, labels)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fmr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.fnmr, 1 - tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert metrics.auc(curve) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    # scipy's interpolation has no single value on a vertical piece: leave those to the brute force below
    if len(np.unique(fpr)) == len(fpr):
        expected = brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1)
        assert metrics.eer_of(curve)[0] == pytest.approx(expected, abs=1e-9)


@given(samples)
def test_eer_is_where_the_polygon_meets_the_diagonal(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    points = [(0.0, 1.0)]
    for t in sorted(set(scores), reverse=True):
        points.append((np.mean(scores[~labels] >= t), np.mean(scores[labels] < t)))
    crossings = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 - y0 <= 0 <= x1 - y1:
            w = (y0 - x0) / ((x1 - y1) - (x0 - y0))
            crossings.append(x0 + w * (x1 - x0))
    assert metrics.eer(scores, labels)[0] == pytest.approx(crossings[0], abs=1e-12)
    assert np.ptp(crossings) < 1e-12


@given(samples)
def test_threshold_gives_rates_around_the_eer(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    rate, threshold = metrics.eer(scores, labels)
    accepted, strictly = scores >= threshold, scores > threshold
    fmr, fnmr = np.mean(accepted[~labels]), np.mean(~accepted[labels])
    if fmr != fnmr:  # between two operating points: one on either side of the diagonal, or a tie right at the threshold
        below = np.mean(scores[~labels] >= scores[scores <= threshold].max(initial=-2))
        assert np.mean(strictly[~labels]) <= rate + 1e-12 <= below + 2e-12
    else:
        assert fmr == pytest.approx(rate, abs=1e-12)


@given(samples)
def test_rates_do_not_change_under_rising_maps(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    before, after = metrics.roc(scores, labels), metrics.roc(np.exp(scores * 3) - 7, labels)
    np.testing.assert_array_equal(before.fmr, after.fmr)
    np.testing.assert_array_equal(before.fnmr, after.fnmr)
    assert metrics.eer_of(before)[0] == metrics.eer_of(after)[0]
    assert metrics.bootstrap_eer(before, resamples=20) == metrics.bootstrap_eer(after, resamples=20)


@given(samples)
def test_turning_everything_round_changes_nothing(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    rate, threshold = metrics.eer(scores, labels)
    mirrored_rate, mirrored_threshold = metrics.eer(-scores, ~labels)
    assert mirrored_rate == pytest.approx(rate, abs=1e-12)
    curve, mirrored = metrics.roc(scores, labels), metrics.roc(-scores, ~labels)
    assert metrics.auc(mirrored) == pytest.approx(metrics.auc(curve), abs=1e-12)
    assert metrics.auc(metrics.roc(-scores, labels)) == pytest.approx(1 - metrics.auc(curve), abs=1e-12)
    assert metrics.eer(-scores, labels)[0] == pytest.approx(1 - rate, abs=1e-12)
    assert scores.min() <= threshold <= scores.max()
    assert scores.min() <= -mirrored_threshold <= scores.max()


@given(samples)
def test_bounds_and_order(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    curve = metrics.roc(scores, labels)
    assert (curve.fmr[0], curve.fnmr[0], curve.fmr[-1], curve.fnmr[-1]) == (0, 1, 1, 0)
    assert (
        (np.diff(curve.fmr) >= 0).all() and (np.diff(curve.fnmr) <= 0).all() and (np.diff(curve.thresholds) < 0).all()
    )
    rate, _ = metrics.eer_of(curve)
    low, high = metrics.bootstrap_eer(curve, resamples=50)
    assert 0 <= rate <= 1 and 0 <= low <= high <= 1
    low, high = metrics.auc_interval(scores, labels)
    assert 0 <= low <= metrics.auc(curve) + 1e-12 and metrics.auc(curve) - 1e-12 <= high <= 1


@given(samples, st.randoms(use_true_random=False))
def test_order_of_pairs_does_not_matter(rows: list[tuple[int, bool]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert metrics.eer(*split(rows)) == metrics.eer(*split(shuffled))


@given(samples)
def test_auc_counts_couples(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    difference = scores[labels][:, None] - scores[~labels][None, :]
    expected = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert metrics.auc(metrics.roc(scores, labels)) == pytest.approx(expected, abs=1e-12)


def test_fnmr_at_fmr_against_counting() -> None:
    scores, labels = draw(3, 500, 3000, ties=False)
    curve = metrics.roc(scores, labels)
    for exponent, allowed in ((1, 300), (2, 30), (3, 3)):
        cut = np.sort(scores[~labels])[::-1][allowed]  # the first negative too many
        expected = np.mean(scores[labels] <= cut)
        assert metrics.fnmr_at_fmr(curve, exponent) == pytest.approx(expected, abs=1e-12)
    assert [metrics.fnmr_at_fmr(curve, k) for k in (4, 5, 6)] == [None] * 3


@pytest.mark.parametrize(("negatives", "known"), [(9, False), (10, True), (11, True)])
def test_one_negative_in_ten_is_the_least_that_tells_fmr_0_1(negatives: int, known: bool) -> None:
    curve = metrics.roc(np.r_[1.0, np.zeros(negatives)], np.r_[True, np.zeros(negatives, bool)])
    assert (metrics.fnmr_at_fmr(curve, 1) is not None) is known


def test_tied_negatives_are_accepted_together_or_not_at_all() -> None:
    curve = metrics.roc([0.9, 0.5, 0.5, 0.5] + [0.0] * 8, [True, True, False, False] + [False] * 8)
    assert metrics.fnmr_at_fmr(curve, 1) == 0.5  # FMR <= 0.1 allows one of ten: the two at 0.5 are too many


def brute_fold_accuracy(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> tuple[float, float]:
    values = np.unique(scores)
    cuts = np.r_[values[0] - 1, (values[1:] + values[:-1]) / 2, values[-1] + 1][::-1]
    rates = []
    for fold in sorted(set(folds)):
        train, test = folds != fold, folds == fold
        right = np.array([np.sum((scores[train] >= cut) == labels[train]) for cut in cuts])
        best = np.flatnonzero(right == right.max())
        rates.append(np.mean((scores[test] >= cuts[best[len(best) // 2]]) == labels[test]))
    return float(np.mean(rates)), float(np.std(rates))


@pytest.mark.parametrize("ties", [False, True])
def test_fold_accuracy_against_brute_force(ties: bool) -> None:
    scores, labels = draw(5, 120, 80, ties=ties)
    folds = np.arange(200) % 10
    result = metrics.fold_accuracy(scores, labels, folds=folds)
    assert result is not None
    assert (result.mean, result.std) == pytest.approx(brute_fold_accuracy(scores, labels, folds), abs=1e-12)


def test_fold_accuracy_uses_the_threshold_of_the_other_folds() -> None:
    # Each fold is separable, but at another place: its neighbour's threshold gets half of it wrong.
    scores = np.array([0.9, 0.8, 0.3, 0.2])
    labels = np.array([True, False, True, False])
    result = metrics.fold_accuracy(scores, labels, folds=np.array([0, 0, 1, 1]))
    assert result == metrics.FoldAccuracy(0.5, 0.0)


def test_default_folds_are_repeatable_and_balanced() -> None:
    scores, labels = draw(6, 50, 90)
    assert metrics.fold_accuracy(scores, labels) == metrics.fold_accuracy(scores, labels)
    folds = metrics._stratified_folds(labels, 10, seed=1)
    assert np.bincount(folds[labels]).tolist() == [5] * 10
    assert np.bincount(folds[~labels]).tolist() == [9] * 10
    assert not np.array_equal(folds, metrics._stratified_folds(labels, 10, seed=2))


@pytest.mark.parametrize(("positives", "negatives"), [(9, 100), (100, 9)])
def test_too_few_pairs_for_ten_folds(positives: int, negatives: int) -> None:
    assert metrics.fold_accuracy(*draw(7, positives, negatives)) is None


def test_folds_without_both_classes_outside_cannot_choose_a_threshold() -> None:
    assert metrics.fold_accuracy([0.1, 0.9, 0.2], [False, True, False], folds=np.array([0, 1, 0])) is None
    assert metrics.fold_accuracy([0.1, 0.9], [False, True], folds=np.array([0, 0])) is None


@pytest.mark.parametrize(
    ("positives", "negatives", "ties"), [(3000, 3000, False), (200, 5000, False), (400, 400, True)]
)
def test_bootstrap_agrees_with_drawing_pairs(positives: int, negatives: int, ties: bool) -> None:
    scores, labels = draw(8, positives, negatives, ties=ties)
    same, rest = scores[labels], scores[~labels]
    truth = np.r_[np.ones(positives, bool), np.zeros(negatives, bool)]
    rng = np.random.default_rng(0)
    drawn = [metrics.eer(np.r_[rng.choice(same, positives), rng.choice(rest, negatives)], truth)[0] for _ in range(600)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    width = high - low
    assert metrics.bootstrap_eer(metrics.roc(scores, labels)) == pytest.approx((low, high), abs=0.15 * width)


def test_bootstrap_of_separated_scores_is_certain() -> None:
    low, high = metrics.bootstrap_eer(metrics.roc([0.9, 0.8, 0.1, 0.2], [True, True, False, False]))
    assert (low, high) == pytest.approx((0, 0), abs=1e-12)


def test_bootstrap_is_seeded_and_wider_for_less_data() -> None:
    curve = metrics.roc(*draw(9, 300, 300))
    assert metrics.bootstrap_eer(curve, seed=4) == metrics.bootstrap_eer(curve, seed=4)
    few, many = metrics.bootstrap_eer(curve), metrics.bootstrap_eer(metrics.roc(*draw(9, 30000, 30000)))
    assert few[1] - few[0] > 5 * (many[1] - many[0])


def test_bootstrap_of_6000_pairs_takes_less_than_two_seconds() -> None:
    curve = metrics.roc(*draw(10, 3000, 3000))
    start = time.perf_counter()
    metrics.bootstrap_eer(curve, resamples=1000)
    assert time.perf_counter() - start < 2


def test_many_pairs_are_thinned_without_moving_the_interval() -> None:
    scores, labels = draw(11, 200_000, 200_000)
    curve = metrics.roc(scores, labels)
    rate, _ = metrics.eer_of(curve)
    low, high = metrics.bootstrap_eer(curve)
    # Both rates are shares of 200,000: to first order the EER's deviation is that of their weighted mean.
    assert low < rate < high and high - low < 4 * np.sqrt(rate * (1 - rate) / 200_000)


def test_auc_interval_against_drawing_pairs() -> None:
    scores, labels = draw(12, 200, 300)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        rows = np.r_[rng.choice(np.flatnonzero(labels), 200), rng.choice(np.flatnonzero(~labels), 300)]
        drawn.append(roc_auc_score(labels[rows], scores[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert metrics.auc_interval(scores, labels) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_auc_interval_by_hand() -> None:
    # Placements 1 and 1/2 in either class: variance 1/8 each, so that of the AUC is 1/8 / 2 + 1/8 / 2 = 1/8.
    low, high = metrics.auc_interval([0.9, 0.5, 0.6, 0.1], [True, True, False, False])
    assert (low, high) == (pytest.approx(0.75 - 1.959964 * np.sqrt(1 / 8)), 1.0)


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (5, 10, (0.2366, 0.7634)), (1, 100, (0.0018, 0.0545))],
)
def test_wilson_interval_of_known_tables(count: int, total: int, expected: tuple[float, float]) -> None:
    assert metrics.wilson_interval(count, total) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("count", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses(count: int, total: int) -> None:
    with pytest.raises(DataError, match="0 <= count <= total"):
        metrics.wilson_interval(count, total)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, np.nan], [True, False], "score 1 is nan"),
        ([np.inf, 0.2], [True, False], "score 0 is inf"),
        ([0.1, 0.2], [True, True], "all positive"),
        ([0.1, 0.2], [0, 0], "all negative"),
        ([], [], "empty"),
        ([0.1, 0.2], [True], "one shape"),
        ([[0.1, 0.2]], [[True, False]], "one shape"),
        ([0.1, 0.2], [1, 2], "1 and 0"),
    ],
)
def test_refuses(scores: list[float], labels: list[bool], message: str) -> None:
    for call in (metrics.roc, metrics.eer, metrics.fold_accuracy, metrics.auc_interval):
        with pytest.raises(DataError, match=message):
            call(scores, labels)


@given(samples, st.lists(st.integers(-8, 8), min_size=10, max_size=40))
def test_fnmr_at_fmr_is_the_best_of_all_thresholds(rows: list[tuple[int, bool]], negatives: list[int]) -> None:
    scores, labels = split(rows + [(score, False) for score in negatives])
    cuts = np.r_[scores, 2.0]
    allowed = [np.mean(scores[labels] < cut) for cut in cuts if np.sum(scores[~labels] >= cut) * 10 <= np.sum(~labels)]
    assert metrics.fnmr_at_fmr(metrics.roc(scores, labels), 1) == min(allowed)
