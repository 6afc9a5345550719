"""Galleries: who is enrolled, how that is changed, and that nothing is lost by a mistake. Pictures stand for faces here."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import faceembed
from faceembed.engine.index.lock import writing
from faceembed.engine.people import enrolling, resumed
from faceembed.engine.people.gallery import read_gallery, write_gallery
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.gallery import add, enrol, update
from faceembed.engine.verbs.gallery_people import list_people, remove, rename, split
from faceembed.engine.verbs.identify import identify
from faceembed.errors import (
    DataError,
    FaceEmbedError,
    IndexBusyError,
    IndexFormatError,
    PairListError,
    UsageError,
)
from tests.engine.verbs.albums import Counted, picture, state_of

CROPS = EmbedSettings(aligner="none", batch_size=4)
PEOPLE = {"ann": 1, "bob": 2, "zoë": 3}


def photo(path: Path, person: int, number: int = 0) -> Path:
    """Somebody's picture: the blocks of the person, a little lighter or darker in each photo."""
    picture(path, person)
    pixels = cv2.imread(str(path)).astype(np.int16) + 3 * number
    path.write_bytes(cv2.imencode(".png", np.clip(pixels, 0, 255).astype(np.uint8))[1].tobytes())
    return path


@pytest.fixture
def people(tmp_path: Path, counted: Counted) -> Path:
    folder = tmp_path / "people"
    for name, seed in PEOPLE.items():
        for number in range(2):
            photo(folder / name / f"{number}.png", seed, number)
    return folder


@pytest.fixture
def staff(people: Path) -> Path:
    path = people.parent / "staff.gallery"
    enrol(people, path, settings=CROPS)
    return path


def names(path: Path) -> dict[str, int]:
    return {person.name: len(person.usable) for person in list_people(path)}


def test_enrol_and_identify(staff: Path, tmp_path: Path) -> None:
    assert names(staff) == {"ann": 2, "bob": 2, "zoë": 2}
    seen = identify(staff, [photo(tmp_path / "x" / "b.png", 2, 5), photo(tmp_path / "x" / "s.png", 99)], threshold=0.9)
    assert [face.name for one in seen.photos for face in one.faces] == ["bob", None]
    bob = seen.photos[0].faces[0]
    assert bob.candidates[0].name == "bob" and len(bob.candidates) == 3 and bob.candidates[0].similarity > 0.95
    assert bob.box == (0, 0, 24, 24) and seen.people == 3


def test_the_threshold_is_that_of_the_rate_and_the_size(staff: Path, tmp_path: Path) -> None:
    asked = [photo(tmp_path / "q.png", 2, 5)]
    low, high = identify(staff, asked, fpir=0.1).limit, identify(staff, asked, fpir=0.001).limit
    assert low.threshold < high.threshold and "with 3 people" in low.source
    assert identify(staff, asked).limit.fpir == 0.01


def test_without_enrolling(people: Path, staff: Path, tmp_path: Path) -> None:
    asked = [photo(tmp_path / "q.png", 3, 4)]
    whole = identify(staff, asked, threshold=0.9).photos
    assert identify(people, asked, settings=CROPS, threshold=0.9).photos == whole
    table = tmp_path / "people.csv"
    with table.open("w", newline="") as file:
        rows = [(path.parent.name, path.relative_to(tmp_path)) for path in sorted(people.glob("*/*.png"))]
        csv.writer(file).writerows([("name", "path"), *rows])
    assert identify(table, asked, settings=CROPS, threshold=0.9).photos == whole


def test_photos_that_bear_names(tmp_path: Path, counted: Counted) -> None:
    """As `face_recognition KNOWN UNKNOWN` has them."""
    for name, seed in PEOPLE.items():
        photo(tmp_path / "known" / f"{name}.png", seed)
    seen = identify(tmp_path / "known", [photo(tmp_path / "q.png", 1, 3)], settings=CROPS, threshold=0.9)
    assert seen.photos[0].faces[0].name == "ann"


def test_what_is_known_is_not_computed_again(people: Path, staff: Path, counted: Counted) -> None:
    before = counted.photos
    photo(people / "bob" / "9.png", 2, 9)
    photo(people / "ann" / "0.png", 1, 7)
    os.utime(people / "ann" / "0.png", ns=(1, 1))
    report = enrol(people, staff, settings=CROPS)
    assert counted.photos - before == 2 == report.added
    assert names(staff) == {"ann": 2, "bob": 3, "zoë": 2}


def test_add_remove_rename(staff: Path, tmp_path: Path) -> None:
    photo(tmp_path / "more" / "ann" / "7.png", 1, 7)
    photo(tmp_path / "more" / "eve" / "1.png", 5)
    assert add(staff, tmp_path / "more").people == 4
    assert names(staff) == {"ann": 3, "bob": 2, "eve": 1, "zoë": 2}
    assert [person.name for person in remove(staff, ["eve", "zoë"])] == ["eve", "zoë"]
    rename(staff, "ann", "Ann Lee")
    assert names(staff) == {"Ann Lee": 3, "bob": 2}
    rename(staff, "bob", "Ann Lee", merge=True)
    assert names(staff) == {"Ann Lee": 5}
    assert not re.search(rb"\beve\b", staff.read_bytes()) and "zoë".encode() not in staff.read_bytes()


def test_split(staff: Path, people: Path) -> None:
    wrong = str(people / "ann" / "1.png")
    before = staff.read_bytes()
    for new, paths, merge, message in (
        ("eve", [], False, "no photo of 'ann' would go to 'eve'"),
        ("eve", [wrong, str(people / "ann" / "0.png")], False, "all photos of 'ann' would go to 'eve'"),
        ("eve", [str(people / "bob" / "0.png")], False, "'ann' has no photo .*bob/0.png; see: faceembed gallery list"),
        ("bob", [wrong], False, "has somebody called 'bob' already"),
        ("ann", [wrong], True, "are of 'ann' already"),
        (
            "Bob",
            [wrong],
            False,
            "'bob' and 'Bob' are two people of one name|'Bob' and 'bob' are two people of one name",
        ),
        ("unknown", [wrong], False, "what identify calls strangers"),
    ):
        with pytest.raises(FaceEmbedError, match=message):
            split(staff, "ann", new, paths, merge=merge)
    with pytest.raises(DataError, match="nobody called 'anne'; did you mean 'ann'"):
        split(staff, "anne", "eve", [wrong])
    assert staff.read_bytes() == before
    assert split(staff, "ann", "eve", [wrong]) == (1, 1)
    assert names(staff) == {"ann": 1, "bob": 2, "eve": 1, "zoë": 2}
    (moved,) = read_gallery(staff).people["eve"].photos
    assert moved.path == wrong and moved.embedding is not None
    assert split(staff, "bob", "eve", [str(people / "bob" / "0.png")], merge=True) == (2, 1)


def test_one_name_has_one_spelling(staff: Path) -> None:
    assert remove(staff, ["zoe\u0308"])[0].name == "zoë"


@pytest.mark.parametrize("name", ["\u200b", " \u2060 ", "a\u2028b", "a\nb", "\x07"])
def test_a_name_can_be_seen_on_one_line(staff: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a person"):
        rename(staff, "ann", name)
    assert names(staff).keys() == PEOPLE.keys()


def test_what_cannot_be_seen_tells_nobody_apart(staff: Path, tmp_path: Path) -> None:
    photo(tmp_path / "more" / "ann\u200b" / "0.png", 9)
    with pytest.raises(UsageError, match="two people of one name"):
        add(staff, tmp_path / "more", settings=CROPS)
    rename(staff, "bob", "می\u200cخواهم")  # a joiner that Persian spells with
    assert "می\u200cخواهم" in names(staff)


def test_another_encoder(staff: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos are embedded again, names stay; until then one line says what to do, and nothing is changed."""
    other = dataclasses.replace(CROPS, encoder="dlib-resnet")
    before = state_of(tmp_path)
    with pytest.raises(IndexFormatError, match=r"made with encoder faceembed-r29 .*not dlib-resnet.*gallery update"):
        identify(staff, [people], settings=other)
    with pytest.raises(IndexFormatError, match="gallery update"):
        enrol(people, staff, settings=other)
    assert state_of(tmp_path) == before
    from tests.engine.verbs import albums

    monkeypatch.setattr(albums, "_MATRIX", albums._MATRIX[:, :128])
    update(staff, settings=other)
    assert names(staff) == {"ann": 2, "bob": 2, "zoë": 2}
    opened = read_gallery(staff)
    assert opened.about["encoder"]["name"] == "dlib-resnet"
    assert {photo.embedding.shape for photo in opened.photos if photo.embedding is not None} == {(128,)}
    assert identify(staff, [people / "bob"], threshold=0.9).photos[0].faces[0].name == "bob"


def test_photos_that_are_gone_end_an_update(staff: Path, people: Path, tmp_path: Path) -> None:
    (people / "bob" / "0.png").unlink()
    before = state_of(tmp_path)
    with pytest.raises(DataError, match=r"1 of 6 photos are gone.*bob/0.png of 'bob'.*--drop-missing"):
        update(staff, settings=CROPS)
    assert state_of(tmp_path) == before
    update(staff, settings=CROPS, drop_missing=True)
    assert names(staff) == {"ann": 2, "bob": 1, "zoë": 2}


def test_a_bad_photo_is_a_row_with_its_reason(people: Path, tmp_path: Path) -> None:
    (people / "ann" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (people / "eve").mkdir()
    (people / "eve" / "only.jpg").write_bytes(b"")
    said: list[str] = []
    report = enrol(people, tmp_path / "g", settings=CROPS, notice=said.append)
    assert [(one["person"], Path(one["path"]).name) for one in report.unusable] == [
        ("ann", "broken.png"),
        ("eve", "only.jpg"),
    ]
    assert report.without == ["eve"] and report.people == 4 and report.photos == 6
    seen = identify(tmp_path / "g", [people / "ann" / "0.png"], threshold=0.9)
    assert seen.people == 3 and seen.photos[0].faces[0].name == "ann"


def test_a_run_that_is_ended_loses_little(
    people: Path, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put aside is not computed again; what other settings made, or what is damaged, is; nothing is left beside the gallery."""
    monkeypatch.setattr(resumed, "TOGETHER", 2)
    real, path, aside = enrolling.embed_people, tmp_path / "s.gallery", tmp_path / ".s.gallery.partial"

    def ended(listed: Any, *args: Any, **options: Any) -> Any:
        if any(name == "zoë" for name, _ in listed):
            raise KeyboardInterrupt
        return real(listed, *args, **options)

    def end_one() -> None:
        monkeypatch.setattr(enrolling, "embed_people", ended)
        with pytest.raises(KeyboardInterrupt):
            enrol(people, path, settings=CROPS)
        assert not path.exists() and sorted(part.name for part in aside.iterdir()) == ["000001.part", "000002.part"]
        monkeypatch.setattr(enrolling, "embed_people", real)
        counted.photos = 0

    end_one()
    said, shown = list[str](), list[Any]()
    report = enrol(people, path, settings=CROPS, notice=said.append, progress=shown.append)
    assert counted.photos == 2 and report.photos == report.added == 6 and names(path) == {"ann": 2, "bob": 2, "zoë": 2}
    assert "4 of 6 photos were embedded by a run that did not end" in said
    assert (shown[-1].done, shown[-1].total) == (6, 6) and not aside.exists()

    path.unlink()
    end_one()
    (aside / "000001.part").write_bytes((aside / "000001.part").read_bytes()[:100])
    photo(people / "bob" / "1.png", 7)  # another photo in its place
    enrol(people, path, settings=CROPS)
    assert counted.photos == 5 and not aside.exists()

    path.unlink()
    end_one()
    enrol(people, path, settings=CROPS, several="largest")
    assert counted.photos == 6, "what becomes of several faces was decided otherwise"


def test_one_photo_under_two_names(people: Path, staff: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"name,path\nann,{people}/ann/0.png\nbob,{people}/ann/0.png\n")
    with pytest.raises(UsageError, match=r"ann/0\.png is of 'ann' and of 'bob'; a photo of somebody shows one person"):
        enrol(table, tmp_path / "g", settings=CROPS)
    said: list[str] = []
    rename(staff, "ann", "Ann Lee")
    enrol(people, staff, settings=CROPS, notice=said.append)
    assert names(staff) == {"Ann Lee": 2, "bob": 2, "zoë": 2}, "who was renamed is not there twice"
    assert any(
        "2 photos are in the gallery under another name and stay so" in line and "'Ann Lee'" in line for line in said
    )
    (people / "bob" / "copy.png").write_bytes((people / "zoë" / "1.png").read_bytes())
    add(staff, people, settings=CROPS, notice=said.append)
    enrol(people, tmp_path / "newer", settings=CROPS, notice=said.append)
    assert any("zoë/1.png of 'zoë' is the very photo" in line and "copy.png of 'bob'" in line for line in said), said


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"\xff\xd8\xff\xe0", "a picture (JPEG)"), (b"IxM2\0\1", "a FAISS index"), (b"PK\x03\x04", "a zip")],
)
def test_what_is_given_for_a_gallery_is_called_by_its_kind(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(content + bytes(600))
    message = re.escape(f"x.bin is {kind}, and no gallery of people; make one: faceembed enrol")
    with pytest.raises(IndexFormatError, match=message):
        list_people(path)
    with pytest.raises(IndexFormatError, match=message):
        identify(path, [photo(tmp_path / "q.png", 1)])


def test_an_empty_folder_of_somebody_is_said(people: Path, tmp_path: Path) -> None:
    (people / "nobody").mkdir()
    said: list[str] = []
    enrol(people, tmp_path / "g", settings=CROPS, notice=said.append)
    assert any("people/nobody: no photo is in it" in line for line in said)


def _two_places(people: Path) -> Any:
    photo(people.parent / "more" / "ann" / "1.png", 8)
    return [people, people.parent / "more"]


def _file_and_folder(people: Path) -> Any:
    photo(people / "ann.png", 1)
    return people


def _spelt(people: Path) -> Any:
    photo(people / "Ann" / "1.png", 8)
    return people


def _called_unknown(people: Path) -> Any:
    photo(people / "Unknown" / "1.png", 8)
    return people


def _empty(people: Path) -> Any:
    (people.parent / "empty").mkdir()
    return people.parent / "empty"


def _all_bad(people: Path) -> Any:
    for path in people.glob("*/*.png"):
        path.write_bytes(b"no picture")
    return people


def _table(text: str) -> Any:
    def make(people: Path) -> Path:
        path = people.parent / "t.csv"
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (_two_places, UsageError, r"people/ann and .*more/ann are two people of one name"),
        (_file_and_folder, DataError, r"ann.* and .*ann.* are two people of one name"),
        (_spelt, UsageError, r"'Ann' and 'ann' are two people of one name, or one person spelt in two ways"),
        (_called_unknown, UsageError, r"'Unknown' is what identify calls strangers"),
        (_empty, DataError, r"empty: nobody is in it; it wants a folder of photos for each person"),
        (_all_bad, DataError, r"none of 6 photos of people can be used; the first is .*ann/0.png: "),
        (lambda people: people.parent / "nowhere", DataError, r"nowhere: No such file or directory; give a folder"),
        (_table("name,path\n"), DataError, r"t.csv: nobody is in it"),
        (_table("a,b,c\n1,2,3\n"), PairListError, r"t.csv, line 1: expected the columns name,path"),
        (_table("name,path\nann,x.jpg,1\n"), PairListError, r"t.csv, line 2: expected 2 columns, got 3"),
        (_table("name,path\n,x.jpg\n"), PairListError, r"t.csv, line 2: a name and a path are wanted"),
        (_table("name,path\nann,x.jpg\n"), PairListError, r"none of its 1 photos is there.*--root"),
    ],
)
def test_bad_people(people: Path, make: Any, kind: type[FaceEmbedError], message: str, tmp_path: Path) -> None:
    """One line, and a gallery that is there stays as it was."""
    staff = tmp_path / "s.gallery"
    enrol(people, staff, settings=CROPS)
    given, before = make(people), staff.read_bytes()
    with pytest.raises(kind, match=message):
        enrol(given, staff if make is not _all_bad else tmp_path / "new", settings=CROPS)
    assert staff.read_bytes() == before and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda staff: remove(staff, ["bob", "annn"]), r"staff.gallery has nobody called 'annn'; did you mean 'ann'\?"),
        (lambda staff: rename(staff, "xyz", "q"), r"nobody called 'xyz'; see: faceembed gallery list"),
        (lambda staff: rename(staff, "ann", "bob"), r"has somebody called 'bob' already.*--merge"),
        (lambda staff: rename(staff, "ann", " "), r"' ' is no name of a person"),
        (lambda staff: rename(staff, "ann", "a\nb"), r"is no name of a person"),
        (lambda staff: rename(staff, "ann", "Bob"), r"'Bob' and 'bob' are|'bob' and 'Bob' are"),
    ],
)
def test_mistakes_change_nothing(staff: Path, change: Any, message: str) -> None:
    before = staff.read_bytes()
    with pytest.raises(FaceEmbedError, match=message):
        change(staff)
    assert staff.read_bytes() == before


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_gallery_that_is_cut_off(staff: Path, keep: float) -> None:
    data = staff.read_bytes()
    staff.write_bytes(data[: int(keep * len(data))])
    for use in (list_people, lambda path: identify(path, [path.parent / "people"], settings=CROPS)):
        with pytest.raises(FaceEmbedError, match=r"staff.gallery.*(cannot be read|is no gallery|nobody is in it)"):
            use(staff)


def test_what_is_said_of_a_damaged_gallery_helps(staff: Path, people: Path) -> None:
    """The name is free for a new one only when the damaged file is out of the way."""
    staff.write_bytes(staff.read_bytes()[:200])
    with pytest.raises(IndexFormatError, match=r"put it aside and make it again: faceembed enrol PEOPLE -o .*staff"):
        list_people(staff)
    staff.rename(staff.with_suffix(".old"))
    enrol(people, staff, settings=CROPS)
    assert list_people(staff)


def test_a_gallery_with_other_numbers(staff: Path) -> None:
    table = pq.read_table(staff)
    at = table.schema.get_field_index("embedding")
    import pyarrow as pa

    wrong = pa.array([[9.0] * 256] * len(table), table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), wrong), staff)
    with pytest.raises(
        IndexFormatError, match=r"staff.gallery is damaged: an embedding of 'ann' is not of unit length"
    ):
        list_people(staff)


def test_other_files_are_no_gallery(tmp_path: Path, people: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(UsageError, match=r"notes.txt is there and is not a gallery that faceembed wrote"):
        enrol(people, other, settings=CROPS)
    assert other.read_text() == "mine"
    with pytest.raises(DataError, match=r"there is no such gallery; make one: faceembed enrol"):
        remove(tmp_path / "no.gallery", ["ann"])
    assert not list(tmp_path.glob(".no*"))


def test_one_writer_at_a_time(staff: Path, people: Path) -> None:
    before = staff.read_bytes()
    with writing(staff):
        for change in (lambda: remove(staff, ["ann"]), lambda: enrol(people, staff, settings=CROPS)):
            with pytest.raises(IndexBusyError, match=r"staff.gallery is being written by process"):
                change()
    assert staff.read_bytes() == before


def test_a_write_that_fails_loses_nothing(staff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = staff.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        remove(staff, ["ann"])
    assert staff.read_bytes() == before
    assert sorted(path.name for path in staff.parent.iterdir() if not path.name.endswith(".lock")) == [
        "people",
        "staff.gallery",
    ]


def test_a_gallery_says_what_made_it(staff: Path) -> None:
    about = read_gallery(staff).about
    assert about["encoder"]["name"] == "faceembed-r29" and about["aligner"] is None and about["dimension"] == 256
    assert enrolling.settings_of(read_gallery(staff), EmbedSettings()).aligner == "none"


def test_public_names() -> None:
    assert faceembed.enrol is enrol and faceembed.identify is identify


def test_poor_photos_are_not_used(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = enrolling.look

    def poorer(*args: Any, **options: Any) -> Any:
        looked = real(*args, **options)
        for path, faces in looked.faces.items():
            faces[0].row["score"] = 0.4 if path.endswith("1.png") else 0.9
        return looked

    monkeypatch.setattr(enrolling, "look", poorer)
    report = enrol(people, tmp_path / "g", settings=CROPS, min_quality=0.5)
    assert report.photos == 3 and {one["reason"] for one in report.unusable} == {
        "its face has quality 0.40, less than --min-quality 0.5"
    }
    with pytest.raises(UsageError, match="--min-quality 2 is not between 0 and 1"):
        enrol(people, tmp_path / "g", settings=CROPS, min_quality=2)


def test_one_rule_for_all_photos_of_a_gallery(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was enrolled by a rule is embedded again by that rule; another is refused, or holds for all."""
    real = enrolling.look

    def crowded(*given: Any, **options: Any) -> Any:
        looked = real(*given, **options)
        for path, faces in looked.faces.items():
            if path.endswith("1.png"):
                looked.faces[path] = [*faces, *faces]
            for face in faces:
                face.row["score"] = 0.7 if path.endswith("0.png") else 0.9
        return looked

    monkeypatch.setattr(enrolling, "look", crowded)
    path = tmp_path / "crowd.gallery"
    enrol(people, path, settings=CROPS, several="largest", min_quality=0.6)
    assert names(path) == {"ann": 2, "bob": 2, "zoë": 2}
    about = read_gallery(path).about
    assert (about["several"], about["min_quality"]) == ("largest", 0.6)
    update(path, settings=CROPS)
    assert names(path) == {"ann": 2, "bob": 2, "zoë": 2}, "an update forgot the rule"
    photo(tmp_path / "more" / "dan" / "1.png", 7)
    add(path, tmp_path / "more", settings=CROPS)
    assert names(path)["dan"] == 1
    for asked, option in (({"several": "refuse"}, "--several largest"), ({"min_quality": 0.8}, "--min-quality 0.6")):
        with pytest.raises(UsageError, match=rf"was made with {option}, and one rule .* gallery update"):
            enrol(people, path, settings=CROPS, **asked)
    update(path, settings=CROPS, min_quality=0.8)
    assert names(path) == {"ann": 1, "bob": 1, "dan": 1, "zoë": 1} and read_gallery(path).about["min_quality"] == 0.8
    update(path, settings=CROPS, several="refuse", min_quality=0.0)
    assert names(path) == {"ann": 1, "bob": 1, "dan": 0, "zoë": 1}


def test_another_aligner_is_said(staff: Path, tmp_path: Path) -> None:
    opened = read_gallery(staff)
    made = dataclasses.replace(
        opened, about={**opened.about, "aligner": {"name": "mtcnn", "sha256": "1", "source": "mtcnn"}}
    )
    write_gallery(staff, made)
    said: list[str] = []
    with pytest.raises(FaceEmbedError):  # a drawn picture has no face; what is said comes before
        identify(staff, [photo(tmp_path / "x.png", 2)], settings=EmbedSettings(), notice=said.append, threshold=2.0)
    assert any("were aligned by mtcnn, these are by faceembed-align" in line for line in said)
