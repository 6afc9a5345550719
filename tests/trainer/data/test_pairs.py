"""Pair lists: no person in two of them, both people of a fake in one part, a method left out, and `eval` reads them."""

from __future__ import annotations

import collections
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.pairs import divide, make_pairs, parse_ratios
from faceembed.trainer.data.people import People
from faceembed.trainer.data.samples import Sample
from faceembed.trainer.data.split import Split, split_people

PERSONS = [f"p{number:02d}" for number in range(12)]
SPLIT = split_people(PERSONS, train=6, validate=3, test=3, seed=1)


def album(photos: int = 5) -> People:
    """Twelve people; a self-blend of each photo, and swaps of everybody into everybody's photos."""
    samples = [Sample(f"/real/{person}/{number}.jpg", person) for person in PERSONS for number in range(photos)]
    for person in PERSONS:
        for number in range(3):
            samples.append(Sample(f"/fakes/selfblend/{person}/{number}.jpg", person, True, "selfblend"))
    for person, other in itertools.permutations(PERSONS, 2):
        samples.append(Sample(f"/fakes/swap/{person}/{other}.jpg", person, True, "swap", other))
    return People("album", tuple(samples))


def owners(path: str) -> set[str]:
    """Everybody who is in a picture, from its name."""
    parts = path.split("/")
    return {parts[-2]} if "swap" not in parts else {parts[-2], parts[-1].removesuffix(".jpg")}


def test_nobody_is_in_two_lists(tmp_path: Path) -> None:
    report = make_pairs(album(), tmp_path / "pairs", split=SPLIT, count=240, seed=5)
    assert report.pairs == {"train": 120, "validate": 60, "test": 60}
    assert report.kinds["train"] == {"same": 60, "fake": 30, "other": 30}
    assert report.methods["train"] == {"selfblend": 15, "swap": 15}
    assert report.people == {"train": 6, "validate": 3, "test": 3}
    assert report.fakes_across == 132 - 30 - 6 - 6
    seen: dict[str, set[str]] = {}
    for part in ("train", "validate", "test"):
        listed = read_pairs(tmp_path / "pairs" / f"{part}.csv")
        assert len(listed) == report.pairs[part]
        assert collections.Counter(listed.kinds.tolist()) == report.kinds[part]
        assert (listed.labels == (listed.kinds == "same")).all()
        seen[part] = {person for photo in listed.photos for person in owners(photo)}
        assert seen[part] <= set(SPLIT[part])
    assert not (seen["train"] & seen["validate"] | seen["train"] & seen["test"] | seen["validate"] & seen["test"])


def test_the_same_bytes_again_whatever_the_order(tmp_path: Path) -> None:
    people = album()
    turned = People("album", people.samples[::-1])
    for name, given_people, seed in (("one", people, 5), ("two", turned, 5), ("three", people, 6)):
        make_pairs(given_people, tmp_path / name, split=SPLIT, count=240, seed=seed)
    for file in ("train.csv", "validate.csv", "test.csv"):
        one, two, three = ((tmp_path / name / file).read_bytes() for name in ("one", "two", "three"))
        assert one == two
        assert one != three


def test_a_method_left_out_is_tested_alone(tmp_path: Path) -> None:
    report = make_pairs(album(), tmp_path, split=SPLIT, count=120, leave_out="swap")
    assert report.pairs == {"train": 60, "validate": 30, "test": 30, "test-swap": 30}
    assert {name: set(methods) for name, methods in report.methods.items()} == {
        "train": {"selfblend"},
        "validate": {"selfblend"},
        "test": {"selfblend"},
        "test-swap": {"swap"},
    }
    for name in ("train", "validate", "test"):
        assert "/swap/" not in (tmp_path / f"{name}.csv").read_text()
    alone = (tmp_path / "test-swap.csv").read_text()
    assert "/swap/" in alone
    assert "/selfblend/" not in alone
    listed = read_pairs(tmp_path / "test-swap.csv")
    assert {person for photo in listed.photos for person in owners(photo)} <= set(SPLIT["test"])


def test_methods_that_are_asked_for(tmp_path: Path) -> None:
    report = make_pairs(album(), tmp_path, split=SPLIT, count=120, methods=["selfblend"])
    assert set(report.methods["train"]) == {"selfblend"}
    assert report.fakes_other_methods == 132
    for options, message in (
        ({"methods": ["swop"]}, "--methods swop: there is no fake of this method; those there are: selfblend, swap"),
        ({"leave_out": "swop"}, "--leave-out swop: there is no fake"),
        ({"methods": ["swap"], "leave_out": "swap"}, "it is the only method"),
    ):
        with pytest.raises(UsageError, match=message):
            make_pairs(album(), tmp_path, split=SPLIT, count=120, **options)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["train", "validate", "test", "none"]), min_size=12, max_size=12))
def test_dividing_never_leaks(homes: list[str]) -> None:
    split: Split = {
        part: tuple(p for p, home in zip(PERSONS, homes, strict=True) if home == part)
        for part in ("train", "validate", "test")
    }
    people = album(photos=1)
    parts, across = divide(people, split)
    for part, samples in parts.items():
        assert {sample.person for sample in samples} == set(split[part])
        assert all(not sample.other or sample.other in split[part] for sample in samples)
    fakes = [sample for sample in people.samples if sample.fake]
    kept = sum(sample.fake for samples in parts.values() for sample in samples)
    assert kept + across == len(fakes)
    home = dict(zip(PERSONS, homes, strict=True))
    together = [f for f in fakes if home[f.person] != "none" and home[f.other or f.person] == home[f.person]]
    assert kept == len(together)


def test_people_who_are_not_there(tmp_path: Path) -> None:
    split = {**SPLIT, "test": (*SPLIT["test"][1:], "zoe", "yan")}
    report = make_pairs(album(), tmp_path / "some", split=split, count=100)
    assert (report.people_missing, report.people_unused, report.people["test"]) == (2, 1, 2)
    with pytest.raises(
        DataError, match="nobody of the split's 1 people for test has a photo in album; is it the split"
    ):
        make_pairs(album(), tmp_path / "none", split={**SPLIT, "test": ("zoe",)}, count=100)
    fake = Sample("/fakes/zoe.jpg", "zoe", True, "swap", "p00")
    with pytest.raises(
        DataError, match=r"1 fakes show people without a real photo, the first is /fakes/zoe.jpg of 'zoe'"
    ):
        make_pairs(People("album", (*album().samples, fake)), tmp_path / "none", split=SPLIT, count=100)
    assert not (tmp_path / "none").exists()


def test_too_few_pairs_names_the_list_and_what_is_possible(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.csv: 250 pairs of kind same are wanted and 60 exist; .* 120 pairs"):
        make_pairs(album(), tmp_path, split=SPLIT, count=1000)
    with pytest.raises(DataError, match=r"train.csv: there are no pairs of kind same: nobody has two real photos"):
        make_pairs(album(photos=1), tmp_path, split=SPLIT, count=100)
    with pytest.raises(UsageError, match="expected at least one pair"):
        make_pairs(album(), tmp_path, split=SPLIT, count=0)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    samples = [Sample(f"/a, b/{person}/\udcff{n}.jpg", person) for person in ("ann", "bob") for n in range(3)]
    split: Split = {"train": ("ann", "bob"), "validate": (), "test": ()}
    make_pairs(People("p", tuple(samples)), tmp_path, split=split, count=6, ratios=(1, 0, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]
    assert set(read_pairs(tmp_path / "train.csv").photos) <= {sample.path for sample in samples}


def test_ratios() -> None:
    assert parse_ratios("50,25,25") == (50, 25, 25)
    for text in ("50,25", "a,b,c", "", "1,2,3,4"):
        with pytest.raises(UsageError, match="expected three shares, of same, fake and other"):
            parse_ratios(text)
