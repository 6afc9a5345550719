"""Crop sets: what is written comes back, names are safe and distinct, damage is a clear line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceembed.engine.models.spec import ARCFACE_TEMPLATE
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.errors import DataError
from faceembed.trainer.data.crop_names import CropNames, safe_name
from faceembed.trainer.data.crops import Crop, CropInfo, from_table, read_crops, to_table, write_crop, write_crops
from faceembed.trainer.data.journal import Done, Journal, read_journal
from faceembed.trainer.data.people import read_people
from faceembed.trainer.data.samples import Sample

INFO = CropInfo("some", ARCFACE_TEMPLATE, 112, 96, "mtcnn", "ab" * 32)
ROWS = [
    Crop(
        "bob/swap~1.jpg",
        "/f/1.jpg",
        "bob",
        True,
        "swap",
        "j\udce9rome",
        0.5,
        tuple(map(float, range(10))),
        30,
        40,
        7,
        9,
    ),
    Crop("bob/1.jpg", "/p/\udcff.jpg", "bob"),
    Crop("j%E9rome/1.jpg", "/q/1.jpg", "j\udce9rome", score=0.25),
]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_crops(tmp_path, ROWS, INFO)
    crops = read_crops(tmp_path)
    assert crops.rows == (ROWS[1], ROWS[0], ROWS[2])
    assert crops.info == INFO
    assert (crops.height, crops.width, crops.template) == (112, 96, ARCFACE_TEMPLATE)
    assert crops.photos == ("/p/\udcff.jpg", "/f/1.jpg", "/q/1.jpg")
    folder = str(tmp_path)
    assert crops.samples[1] == Sample(os.path.join(folder, "bob/swap~1.jpg"), "bob", True, "swap", "j\udce9rome")
    assert read_people(tmp_path).samples == crops.samples


# What a file name may hold: any text, and bytes that are not UTF-8 as Python gives them. No other surrogates.
NAMED = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
BYTES = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
TEXT = st.text(NAMED | BYTES, max_size=5) | st.sampled_from(["\udcff", "\\udcff", ""])


@given(st.lists(st.builds(Crop, TEXT, TEXT, TEXT, st.booleans(), TEXT, TEXT, size=st.integers(0, 1 << 60)), max_size=5))
def test_any_text_in_a_table(rows: list[Crop]) -> None:
    assert from_table(to_table(rows)) == rows


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("crops.json", None, "crops.json cannot be read"),
        ("crops.json", "{", "crops.json is damaged"),
        ("crops.json", '{"version": 1, "template": []}', "crops.json is damaged"),
        ("crops.json", '{"version": 2}', "crops.json is of version 2, this program reads 1"),
        ("crops.parquet", "PAR1", "crops.parquet cannot be read"),
        ("crops.parquet", None, "is not a crop set: it has no crops.parquet; make one with: faceembed data align"),
    ],
)
def test_damage(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    write_crops(tmp_path, ROWS, INFO)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_crops(tmp_path)


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0), ("jpg", 3)])
def test_colours_are_right_way_round(tmp_path: Path, suffix: str, tolerance: int) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:] = (200, 90, 10)
    write_crop(tmp_path / f"a.{suffix}", pixels, format="png" if suffix == "png" else "jpg")
    read = cv2.imread(str(tmp_path / f"a.{suffix}"))[:, :, ::-1].astype(int)
    assert np.abs(read - pixels).max() <= tolerance


@given(
    st.text(min_size=1, max_size=8) | st.sampled_from(["..", ".", "a/b", "con:", "\udcff", "Яна", "x" * 300, "é" * 200])
)
def test_safe_names(text: str) -> None:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return  # no file name
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 180
    assert not set(name) & set('/\\:*?"<>|\0\n') and name.strip(" .") == name
    if text.isascii() and text.isalnum() and len(text) < 180:
        assert name == text


@settings(max_examples=60)
@given(st.lists(st.text("aA.%~é\udcff", min_size=1, max_size=3), min_size=1, max_size=12, unique=True))
def test_every_photo_has_a_name_of_its_own(stems: list[str]) -> None:
    assert len({safe_name(stem) for stem in stems}) == len(stems)
    names = CropNames(".jpg", ["ann/a.jpg"])
    given_names = [names.name(Sample(f"/p/{stem}.png", "ann")) for stem in stems]
    given_names += [names.name(Sample(f"/f/{stem}.png", "ann", True, "swap")) for stem in stems]
    assert len({name.casefold() for name in [*given_names, "ann/a.jpg"]}) == 2 * len(stems) + 1


def test_the_journal_comes_back(tmp_path: Path) -> None:
    failures = [Failure(PhotoFile("/p/\udcff,\n.jpg", 5, 6), "decode", 'a "reason"')]
    assert read_journal(str(tmp_path)) is None
    for part in (Done(ROWS[:2], []), Done(ROWS[2:], failures)):
        journal = Journal(str(tmp_path), INFO)
        journal.add(part)
        journal.close()
    assert read_journal(str(tmp_path)) == (INFO, Done(ROWS, failures))


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_journal_that_was_cut_short_anywhere(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "unfinished.jsonl"
    journal = Journal(str(tmp_path), INFO)
    journal.add(Done(ROWS, []))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * kept // 60])
    before = read_journal(str(tmp_path))
    journal = Journal(str(tmp_path), INFO)
    journal.add(Done(ROWS[:1], []))
    journal.close()
    after = read_journal(str(tmp_path))
    assert after is not None
    assert after[1].crops == [*(before[1].crops if before else []), ROWS[0]]


def test_a_damaged_journal(tmp_path: Path) -> None:
    for text in ("{}\n", json.dumps({"info": {}}) + "\n", json.dumps({"info": dataclasses.asdict(INFO)}) + "\n{}\n"):
        (tmp_path / "unfinished.jsonl").write_text(text)
        with pytest.raises(DataError, match=r"unfinished.jsonl is damaged .*--fresh"):
            read_journal(str(tmp_path))
