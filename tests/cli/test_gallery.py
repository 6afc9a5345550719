"""`faceembed enrol`, `identify` and `gallery`, with the real networks and one person."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def known(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known") / "people"
    (folder / "Eileen").mkdir(parents=True)
    for name in ("astronaut.png", "darker.jpg", "mirrored.jpg"):
        shutil.copy(samples / name, folder / "Eileen" / name)
    return folder


@pytest.fixture(scope="module")
def staff(known: Path) -> Path:
    from faceembed.engine.verbs.gallery import enrol

    enrol(known, known.parent / "staff.gallery")
    return known.parent / "staff.gallery"


def test_who_is_it(run_json: Any, run: Any, staff: Path, samples: Path, tmp_path: Path) -> None:
    asked = [samples / "cropped.jpg", tmp_path / "text.jpg"]
    asked[1].write_text("no picture")
    document = run_json("identify", staff, *asked)
    first, second = document["photos"]
    assert set(document) == {"people", "threshold", "threshold_source", "fpir", "photos"}
    assert document["people"] == 1 and document["fpir"] == 0.01 and 0.9 < document["threshold"] < 1
    (face,) = first["faces"]
    assert face["name"] == "Eileen" and face["face"] == 0 and len(face["box"]) == 4
    assert face["candidates"][0]["similarity"] >= document["threshold"]
    assert second["faces"] == [] and "picture" in second["reason"]
    text = run("identify", staff, samples / "cropped.jpg", "--threshold", "1", "-q").stdout
    assert "cropped.jpg: unknown (nearest Eileen, 0.9" in text and "1 person, threshold 1.0000 (given)" in text


def test_only_strangers(run: Any, run_json: Any, staff: Path, samples: Path) -> None:
    assert run_json("identify", staff, samples / "cropped.jpg", "--unknown")["photos"] == []
    assert "everybody is in the gallery" in run("identify", staff, samples / "cropped.jpg", "--unknown").stdout
    assert len(run_json("identify", staff, samples / "cropped.jpg", "--unknown", "--threshold", "1")["photos"]) == 1


def test_two_folders(run: Any, known: Path, small: Path) -> None:
    """`face_recognition KNOWN UNKNOWN`, in one line."""
    text = run("identify", known, small, "-q").stdout
    assert text.count("Eileen (0.9") == 2


def test_change_a_gallery(run: Any, run_json: Any, staff: Path, samples: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s.gallery"
    shutil.copy(staff, copy)
    (tmp_path / "new" / "Ann").mkdir(parents=True)
    shutil.copy(samples / "blurred.jpg", tmp_path / "new" / "Ann" / "1.jpg")
    assert run_json("gallery", "add", copy, tmp_path / "new")["people"] == 2
    assert run("gallery", "list", copy).stdout.splitlines() == ["Ann: 1 photo", "Eileen: 3 photos"]
    assert "is called Ann Lee now" in run("gallery", "rename", copy, "Ann", "Ann Lee").stdout
    assert run("gallery", "remove", copy, "Ann Lee").stdout == "taken out: Ann Lee\n"
    assert [person["name"] for person in run_json("gallery", "list", copy)] == ["Eileen"]
    error = run("gallery", "remove", copy, "Eilen", code=1).stderr
    assert "has nobody called 'Eilen'; did you mean 'Eileen'?" in error


def test_another_encoder_is_one_line(run: Any, staff: Path, samples: Path) -> None:
    error = run("identify", staff, samples / "cropped.jpg", "--encoder", "dlib-resnet", code=1).stderr
    assert "was made with encoder faceembed-r29" in error and "faceembed gallery update" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["identify", "none.gallery", "GOOD"], "there is no such gallery"),
        (["identify", "GOOD", "GOOD"], "is a picture (JPEG), and no gallery of people"),
        (["identify", "STAFF", "none.jpg"], "none.jpg"),
        (["identify", "STAFF", "GOOD", "--fpir", "0"], "--fpir"),
        (["identify", "STAFF", "GOOD", "--fpir", "0.1", "--threshold", "0.9"], "give one of them"),
        (["gallery", "list", "none.gallery"], "make one: faceembed enrol PEOPLE -o none.gallery"),
        (["enrol", "none", "-o", "x.gallery"], "give a folder of people or a table name,path"),
    ],
)
def test_mistakes(
    run: Any, staff: Path, samples: Path, words: list[str], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"GOOD": str(samples / "cropped.jpg"), "STAFF": str(staff)}
    result = run(*[paths.get(word, word) for word in words], code=2 if "--fpir" in words else 1)
    assert message in result.stderr
    assert not list(tmp_path.iterdir())
