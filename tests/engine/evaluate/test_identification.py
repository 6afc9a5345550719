"""1:N figures: recomputed in plain Python, against what they promise, and the mistakes they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.evaluate.identification import identification, threshold_at
from faceembed.errors import DataError


def made(seed: int, *, people: int = 20, probes: int = 300, strangers: int = 400) -> tuple[Any, list[int], list[str]]:
    rng = np.random.default_rng(seed)
    owner = [*rng.integers(0, people, probes).tolist(), *[-1] * strangers]
    scores = rng.normal(0, 1, (probes + strangers, people))
    for row, who in enumerate(owner):
        if who >= 0:
            scores[row, who] += 2.5
    scores = np.round(scores, 1)  # with ties
    return scores.astype(np.float32), owner, [f"g{who}" if who >= 0 else f"s{n % 90}" for n, who in enumerate(owner)]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_recomputed(seed: int) -> None:
    scores, owner, subjects = made(seed, probes=40, strangers=60)
    found = identification(scores, owner, subjects)
    mated = [(row, who) for row, who in zip(scores.tolist(), owner, strict=True) if who >= 0]
    for k, rate in found.rank.items():
        hits = sum(sum(value > row[who] for value in row) < int(k) for row, who in mated)
        assert rate == pytest.approx(hits / len(mated))
    tops = [max(row) for row, who in zip(scores.tolist(), owner, strict=True) if who < 0]
    at = found.fnir_at_fpir["1e-1"]
    assert at is not None
    share = sum(top >= at.threshold for top in tops) / len(tops)
    assert share <= 0.1
    lower = max((top for top in tops if top < at.threshold), default=None)
    assert lower is not None and sum(top >= lower for top in tops) / len(tops) > 0.1
    missed = sum(not (row[who] >= at.threshold and row[who] == max(row)) for row, who in mated)
    assert at.rate == pytest.approx(missed / len(mated)) and at.ci[0] <= at.rate <= at.ci[1]
    for fpir, fnir, limit in found.det:
        assert fpir == pytest.approx(sum(top >= limit for top in tops) / len(tops))
        assert fnir == pytest.approx(sum(not (r[w] >= limit and r[w] == max(r)) for r, w in mated) / len(mated))


def test_too_few_strangers_cannot_tell() -> None:
    scores, owner, subjects = made(1, strangers=400)
    found = identification(scores, owner, subjects)
    assert found.fnir_at_fpir["1e-2"] is not None and found.fnir_at_fpir["1e-3"] is None
    document = found.to_json_dict()
    assert document["cannot_tell"] == {"fnir_at_fpir.1e-3": "needs 1,000 probes of strangers, there are 400"}
    none = identification(scores[:300], owner[:300], subjects[:300])
    assert none.det == [] and set(none.fnir_at_fpir.values()) == {None} and none.rank["1"] > 0.5


def test_a_probe_without_a_face_is_missed_at_every_rank() -> None:
    scores, owner, subjects = made(2)
    failed = [number < 30 for number in range(len(owner))]
    whole, less = identification(scores, owner, subjects), identification(scores, owner, subjects, failed=failed)
    assert less.failures == 30 and less.rank["20"] == pytest.approx(270 / 300) and whole.rank["20"] == 1.0
    nan = scores.copy()
    nan[:30] = np.nan
    assert identification(nan, owner, subjects, failed=failed) == less


def test_intervals_hold_the_truth_and_know_of_people() -> None:
    """Strangers that are one person's photos over and over say little: the interval is wide."""
    scores, owner, subjects = made(3)
    each = identification(scores, owner, subjects).fnir_at_fpir["1e-1"]
    few = identification(
        scores, owner, [s if s[0] == "g" else f"s{n % 4}" for n, s in enumerate(subjects)]
    ).fnir_at_fpir["1e-1"]
    assert each is not None and few is not None and each.rate == few.rate
    assert few.ci[1] - few.ci[0] != each.ci[1] - each.ci[0]
    truth = identification(*made(99, probes=20_000, strangers=20_000)).fnir_at_fpir["1e-1"]
    assert truth is not None and each.ci[0] <= truth.rate <= each.ci[1]


def test_no_errors_have_exact_bounds() -> None:
    scores = np.eye(10, dtype=np.float32)[[*range(10), *[0] * 50]]
    scores[10:] = 0
    found = identification(scores, [*range(10), *[-1] * 50], [str(n) for n in range(60)]).fnir_at_fpir["1e-1"]
    assert found is not None and found.rate == 0 and found.ci[0] == 0 and found.ci[1] == pytest.approx(0.3085, abs=1e-3)


@pytest.mark.parametrize("fpir", [0.01, 0.1, 0.5])
def test_the_threshold_keeps_the_rate(fpir: float) -> None:
    top = np.round(np.random.default_rng(0).normal(size=500), 2)
    limit = threshold_at(top, fpir)
    assert (top >= limit).mean() <= fpir
    assert (top >= np.nextafter(limit, -np.inf)).mean() > fpir


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, o, n: (s[:5], o, n), "expected scores"),
        (lambda s, o, n: (s[:, :0], o, n), "expected scores"),
        (lambda s, o, n: (s * np.nan, o, n), "not finite"),
        (lambda s, o, n: (s, [-1] * len(o), n), "no probe shows anybody of the gallery"),
    ],
)
def test_mistakes(change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        identification(*change(*made(0, probes=10, strangers=10)))
