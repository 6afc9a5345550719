"""Pictures made elsewhere, registered among the fakes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceembed.engine.photos.failures import read_errors
from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.fakes.imports import import_fakes
from faceembed.trainer.data.fakes.manifest import read_fakes
from faceembed.trainer.data.people import read_people


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "arc"
    for person in ("ann", "bob"):
        (root / person).mkdir(parents=True)
        for number in range(2):
            grey = np.full((20, 30, 3), 60 * number + len(person), np.uint8)
            cv2.imwrite(str(root / person / f"{number}.png"), grey)
    return root


def test_folders(pictures: Path, tmp_path: Path) -> None:
    report = import_fakes(pictures, tmp_path / "fakes", method="arc2face")
    assert (report.imported, report.failed, report.fakes) == (4, 0, 4)
    rows = read_fakes(tmp_path / "fakes")
    assert {(row.method, row.source_person, row.target_person, row.seed, row.quality) for row in rows} == {
        ("arc2face", "ann", "", -1, 0),
        ("arc2face", "bob", "", -1, 0),
    }
    copies = sorted((tmp_path / "fakes" / row.fake).read_bytes() for row in rows)
    assert copies == sorted(path.read_bytes() for path in pictures.glob("*/*"))
    samples = read_people(tmp_path / "fakes").samples
    assert {(s.person, s.fake, s.method, s.other) for s in samples} == {
        ("ann", True, "arc2face", ""),
        ("bob", True, "arc2face", ""),
    }
    again = import_fakes(pictures, tmp_path / "fakes", method="arc2face")
    assert (again.imported, again.skipped, again.fakes) == (0, 4, 4)
    other = import_fakes(pictures, tmp_path / "fakes", method="instantid", copy="link")
    assert other.methods == {"arc2face": 4, "instantid": 4}
    linked = next(row for row in read_fakes(tmp_path / "fakes") if row.method == "instantid")
    assert os.stat(tmp_path / "fakes" / linked.fake).st_nlink == 2


def test_csv(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "provenance.csv"
    table.write_text(
        "fake,source_person,target_person,target_photo,seed,prompt\n"
        "ann/0.png,carol,ann,/photos/ann.jpg,12,a portrait\n"
        "bob/1.png,ann,,,,\n"
    )
    report = import_fakes(pictures, tmp_path / "fakes", method="instantid", provenance=table)
    assert report.imported == 2
    first, second = sorted(read_fakes(tmp_path / "fakes"), key=lambda row: row.source_person, reverse=True)
    assert (first.source_person, first.target_person, first.target_photo) == ("carol", "ann", "/photos/ann.jpg")
    assert (first.seed, json.loads(first.params)) == (12, {"prompt": "a portrait"})
    assert (second.source_person, second.target_person, second.seed) == ("ann", "", -1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fake,person\na,b\n", "no column 'source_person'"),
        ("fake,source_person\n", "no rows"),
        ("fake,source_person\nann/0.png\n", "line 2: it has more or fewer cells"),
        ("fake,source_person\n,ann\n", "line 2: 'fake' and 'source_person' must not be empty"),
        ("fake,source_person,seed\nann/0.png,ann,seven\n", "line 2: seed is 'seven'"),
    ],
)
def test_a_bad_csv_is_one_line(pictures: Path, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "provenance.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        import_fakes(pictures, tmp_path / "fakes", method="instantid", provenance=table)
    assert not (tmp_path / "fakes").exists()


def test_what_is_no_picture_is_named(pictures: Path, tmp_path: Path) -> None:
    (pictures / "ann" / "broken.jpg").write_bytes(b"nothing")
    report = import_fakes(pictures, tmp_path / "fakes", method="arc2face")
    assert (report.imported, report.failed) == (4, 1)
    (failure,) = read_errors(tmp_path / "fakes" / "errors.csv")
    assert failure.photo.path.endswith("broken.jpg") and failure.reason


def test_places_and_names_that_are_none(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a method of `data fakes`"):
        import_fakes(pictures, tmp_path / "fakes", method="swap")
    for name in ("", "a/b", ".."):
        with pytest.raises(UsageError, match="--method"):
            import_fakes(pictures, tmp_path / "fakes", method=name)
    with pytest.raises(UsageError, match="lie in each other"):
        import_fakes(pictures, pictures / "fakes", method="arc2face")
    with pytest.raises(DataError, match="not a folder"):
        import_fakes(tmp_path / "nowhere", tmp_path / "fakes", method="arc2face")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds other files"):
        import_fakes(pictures, tmp_path / "full", method="arc2face")
