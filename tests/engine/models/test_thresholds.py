"""Thresholds at stated rates: the smallest that keep them, with intervals that cover, by hand and on drawn people."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Level, ModelSpec
from faceembed.engine.models.thresholds import levels, rate_text, threshold_of
from faceembed.errors import DataError, ModelError, UsageError

SPEC = ModelSpec(
    "toy", "encoder", (112, 112), dimension=8, template=ARCFACE_TEMPLATE, threshold=0.4, threshold_source="here"
)
MEASURED = dataclasses.replace(SPEC, thresholds=(Level(0.01, 0.3, 0.28, 0.31), Level(0.001, 0.5, 0.4, 0.6)))


def faces(
    people: int, photos: int, *, seed: int = 0, size: int = 8, noise: float = 0.3
) -> tuple[NDArray[np.float32], list[str]]:
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(people, size)), photos, axis=0) + noise * rng.normal(size=(people * photos, size))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), [f"p{number // photos}" for number in range(people * photos)]


def strangers(rows: NDArray[np.float32], people: list[str]) -> NDArray[np.float64]:
    table, who = rows @ rows.T, np.asarray(people)
    return np.asarray(table[np.triu(who[:, None] != who[None], 1)], np.float64)


@pytest.mark.parametrize("people, photos, rates", [(40, 3, 1), (140, 3, 2), (160, 10, 4), (5, 2, 0)])
def test_the_smallest_threshold_that_keeps_the_rate(people: int, photos: int, rates: int) -> None:
    rows, names = faces(people, photos)
    found, cosines = levels(rows, names), strangers(rows, names)
    assert [level.fmr for level in found] == [0.01, 0.001, 1e-4, 1e-5][:rates]
    for level in found:
        assert (cosines >= level.threshold).mean() <= level.fmr
        assert ((cosines >= level.threshold - 1e-4).sum() + 1) / len(cosines) > level.fmr
        assert level.low - 1e-4 <= level.threshold <= level.high + 1e-4


def test_the_order_of_rows_says_nothing() -> None:
    rows, names = faces(60, 3)
    order = np.random.default_rng(1).permutation(len(rows))
    again = levels(rows[order], [names[place] for place in order])
    assert [level.threshold for level in again] == [level.threshold for level in levels(rows, names)]


def test_copies_of_a_similarity_match_together() -> None:
    rows = np.eye(40, dtype=np.float32)  # all strangers at 0: from 0 on all match, so no threshold of theirs keeps 1 %
    (found,) = levels(np.repeat(rows, 2, axis=0), [f"p{number // 2}" for number in range(80)])
    assert 0 < found.threshold < 1e-3


def test_intervals_cover_what_other_people_show() -> None:
    rows, names = faces(3000, 1, size=16)
    truth = np.quantile(strangers(rows, names), 0.99)
    covered = 0
    for draw in range(25):
        part = np.random.default_rng(draw).choice(3000, 120, replace=False)
        level = levels(rows[part], [names[place] for place in part])[0]
        covered += level.low <= truth <= level.high
    assert covered >= 21


def test_one_person_tells_nothing() -> None:
    with pytest.raises(DataError, match="two people or more"):
        levels(*faces(1, 5))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=30), st.integers(0, 99))
def test_any_people(people: list[str], seed: int) -> None:
    rows, _ = faces(len(people), 1, seed=seed)
    if len(set(people)) < 2:
        return
    for level in levels(rows, people):
        assert level.low <= level.high and -1 <= level.threshold <= 1.01


def test_what_a_command_goes_by() -> None:
    assert threshold_of(SPEC) == (0.4, "here")
    assert threshold_of(SPEC, given=0.7) == (0.7, "given")
    assert threshold_of(MEASURED, fmr=0.001) == (0.5, "FMR 0.1 % over strangers, 0.4 to 0.6 (95 %)")
    for value in (float("nan"), 1.5):
        with pytest.raises(UsageError, match="is no cosine"):
            threshold_of(SPEC, given=value)
    with pytest.raises(UsageError, match="give one of them"):
        threshold_of(MEASURED, given=0.7, fmr=0.01)
    with pytest.raises(UsageError, match=r"--fmr 0.02: measured for encoder toy are 0.01, 0.001"):
        threshold_of(MEASURED, fmr=0.02)
    with pytest.raises(UsageError, match="no thresholds by rate; give --threshold"):
        threshold_of(SPEC, fmr=0.01)
    assert [rate_text(rate) for rate in (0.01, 0.001, 1e-5)] == ["1 %", "0.1 %", "0.001 %"]


def test_a_spec_keeps_them() -> None:
    assert ModelSpec.from_json(MEASURED.to_json()) == MEASURED
    with pytest.raises(ModelError, match="not a model spec"):
        ModelSpec.from_json(MEASURED.to_json().replace('"low"', '"lowest"'))
    with pytest.raises(ModelError, match="is none"):
        Level(0.0, 0.5, 0.4, 0.6)
