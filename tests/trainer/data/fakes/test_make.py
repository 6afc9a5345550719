"""From people to a folder of fakes: provenance, splits, seeds, resuming, and photos that nothing can be made of."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.photos.failures import read_errors
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.fakes import faces as faces_module
from faceembed.trainer.data.fakes.make import METHODS, make_fakes
from faceembed.trainer.data.fakes.manifest import FACES_FOLDER, Fake, read_fakes
from faceembed.trainer.data.fakes.settings import FakeSettings, FakesReport
from faceembed.trainer.data.people import read_people

SPLIT = {
    "train": ("person0", "person1", "person2"),
    "validate": (),
    "test": ("person3", "person4"),
}


@pytest.fixture(scope="module")
def found(people: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of fakes in which the faces of all people are found already."""
    from faceembed.engine.pipeline import loading

    folder = tmp_path_factory.mktemp("found") / "fakes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "open_pipeline", lambda *_, **__: pipeline)
        make_fakes(read_people(people), folder, FakeSettings(methods=("selfblend",), count=1))
    yield folder / FACES_FOLDER


@pytest.fixture
def make(people: Path, found: Path, tmp_path: Path) -> Any:
    """`make(name, settings..., split=...)` makes fakes in a folder of that name, with the faces found before."""

    def run(name: str, *, split: Any = None, fresh: bool = False, **settings: Any) -> FakesReport:
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(found, folder / FACES_FOLDER)
        return make_fakes(read_people(people), folder, FakeSettings(**settings), split=split, fresh=fresh)

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and FACES_FOLDER not in path.parts
    }


def test_provenance_is_complete(make: Any, tmp_path: Path, people: Path) -> None:
    report = make("fakes", seed=3)
    rows = read_fakes(tmp_path / "fakes")
    assert report.made == report.fakes == len(rows) == 12 * len(METHODS)
    assert report.methods == {name: 12 for name in sorted(METHODS)}
    assert (report.photos, report.faces, report.failed, report.skipped) == (13, 12, 1, 0)
    for row in rows:
        pixels = cv2.imread(str(tmp_path / "fakes" / row.fake))
        photo = row.target_photo if row.method in ("swap", "morph") else row.source_photo
        assert pixels.shape == cv2.imread(photo).shape
        assert Path(row.source_photo).parent.name == row.source_person
        assert Path(row.target_photo).parent.name == row.target_person
        assert (row.source_person == row.target_person) == (row.method == "selfblend")
        assert row.fake.startswith(f"{row.method}{os.sep}{row.source_person}{os.sep}")
        assert row.seed >= 0 and 60 <= row.quality <= 98
        assert json.loads(row.params)["subsampling"] in ("4:2:0", "4:4:4")
    labels = read_people(tmp_path / "fakes").samples
    assert {(s.person, s.method, s.other) for s in labels} == {
        (r.source_person, r.method, "" if r.method == "selfblend" else r.target_person) for r in rows
    }
    assert all(sample.fake for sample in labels)
    (failure,) = read_errors(tmp_path / "fakes" / "errors.csv")
    assert failure.photo.path == str(people / "nobody" / "grey.jpg")
    assert failure.stage == "detect"


def test_same_bits_for_any_number_of_workers(make: Any, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("three", 3)):
        make(name, seed=5, count=10, workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "three")
    make("other", seed=6, count=10)
    assert set(files(tmp_path / "other")) & set(files(tmp_path / "one")) <= {
        "fakes.json",
        "fakes.parquet",
        "errors.csv",
    }


def test_both_people_are_in_one_part(make: Any, tmp_path: Path) -> None:
    report = make("fakes", seed=1, split=SPLIT, per_photo=2, methods=("swap", "reenact", "selfblend"))
    part = {person: name for name, persons in SPLIT.items() for person in persons}
    rows = read_fakes(tmp_path / "fakes")
    assert len(rows) == report.made == 10 * 2 * 3
    assert {part[row.source_person] for row in rows} == {"train", "test"}
    for row in rows:
        assert part[row.source_person] == part[row.target_person]


def test_methods_may_join_and_nothing_is_made_twice(make: Any, tmp_path: Path) -> None:
    make("fakes", methods=("swap",), count=6)
    first = files(tmp_path / "fakes")
    report = make("fakes", methods=("morph", "swap"), count=12)
    assert (report.made, report.skipped) == (6, 6)
    assert report.methods == {"morph": 6, "swap": 6}
    now = files(tmp_path / "fakes")
    assert all(now[name] == data for name, data in first.items() if name.endswith(".jpg"))
    with pytest.raises(DataError, match=r"made with seed 0, this run has 1.*--fresh"):
        make("fakes", methods=("swap",), count=6, seed=1)
    with pytest.raises(DataError, match="made with split"):
        make("fakes", methods=("swap",), count=6, split=SPLIT)
    report = make("fakes", methods=("swap",), count=6, seed=1, fresh=True)
    assert (report.made, report.methods) == (6, {"swap": 6})
    assert sum(name.endswith(".jpg") for name in files(tmp_path / "fakes")) == 6


def test_an_interrupted_run_goes_on(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("whole", methods=("swap",), count=8, workers=1)
    calls = iter(range(100))

    def dies(*args: Any) -> Any:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return METHODS["swap"](*args)

    from faceembed.trainer.data.fakes import make as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "METHODS", {"swap": dies})
        patch.setattr(make_fakes, "__kwdefaults__", {**make_fakes.__kwdefaults__, "methods": {"swap": dies}})
        with pytest.raises(KeyboardInterrupt):
            make("cut", methods=("swap",), count=8, workers=1)
    assert not (tmp_path / "cut" / "fakes.parquet").exists()
    kept = len(read_fakes(tmp_path / "cut"))
    assert 0 < kept <= 5
    with open(tmp_path / "cut" / "unfinished.jsonl", "ab") as file:
        file.write(b'{"fake": "swap/cut sho')  # as a kill in the middle of a line leaves it
    report = make("cut", methods=("swap",), count=8, workers=1)
    assert (report.skipped, report.made) == (kept, 8 - kept)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_photo_without_a_partner_is_named(make: Any, tmp_path: Path) -> None:
    alone = {"train": ("person0",), "validate": (), "test": ("person1", "person2")}
    report = make("fakes", methods=("swap", "selfblend"), split=alone)
    errors = read_errors(tmp_path / "fakes" / "errors.csv")
    lonely = [failure for failure in errors if "swap: no photo of anybody else" in failure.reason]
    assert {Path(failure.photo.path).parent.name for failure in lonely} == {"person0"}
    assert len(lonely) == 2
    assert report.methods == {"selfblend": 6, "swap": 4}
    assert report.failed == len(errors) == 3


def test_a_photo_that_is_gone_is_named(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.errors import PhotoError
    from faceembed.trainer.data.fakes import make as module

    def read(path: str) -> bytes:
        if "person2" in path:
            raise PhotoError("read", "No such file or directory")
        return Path(path).read_bytes()

    monkeypatch.setattr(module, "read_photo", read)
    report = make("fakes", methods=("selfblend",))
    errors = read_errors(tmp_path / "fakes" / "errors.csv")
    assert report.made == 10 and len(errors) == 1 + 2
    assert {e.reason for e in errors if "person2" in e.photo.path} == {"selfblend: No such file or directory"}


def test_large_photos_are_made_smaller(make: Any, tmp_path: Path) -> None:
    make("fakes", methods=("swap", "selfblend"), count=6, max_side=150)
    for row in read_fakes(tmp_path / "fakes"):
        assert max(cv2.imread(str(tmp_path / "fakes" / row.fake)).shape[:2]) == 150


def test_what_cannot_be_used_says_why(make: Any) -> None:
    mesh = faces_module.fit_meshes(np.array([[[10, 10], [70, 10], [40, 45], [15, 80], [65, 80]]], np.float64))[0]
    assert faces_module.unusable(mesh.moved(100, 100), 400, 400) == ""
    assert "edge" in faces_module.unusable(mesh, 400, 400)
    assert "too small" in faces_module.unusable(mesh.scaled(0.1).moved(100, 100), 400, 400)
    assert "turned away" in faces_module.unusable(mesh.moved(100, 100).reposed(60, 0, mesh.left), 400, 400)
    odd = dataclasses.replace(mesh.moved(100, 100), left=mesh.left + 0.2)
    assert "do not look like a face" in faces_module.unusable(odd, 400, 400)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ()}, "no method"),
        ({"methods": ("swap", "swap")}, "given twice"),
        ({"per_photo": 0}, "at least one"),
        ({"count": 0}, "at least one"),
        ({"max_side": 10}, "--max-side 10"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FakeSettings(**settings)


def test_places_that_are_none(people: Path, tmp_path: Path) -> None:
    found = read_people(people)
    with pytest.raises(UsageError, match="method 'nix' is unknown; known are selfblend"):
        make_fakes(found, tmp_path / "a", FakeSettings(methods=("nix",)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds other files"):
        make_fakes(found, tmp_path / "full")
    with pytest.raises(UsageError, match="among the photos"):
        make_fakes(found, people / "fakes")
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"


def test_rows_outside_of_the_folder_are_not_deleted(make: Any, tmp_path: Path) -> None:
    from faceembed.trainer.data.fakes.make import discard
    from faceembed.trainer.data.fakes.manifest import write_fakes

    precious = tmp_path / "precious.jpg"
    precious.write_bytes(b"x")
    (tmp_path / "fakes").mkdir()
    write_fakes(tmp_path / "fakes", [Fake("../precious.jpg", "swap", "a", "", "b", "", 0, 90, "{}")])
    with pytest.raises(DataError, match="outside of it"):
        discard(str(tmp_path / "fakes"))
    assert precious.exists()
