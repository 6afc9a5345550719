"""Readers: every layout gives the same samples, whatever the order of a listing, and a wrong folder is one clear line."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceembed.engine.photos.photo_file import encode_path
from faceembed.errors import DataError, FaceEmbedError, UsageError
from faceembed.trainer.data.people import (
    People,
    check_people,
    exclude_people,
    join_people,
    people_in_pairs,
    read_people,
)
from faceembed.trainer.data.samples import Sample
from tests.engine.photos.archives_made import make_tar, make_zip, png


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def told(people: People) -> list[tuple[str, str, bool]]:
    """(person, file name, fake)."""
    return [(sample.person, os.path.basename(sample.path), sample.fake) for sample in people.samples]


def test_folders(tmp_path: Path) -> None:
    touch(tmp_path, "bob/b.png", "bob/a.JPG", "ann/10.jpg", "ann/2.jpg", "ann/notes.txt", "empty.txt")
    people = read_people(tmp_path)
    assert told(people) == [
        ("ann", "10.jpg", False),
        ("ann", "2.jpg", False),
        ("bob", "a.JPG", False),
        ("bob", "b.png", False),
    ]
    assert people.persons == ("ann", "bob")
    assert [os.path.basename(sample.path) for sample in people.of("bob")] == ["a.JPG", "b.png"]
    assert people.of("nobody") == ()
    assert people.notes == (f"{tmp_path}: 2 files are no photos by ending and content and were left out (2 .txt)",)
    assert read_people(tmp_path, layout="lfw") == people


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/j\xe9rome"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"")
    (sample,) = read_people(tmp_path).samples
    assert sample.person == "j\udce9rome"
    assert os.path.isfile(sample.path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no photos of people; expected a folder for each person"),
        (("readme.txt",), "holds no photos of people"),
        (("ann/1.jpg", "stray.jpg"), "'?stray.jpg'? lies in no person's folder"),
        (("lfw/ann/1.jpg",), "lfw/ann/1.jpg lies deeper than in a person's folder"),
    ],
)
def test_folders_that_are_not_people(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        read_people(tmp_path)


def test_what_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none does not exist"):
        read_people(tmp_path / "none")
    with pytest.raises(UsageError, match="layout 'flat' is unknown; known are auto, folders"):
        read_people(tmp_path, layout="flat")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="belongs to a list"):
        read_people(touch(tmp_path, "ann/1.jpg"), images=tmp_path)


def test_celeba(tmp_path: Path) -> None:
    touch(tmp_path / "img_celeba", "000001.jpg", "000002.jpg", "my photo.jpg", "unlisted.jpg")
    listed = tmp_path / "identity_CelebA.txt"
    listed.write_text("000002.jpg 7\n\nmy photo.jpg 12\r\n000001.jpg 7\n")
    people = read_people(listed)
    assert told(people) == [("12", "my photo.jpg", False), ("7", "000001.jpg", False), ("7", "000002.jpg", False)]
    assert people.roots == (str(tmp_path / "img_celeba"),)
    moved = (tmp_path / "img_celeba").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="neither img_celeba nor img_align_celeba lies beside it; say with --images"):
        read_people(listed)
    assert told(read_people(listed, images=moved)) == told(people)
    (moved / "000002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 photos are missing, the first is .*000002.jpg"):
        read_people(listed, images=moved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected lines of a file and its person"),
        ("1.jpg\n", "line 1: expected a file and its person"),
        ("1.jpg 7\n1.jpg 8\n", "line 2: '1.jpg' is listed twice"),
    ],
)
def test_damaged_lists(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path / "img_celeba", "1.jpg")
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_people(tmp_path / "list.txt")


@pytest.mark.parametrize("padded", ["folders", "keys"])
def test_kryptonite_keys_padded_or_not(tmp_path: Path, padded: str) -> None:
    """The trap: meta.json has '0001/03.jpg' and the disk '1/3.jpg', or the other way round."""
    short, long = ("1/3.jpg", "12/0.jpg", "12/10.jpg"), ("0001/03.jpg", "0012/00.jpg", "0012/10.jpg")
    disk, keys = (long, short) if padded == "folders" else (short, long)
    touch(tmp_path / "train" / "images", *disk)
    (tmp_path / "train" / "meta.json").write_text(json.dumps(dict(zip(keys, (0, 0, 1), strict=True))))
    for folder in (tmp_path, tmp_path / "train"):
        people = read_people(folder)
        assert [(s.person, s.fake, s.method) for s in people.samples] == [
            ("1", False, ""),
            ("12", False, ""),
            ("12", True, "unknown"),
        ]
        assert all(os.path.isfile(sample.path) for sample in people.samples)
    touch(tmp_path / "train" / "images", "13/0.jpg")
    with pytest.raises(DataError, match="1 photos are not listed"):
        read_people(tmp_path)


def write_fakes(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    names = ("fake", "method", "source_person", "target_person")
    table = pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})
    pq.write_table(table, folder / "fakes.parquet")
    return folder


def test_fakes(tmp_path: Path) -> None:
    odd = "j\udce9rome"
    write_fakes(
        tmp_path,
        [("swap/1.jpg", "swap", encode_path(odd), "bob"), ("selfblend/1.jpg", "selfblend", "bob", "bob")],
    )
    assert [(s.person, s.other, s.method, s.fake) for s in read_people(tmp_path).samples] == [
        ("bob", "", "selfblend", True),
        (odd, "bob", "swap", True),
    ]
    with pytest.raises(DataError, match="expected rows in fakes"):
        read_people(write_fakes(tmp_path / "none", []))
    (tmp_path / "fakes.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"fakes.parquet cannot be read"):
        read_people(tmp_path)


def test_excluding(tmp_path: Path) -> None:
    people = People(
        "p", (Sample("1", "ann"), Sample("2", "bob"), Sample("f", "bob", True, "swap", "ann"), Sample("3", "cid"))
    )
    left = exclude_people(people, ["ann", "who"])
    assert [sample.path for sample in left.samples] == ["2", "3"]
    assert left.notes == ("1 people (2 photos) were left out of p as asked",)
    assert exclude_people(people, ["who"]) is people
    with pytest.raises(DataError, match="nobody is left"):
        exclude_people(people, people.persons)


def test_people_in_a_pair_list(tmp_path: Path) -> None:
    lfw = tmp_path / "pairs.txt"
    lfw.write_text("1\t1\nAnn_Lee\t1\t2\nBob\t1\tCid_Dee\t3\n")
    assert people_in_pairs(lfw) == {"Ann_Lee", "Bob", "Cid_Dee"}
    table = tmp_path / "pairs.csv"
    table.write_text("path_a,path_b,label\nann/1.jpg,/photos/bob/2.jpg,0\n")
    assert people_in_pairs(table) == {"ann", "bob"}


@pytest.mark.data
def test_lfw_without_its_test_people(data: Path) -> None:
    people = exclude_people(read_people(data / "lfw"), people_in_pairs(data / "lfw_pairs.txt"))
    assert (len(people.persons), len(people.samples)) == (1468, 1549)


def test_joining_refuses_two_people_of_one_name(tmp_path: Path) -> None:
    one = read_people(touch(tmp_path / "one", "ann/1.jpg", "bob/1.jpg"))
    two = read_people(touch(tmp_path / "two", "cid/1.jpg"))
    fakes = People("f", (Sample("x", "ann", True, "swap", "cid"),))
    joined = join_people([two, fakes, one])
    assert [sample.person for sample in joined.samples] == ["ann", "ann", "bob", "cid"]
    assert set(joined.roots) == {*one.roots, *two.roots}
    with pytest.raises(DataError, match="both hold a person 'ann'; rename one if they are two people"):
        join_people([one, read_people(touch(tmp_path / "three", "ann/9.jpg"))])


def test_too_few_people() -> None:
    people = People("p", (Sample("1", "ann"), Sample("2", "ann"), Sample("3", "bob")))
    check_people(people, what="training")
    with pytest.raises(DataError, match="p holds 2 people; training needs at least 3"):
        check_people(people, what="training", persons=3)
    with pytest.raises(DataError, match="at least 2 people with 2 photos or more each, and 1 of 2 have as many"):
        check_people(people, what="training", photos=2)


def test_the_order_of_a_listing_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.trainer.data import people as module

    touch(tmp_path, *(f"{person}/{photo}.jpg" for person in "cab" for photo in range(4)))
    expected = read_people(tmp_path)
    list_photos = module.list_photos

    def mixed(roots: list[str]) -> object:
        listing = list_photos(roots)
        random.Random(1).shuffle(listing.photos)
        return listing

    monkeypatch.setattr(module, "list_photos", mixed)
    assert read_people(tmp_path) == expected


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.trainer.data import people as module

    touch(tmp_path, "ann/1.jpg")
    list_photos = module.list_photos

    def failing(roots: list[str]) -> object:
        listing = list_photos(roots)
        listing.failures.append((f"{tmp_path}/bob", "Permission denied"))
        return listing

    monkeypatch.setattr(module, "list_photos", failing)
    with pytest.raises(FaceEmbedError, match=r"bob cannot be read \(Permission denied\)"):
        read_people(tmp_path)


def test_people_in_an_archive(tmp_path: Path) -> None:
    people = read_people(
        make_zip(tmp_path / "people.zip", {"ann/1.png": png(1), "bob/1.png": png(2), "ann/2.png": png(3)})
    )
    assert people.persons == ("ann", "bob")
    assert [sample.path for sample in people.of("ann")] == [f"{tmp_path}/people.zip::ann/{n}.png" for n in (1, 2)]
    with pytest.raises(DataError, match=r"must hold <person>/<photo>, but 1\.png lies in no person's folder"):
        read_people(make_tar(tmp_path / "flat.tar", {"1.png": png(1)}))
    with pytest.raises(DataError, match=r"people\.zip/ann/1\.png lies deeper than in a person's folder"):
        read_people(tmp_path)


def test_a_list_of_photos_in_an_archive(tmp_path: Path) -> None:
    make_tar(tmp_path / "img.tar", {"1.png": png(1), "2.png": png(2)})
    source = tmp_path / "identity.txt"
    source.write_text("img.tar::1.png 7\nimg.tar::2.png 8\n")
    assert read_people(source, images=tmp_path).persons == ("7", "8")
    source.write_text("img.tar::1.png 7\nimg.tar::3.png 8\n")
    with pytest.raises(DataError, match=r"1 of 2 photos are missing, the first is .*img\.tar::3\.png"):
        read_people(source, images=tmp_path)
