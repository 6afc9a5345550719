"""Groups that obey what is known: hypothesis draws the people, and every promise is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.index.clusters.constraints import Constraints, constrained, units
from faceembed.errors import UsageError


def pairs(*rows: tuple[int, int]) -> Any:
    return np.array(rows, np.int64).reshape(-1, 2)


def unit_rows(count: int, seed: int) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), count=st.integers(2, 14))
def test_what_is_known_is_obeyed(data: Any, count: int) -> None:
    row = st.integers(0, count - 1)
    drawn = st.lists(st.tuples(row, row).filter(lambda pair: pair[0] != pair[1]), max_size=10)
    must = pairs(*data.draw(drawn))
    unit = units(must, count)
    cannot = pairs(*((a, b) for a, b in data.draw(drawn) if unit[a] != unit[b]))
    groups = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    vectors = unit_rows(count, count)
    found = constrained(vectors, groups, Constraints(must, cannot))
    assert (found[must[:, 0]] == found[must[:, 1]]).all()
    assert (found[cannot[:, 0]] != found[cannot[:, 1]]).all()
    assert np.array_equal(constrained(vectors, found, Constraints(must, cannot)), found)  # obeyed once, obeyed
    # Without a constraint between them, faces of one group stay together unless it is torn, and groups are not joined.
    if not len(cannot):
        assert all(found[a] == found[b] for a in range(count) for b in range(count) if groups[a] == groups[b])
    if not len(must):
        assert all(groups[a] == groups[b] for a in range(count) for b in range(count) if found[a] == found[b])


def test_nothing_known_changes_nothing() -> None:
    groups = np.array([0, 1, 0, 2, 1])
    assert np.array_equal(constrained(unit_rows(5, 0), groups, Constraints.none()), groups)
    assert len(constrained(unit_rows(0, 0)[:0], groups[:0], Constraints.none())) == 0


def test_everybody_goes_to_whom_they_are_most_like() -> None:
    """Two people in one group; one pair that cannot be one person tells them apart."""
    centres = unit_rows(2, 3)
    rows = np.concatenate([np.repeat(centres[:1], 4, axis=0), np.repeat(centres[1:], 3, axis=0)])
    rows = rows + np.random.default_rng(1).normal(size=rows.shape).astype(np.float32) * 0.05
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = constrained(rows, np.zeros(7, np.int64), Constraints(pairs(), pairs((0, 6))))
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_faces_of_one_photo_are_two_people_unless_said() -> None:
    photo = np.array([5, 5, 7, 5, 8])
    known = Constraints(pairs((0, 3)), pairs()).with_photos(photo)
    assert {tuple(sorted(pair)) for pair in known.cannot.tolist()} == {(0, 1), (1, 3)}
    found = constrained(unit_rows(5, 2), np.zeros(5, np.int64), known)
    assert found[0] == found[3] != found[1]
    assert len(Constraints.none().with_photos(np.arange(4))) == 0


def test_a_contradiction() -> None:
    with pytest.raises(UsageError, match="faces 0 and 2 must be linked and cannot be"):
        constrained(unit_rows(3, 0), np.zeros(3, np.int64), Constraints(pairs((0, 1), (1, 2)), pairs((0, 2))))
