"""The page of a cleaning: self-contained, harmless whatever the names, and its marks are the manifest's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.trainer.data import clean_report as cleaning
from faceembed.trainer.data.clean_manifest import Row
from faceembed.trainer.data.clean_report import write_cleaning_report
from tests.pages import Page

JPEG = cv2.imencode(".jpg", np.full((20, 30, 3), (40, 90, 200), np.uint8))[1].tobytes()
HOSTILE = [
    "<script>alert(1)</script>",
    '"onerror="alert(2)" x="',
    "'><img src=http://evil/x.jpg>",
    "{{ 7 * 7 }}</style><svg onload=alert(3)>",
    "new\nline\u202egpj.exe",
    "\udcff not utf-8",
]


def write(path: Path, rows: list[Row], **options: Any) -> Page:
    vectors = {row.photo: np.eye(8, dtype=np.float32)[i % 8] for i, row in enumerate(rows) if row.cluster >= 0}
    thumbnails = options.pop("thumbnails", lambda photo: JPEG)
    values = {"title": "A title", "facts": {}, "persons": 2, "share": 0.125, "reasons": {"outlier": 1}, **options}
    write_cleaning_report(path, rows, vectors, thumbnails, **values)
    return Page(path.read_text(encoding="utf-8"))


def folder(person: str, *, fits: int = 2, gone: int = 1) -> list[Row]:
    rows = [Row(f"/p/{person}/{i}.jpg", person, True, "", "", 0.8, 0.3, 0.01, 1) for i in range(fits)]
    return rows + [
        Row(f"/p/{person}/gone{i}.jpg", person, False, "outlier", "other", 0.1, 0.7, 0.9, 2) for i in range(gone)
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(tmp_path: Path, name: str) -> None:
    rows = [*folder(name), *folder("b"), Row(f"/p/b/{name}.jpg", "b", False, f"bad {name}")]
    rows[2] = Row(rows[2].photo, name, False, "duplicate of " + name, name, 0.1, 0.7, 0.9, 2)
    page = write(
        tmp_path / "page.html",
        rows,
        title=name,
        facts={"Photos in": name},
        reasons={name: 1},
        merged=[(name, "b", 0.9)],
        duplicates=[(rows[0].photo, rows[3].photo, 0.99)],
    )
    assert page.tags["script"] == 0
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    for key, value in page.attributes:
        if key in ("src", "href", "xlink:href"):
            assert value.startswith("data:image/jpeg;base64,"), value
    assert any(key == "content" and value.startswith("default-src 'none'") for key, value in page.attributes)
    assert page.tags["h1"] == 1
    assert page.tags["svg"] == 1
    if name.isprintable():
        assert name in page.text


def test_marks_and_figures(tmp_path: Path) -> None:
    rows = [*folder("a"), *folder("b", gone=0), Row("/p/c/x.jpg", "c", False, "no face")]
    page = write(tmp_path / "page.html", rows)
    assert page.count("folder") == 1  # b is not suspicious, and c has no face to compare
    assert page.count("gone") == 2  # in the row's head and in the column's
    assert "looks like other" in page.text
    assert page.count("gone-dot") == 1
    assert page.count("fits") == 4
    assert "12.50 %" in page.text
    assert "no face" in page.text
    assert page.text.count("None seen.") == 2


def test_long_lists_say_what_they_leave_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MOST_FOLDERS", 2)
    monkeypatch.setattr(cleaning, "MOST_DOTS", 10)
    monkeypatch.setattr(cleaning, "MOST_FAILURES", 1)
    rows = [row for person in "abcd" for row in folder(person, fits=30)]
    rows += [Row(f"/p/e/{i}.jpg", "e", False, "no face") for i in range(3)]
    asked: list[str] = []

    def thumbnails(photo: str) -> bytes | None:
        asked.append(photo)
        return None

    page = write(tmp_path / "page.html", rows, thumbnails=thumbnails)
    assert page.count("folder") == 2
    assert "the 2 with the most doubtful photos" in page.text
    assert "more photos not shown" in page.text
    assert "are not drawn" in page.text
    assert "2 more are in the manifest" in page.text
    assert len(asked) == len(set(asked)) < len(rows)
    assert "no picture" in page.text


def test_nothing_to_show(tmp_path: Path) -> None:
    page = write(tmp_path / "page.html", [Row("/p/a/x.jpg", "a", False, "no face")], share=float("nan"), reasons={})
    assert page.tags["svg"] == 0
    assert "Nothing is to be removed" in page.text
