"""Splits: everybody once, the numbers that were asked for, and the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.split import part_of, read_split, split_people, write_split

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=20, unique=True)


@settings(max_examples=30, deadline=None)
@given(NAMES, st.data(), st.integers(0, 3))
def test_everybody_is_in_one_part_at_most(names: list[str], data: st.DataObject, seed: int) -> None:
    train = data.draw(st.integers(0, len(names)))
    test = data.draw(st.integers(0 if train else 1, len(names) - train)) if train < len(names) else 0
    split = split_people(names, train=train, validate=0, test=test, seed=seed)
    assert [len(split[part]) for part in ("train", "validate", "test")] == [train, 0, test]
    everybody = [person for part in split.values() for person in part]
    assert len(set(everybody)) == len(everybody)
    assert set(everybody) <= set(names)
    assert all(list(part) == sorted(part) for part in split.values())
    assert split == split_people(data.draw(st.permutations(names)), train=train, validate=0, test=test, seed=seed)


@given(st.integers(3, 500), st.sampled_from([(0.75, 0.1, 0.15), (0.6, 0.2, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.5, 0, 0.5)]))
def test_shares(count: int, shares: tuple[float, float, float]) -> None:
    names = [f"{number:03d}" for number in range(count)]
    train, validate, test = shares
    try:
        split = split_people(names, train=train, validate=validate, test=test, seed=1)
    except DataError as error:
        assert "is nobody" in str(error)
        assert min(share for share in shares if share) * count < 2
        return
    sizes = [len(split[part]) for part in ("train", "validate", "test")]
    assert sum(sizes) == count
    assert all(abs(size - share * count) < 1 for size, share in zip(sizes, shares, strict=True))


def test_known_split() -> None:
    """The same on every machine: these names were written down."""
    names = [str(number) for number in range(10)]
    split = split_people(names, train=5, validate=2, test=2, seed=7)
    assert split == KNOWN
    assert split_people(names, train=5, validate=2, test=2, seed=8) != KNOWN


KNOWN = {"train": ("2", "3", "4", "7", "8"), "validate": ("1", "9"), "test": ("5", "6")}


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ((8, 2, 1), DataError, "--train 8, --validate 2, --test 1 is 11 people, but there are 10; ask for fewer"),
        ((8, 0.1, 0.1), UsageError, "give numbers of people for all three, or shares below 1"),
        ((0.8, 0.2, 0.1), UsageError, "the shares sum to 1.1, more than 1"),
        ((-1, 2, 3), UsageError, "of 0 or more"),
        ((float("nan"), 2, 3), UsageError, "of 0 or more"),
        ((0, 0, 0), UsageError, "nobody is asked for"),
        ((0.9, 0.05, 0.05), DataError, "10 people are too few: --validate 0.05 of them is nobody"),
    ],
)
def test_what_cannot_be_met(parts: tuple[float, float, float], error: type[Exception], message: str) -> None:
    train, validate, test = parts
    with pytest.raises(error, match=message):
        split_people([str(n) for n in range(10)], train=train, validate=validate, test=test, seed=0)


def test_file_and_back(tmp_path: Path) -> None:
    split = split_people(["ann", "j\udce9rome", "Яна", "cid"], train=2, validate=1, test=1, seed=3)
    write_split(tmp_path / "split.json", split, seed=3)
    assert read_split(tmp_path / "split.json") == split
    assert json.loads((tmp_path / "split.json").read_bytes().decode("ascii"))["seed"] == 3
    assert set(part_of(split).values()) == {"train", "validate", "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a split"),
        ("[]", "is not a split"),
        ('{"train": ["a"], "validate": []}', "is not a split .*'test'"),
        ('{"train": "ann", "validate": [], "test": []}', "must be a list of names"),
        ('{"train": [1], "validate": [], "test": []}', "must be a list of names"),
        ('{"train": ["a"], "validate": [], "test": ["a"]}', "'a' is listed twice, in train and in test"),
        ('{"train": ["a", "a"], "validate": [], "test": []}', "'a' is listed twice, in train and in train"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_split(tmp_path / "split.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make a split with: faceembed data split"):
        read_split(tmp_path / "split.json")
