"""Photos in archives: what they are called, that their bytes are right, and what damage says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from faceembed.engine.photos.archives.names import as_folders, parent, split, upwards
from faceembed.engine.photos.archives.opened import NOT_READ, open_archive
from faceembed.engine.photos.file_list import FileList
from faceembed.engine.photos.globs import Glob
from faceembed.engine.photos.inside import NESTED
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import Listing, list_photos
from faceembed.engine.photos.photo_file import decode_path, encode_path, photo_file
from faceembed.engine.photos.places import is_below, is_gone, real_place
from faceembed.engine.photos.reading import read_file
from faceembed.errors import DataError, PhotoError
from tests.engine.photos.archives_made import make_parquet, make_tar, make_zip, png, structs

PHOTOS = {"a.png": png(1), "dir/b.png": png(2), "dir/deep er/ü.png": png(3)}


def names_of(listing: Listing, archive: Path) -> list[str]:
    return [photo.path.removeprefix(f"{archive}::") for photo in listing.photos]


@pytest.mark.parametrize(
    ("path", "parts", "above"),
    [
        ("/d/a.jpg", None, ["/d", "/"]),
        ("/d/x.tar::a.jpg", ("/d/x.tar", "a.jpg"), ["/d/x.tar", "/d", "/"]),
        ("/d/X.TAR::e/f/a.jpg", ("/d/X.TAR", "e/f/a.jpg"), ["/d/X.TAR::e/f", "/d/X.TAR::e", "/d/X.TAR", "/d", "/"]),
        ("/d/x::y/a.jpg", None, ["/d/x::y", "/d", "/"]),
        ("/d/x.zip::a.jpg::2", ("/d/x.zip", "a.jpg::2"), ["/d/x.zip", "/d", "/"]),
        (
            "/d/x::y.parquet::image/3",
            ("/d/x::y.parquet", "image/3"),
            ["/d/x::y.parquet::image", "/d/x::y.parquet", "/d", "/"],
        ),
    ],
)
def test_names(path: str, parts: tuple[str, str] | None, above: list[str]) -> None:
    assert split(path) == parts
    assert list(upwards(path)) == above
    assert parent(path) == above[0]
    assert all(is_below(path, [folder]) for folder in above)
    assert as_folders(path) == ("/".join(parts) if parts else path)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("kind", ["tar", "zip", "stored zip", "bzip2 zip", "lzma zip"])
def test_bytes_are_those_that_were_packed(tmp_path: Path, kind: str, format: int) -> None:
    if kind == "tar":
        archive = make_tar(
            tmp_path / "x.tar", {**PHOTOS, "notes.txt": b"text", "long/" * 18 + "n.png": png(9)}, format=format
        )
    else:
        way = {"zip": 8, "stored zip": 0, "bzip2 zip": 12, "lzma zip": 14}[kind]
        archive = make_zip(tmp_path / "x.zip", {**PHOTOS, "notes.txt": b"text"}, compression=way)
    listing = list_photos([tmp_path])
    found = {photo.path: read_file(photo.path) for photo in listing.photos}
    assert {name: found[f"{archive}::{name}"] for name in PHOTOS} == PHOTOS
    assert all(photo.size == len(found[photo.path]) for photo in listing.photos)
    assert {photo.mtime_ns for photo in listing.photos} == {archive.stat().st_mtime_ns}
    assert (listing.ignored, listing.failures) == ({".txt": 1}, [])
    assert [photo_file(photo.path) for photo in listing.photos] == listing.photos


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("form", ["bytes", "structs"])
def test_columns_of_parquet(tmp_path: Path, form: str, large: bool) -> None:
    photos = [png(seed, 24 + seed) for seed in range(30)]
    values = pa.array(photos, pa.large_binary() if large else pa.binary()) if form == "bytes" else structs(photos)
    others = {"label": list(range(30)), "hash": [bytes([n] * 16) for n in range(30)], "image": values}
    archive = make_parquet(tmp_path / "x.parquet", others, rows=11)
    listing = list_photos([archive])
    assert names_of(listing, archive) == [f"image/{row}" for row in range(30)]
    assert [photo.size for photo in listing.photos] == [len(photo) for photo in photos]
    for row in (0, 1, 29, 7, 28, 3, 12, 10, 11):  # forwards, backwards, over the ends of row groups
        assert read_file(f"{archive}::image/{row}") == photos[row], row
    for name in ("image/30", "image/-1", "image/01", "image/x", "image", "hash/0", "label/0"):
        assert is_gone(f"{archive}::{name}")
        with pytest.raises(PhotoError, match="not in the archive"):
            read_file(f"{archive}::{name}")


def test_rows_without_bytes_say_so_one_by_one(tmp_path: Path) -> None:
    archive = make_parquet(
        tmp_path / "x.parquet", {"image": structs([png(1), None, None, png(2)], ["a", "photos/b.jpg", None, "d"])}
    )
    reasons = {}
    for photo in list_photos([archive]).photos:
        try:
            read_file(photo.path)
        except PhotoError as error:
            reasons[photo.path.rpartition("/")[2]] = error.reason
    assert reasons == {
        "1": "no bytes in its row, which names a file ('photos/b.jpg'); embed that",
        "2": "no bytes in its row",
    }


def test_a_table_without_photos_is_ignored(tmp_path: Path) -> None:
    make_parquet(tmp_path / "x.parquet", {"label": [1, 2], "blob": [b"one", b"two"]})
    make_zip(tmp_path / "empty.zip", {})
    make_tar(tmp_path / "empty.tar", {})
    listing = list_photos([tmp_path])
    assert (listing.photos, listing.failures) == ([], [])
    assert listing.ignored == {".parquet": 1, ".zip": 1, ".tar": 1}


def test_keys_that_are_there_twice(tmp_path: Path) -> None:
    """In each shard the same, as WebDataset has it; and twice in one archive, as tar -r makes it."""
    for shard in range(2):
        make_tar(tmp_path / f"{shard}.tar", [("./0.png", png(shard)), ("0.json", b"{}")])
    make_tar(tmp_path / "twice.tar", [("a.png", png(5)), ("./a.png", png(6)), ("/a.png", png(7)), ("../a.png", png(8))])
    with pytest.warns(UserWarning, match="Duplicate name"):
        make_zip(tmp_path / "twice.zip", [("a.png", png(5)), ("a.png", png(6))])
    paths = [photo.path.removeprefix(f"{tmp_path}/") for photo in list_photos([tmp_path]).photos]
    twice = ["a.png", "a.png::2", "a.png::3", "a.png::4"]
    assert paths == [
        "0.tar::0.png",
        "1.tar::0.png",
        *(f"twice.tar::{n}" for n in twice),
        "twice.zip::a.png",
        "twice.zip::a.png::2",
    ]
    assert [read_file(str(tmp_path / path)) for path in paths] == [png(n) for n in (0, 1, 5, 6, 7, 8, 5, 6)]


def test_links_in_a_tar(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        for name, kind, target in (
            ("d/a.png", tarfile.REGTYPE, ""),
            ("hard.png", tarfile.LNKTYPE, "d/a.png"),
            ("d/soft.png", tarfile.SYMTYPE, "../hard.png"),
            ("lost.png", tarfile.SYMTYPE, "nowhere.png"),
            ("round.png", tarfile.SYMTYPE, "round.png"),
            ("pipe.png", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(png(1)) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(png(1)) if info.size else None)
    said = {}
    for photo in list_photos([archive]).photos:
        try:
            said[photo.path.rpartition("::")[2]] = "right" if read_file(photo.path) == png(1) else "wrong"
        except PhotoError as error:
            said[photo.path.rpartition("::")[2]] = error.reason
    assert said == {
        "d/a.png": "right",
        "hard.png": "right",
        "d/soft.png": "right",
        "lost.png": "a link to what is not in the archive",
        "round.png": "a link that leads in a circle",
        "pipe.png": "neither a file nor a link: a device or a pipe",
    }


def _damaged(kind: str, folder: Path) -> Path:
    photos = {f"{n:02d}.png": png(n) for n in range(10)}
    if kind.startswith("tar"):
        path = make_tar(folder / "x.tar", photos, format=tarfile.USTAR_FORMAT)
        data = bytearray(path.read_bytes())
        step = 512 + 512 * -(-len(png(4)) // 512)
        if kind == "tar cut in a photo":
            data = data[: 4 * step + 512 + 20]
        elif kind == "tar cut in a header":
            data = data[: 4 * step + 100]
        elif kind == "tar with a bad header":
            data[4 * step : 4 * step + 300] = b"x" * 300
        elif kind == "tar of nothing":
            data = bytearray()
        elif kind == "tar with another behind it":
            data = data + data
        else:
            data = bytearray(gzip.compress(bytes(data)))
    elif kind.startswith("zip"):
        path = make_zip(folder / "x.zip", photos)
        data = bytearray(path.read_bytes())
        if kind == "zip cut":
            data = data[: len(data) // 2]
        else:
            at = data.find(b"04.png") + 6 + 10
            data[at : at + 8] = b"\xff" * 8
    else:
        path = make_parquet(folder / "x.parquet", {"image": list(photos.values())})
        data = bytearray(path.read_bytes())
        data = data[: len(data) // 2]
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("kind", "photos", "bad", "said"),
    [
        ("tar cut in a photo", 5, 1, "damaged after 5 files"),
        ("tar cut in a header", 4, 0, "damaged after 4 files (no sound header there)"),
        ("tar with a bad header", 4, 0, "damaged after 4 files (no sound header there)"),
        ("tar with another behind it", 10, 0, "something else follows its end"),
        ("tar of nothing", 0, 0, "not a tar, or a damaged one (empty file)"),
        ("tar that is compressed", 0, 0, "a compressed archive, which is not read in place"),
        ("zip cut", 0, 0, "not a zip, or a damaged one (File is not a zip file)"),
        ("zip with a bad photo", 10, 1, ""),
        ("parquet cut", 0, 0, "not a Parquet file, or a damaged one"),
    ],
)
def test_damage_is_a_row_for_each_thing_that_is_lost(
    tmp_path: Path, kind: str, photos: int, bad: int, said: str
) -> None:
    archive = _damaged(kind, tmp_path)
    listing = list_photos([tmp_path])
    assert len(listing.photos) == photos
    assert [path for path, _ in listing.failures] == [str(archive)] * bool(said)
    assert said in "".join(reason for _, reason in listing.failures)
    failed = []
    for photo in listing.photos:
        try:
            assert read_file(photo.path) == png(int(photo.path[-6:-4]))
        except PhotoError as error:
            failed.append(error.reason)
    assert len(failed) == bad
    assert not is_gone(f"{archive}::09.png")  # what cannot be looked at is not gone


def test_encrypted_nested_and_compressed_say_what_to_do(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner" / "x.zip", PHOTOS).read_bytes()
    make_tar(tmp_path / "outer.tar", {"inner.zip": inner, "old.tar.gz": b"\x1f\x8b", "a.png": png(1)})
    locked = make_zip(tmp_path / "locked.zip", {"a.png": png(1)}, compression=zipfile.ZIP_STORED)
    data = bytearray(locked.read_bytes())
    data[6] |= 1  # the flags of its local header and of the central directory
    data[data.find(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(data)
    (tmp_path / "old.TGZ").write_bytes(b"\x1f\x8b")
    (tmp_path / "photos.7z").write_bytes(b"7z\xbc\xaf")
    listing = list_photos([tmp_path])
    reasons = {os.path.relpath(path, tmp_path): reason for path, reason in listing.failures}
    assert list(reasons) == ["old.TGZ", "outer.tar::inner.zip", "outer.tar::old.tar.gz", "photos.7z"]
    assert reasons["outer.tar::inner.zip"] == NESTED and "unpack it" in reasons["photos.7z"]
    with pytest.raises(PhotoError, match="encrypted in its zip"):
        read_file(f"{locked}::a.png")


@pytest.mark.parametrize("name", ["x.tar", "x.zip", "x.parquet"])
@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: b"7z\xbc\xaf\x27\x1c" + data]
)
def test_compressed_archives_are_known_by_their_bytes(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack(make_tar(tmp_path / "inner" / "a.tar", {"a.png": png(1)}).read_bytes()))
    (tmp_path / "inner" / "a.tar").unlink()
    assert list_photos([tmp_path]).failures == [(str(tmp_path / name), NOT_READ)]


def test_a_list_that_names_what_is_not_in_an_archive(tmp_path: Path) -> None:
    """It is one row, and the archive is not counted as a file without photos."""
    archive = make_zip(tmp_path / "b.zip", {"x/a.png": png(1), "notes/n.txt": b"text"})
    (tmp_path / "list.txt").write_text(f"{archive}::x/no.png\n{archive}::no/\n{tmp_path}/no.zip\n{archive}::x/a.png\n")
    listing = list_photos([FileList(str(tmp_path / "list.txt"))])
    assert names_of(listing, archive) == ["x/a.png"] and not listing.ignored
    assert [reason for _, reason in listing.failures] == ["No such file or directory"] * 3


def test_by_content_and_not_by_ending(tmp_path: Path) -> None:
    """A tar that is called otherwise is read where it is named; a picture that is called a zip is a picture."""
    shard = make_tar(tmp_path / "shard-000", {"key": png(1), "key.cls": b"7", "notes": b"text"})
    picture = tmp_path / "folder" / "p.zip"
    picture.parent.mkdir()
    picture.write_bytes(png(2))
    assert names_of(list_photos([shard]), shard) == ["key"]
    assert read_file(f"{shard}::key") == png(1)
    assert [photo.path for photo in list_photos([picture.parent]).photos] == [str(picture)]


def test_a_file_of_such_a_name_comes_first(tmp_path: Path) -> None:
    make_zip(tmp_path / "x.zip", {"a.png": png(1)})
    (tmp_path / "x.zip::a.png").write_bytes(png(2))
    assert read_file(str(tmp_path / "x.zip::a.png")) == png(2)


def test_rules_of_folders_hold_inside(tmp_path: Path) -> None:
    files = {
        "a.png": png(1),
        "__MACOSX/a.png": png(1),
        "__MACOSX/._a.png": b"\x00\x05\x16\x07",
        "d/._b.png": b"\x00\x05\x16\x07",
        "d/.nomedia": b"",
        "d/c.png": png(2),
        "e/.faceembedignore": b"# mine\n*.gif\n!keep.gif\n/sub\n",
        "e/x.gif": png(3),
        "e/keep.gif": png(4),
        "e/sub/y.png": png(5),
        "e/z.png": png(6),
        ".nomedia": b"",
    }
    archive = make_zip(tmp_path / "x.zip", files)
    listing = list_photos([tmp_path])
    assert names_of(listing, archive) == ["a.png", "e/keep.gif", "e/z.png"]
    assert listing.excluded == {"__MACOSX": 2, ".nomedia": 3, ".faceembedignore": 2}
    assert listing.ignored == {"(none)": 2}
    assert len(listing.photos) + listing.excluded.total() + listing.ignored.total() == len(files)
    taken = list_photos([tmp_path], choice=Choice(include=("__MACOSX/a.png",)))
    assert "__MACOSX/a.png" in names_of(taken, archive)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.zip", []),
        ("x.zip/", []),
        ("b.png", ["a.png", "dir/deep er/ü.png"]),
        ("dir/", ["a.png"]),
        ("x.zip::dir/*.png", ["a.png", "dir/deep er/ü.png"]),
        ("x.zip/dir/**/*.png", ["a.png"]),
        ("{}/x.zip::dir", ["a.png"]),
    ],
)
def test_patterns_reach_inside(tmp_path: Path, pattern: str, left: list[str]) -> None:
    archive = make_zip(tmp_path / "x.zip", PHOTOS)
    listing = list_photos([tmp_path], choice=Choice(exclude=(pattern.format(tmp_path),)))
    assert names_of(listing, archive) == left
    assert listing.unused == []
    assert Glob("x.zip::dir").matches("/d/x.zip::dir", folder=True)


def test_what_may_be_named(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", PHOTOS)
    assert names_of(list_photos([f"{archive}::a.png"]), archive) == ["a.png"]
    assert names_of(list_photos([f"{archive}::dir"]), archive) == ["dir/b.png", "dir/deep er/ü.png"]
    assert len(list_photos([archive, tmp_path, f"{archive}::a.png"]).photos) == 3
    for missing in (f"{archive}::c.png", f"{tmp_path}/no.zip::a.png"):
        with pytest.raises(DataError, match="No such file"):
            list_photos([missing])
    os.symlink(archive, tmp_path / "link.zip")
    assert real_place(f"{tmp_path}/link.zip::a.png") == f"{archive}::a.png"


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", {"caf\udce9.png": png(1)}, format=tarfile.GNU_FORMAT)
    (photo,) = list_photos([archive]).photos
    assert photo.path.endswith("caf\udce9.png")
    assert decode_path(encode_path(photo.path)) == photo.path
    assert read_file(photo.path) == png(1)


def test_an_archive_that_is_written_again_is_opened_again(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", {"a.png": png(1)})
    assert read_file(f"{archive}::a.png") == png(1)
    make_tar(archive, {"pad.txt": b"x" * 3000, "a.png": png(2)})
    assert read_file(f"{archive}::a.png") == png(2)
    archive.unlink()
    assert is_gone(f"{archive}::a.png")
    with pytest.raises(PhotoError, match="No such file"):
        read_file(f"{archive}::a.png")


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_readers_side_by_side(tmp_path: Path, kind: str) -> None:
    photos = [png(seed) for seed in range(60)]
    named = {f"image/{n}": photo for n, photo in enumerate(photos)}
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        make_parquet(path, {"image": photos}, rows=25)
    else:
        (make_tar if kind == "tar" else make_zip)(path, named)
    wrong: list[str] = []

    def read(part: int) -> None:
        for name in list(named)[part::6]:
            if read_file(f"{path}::{name}") != named[name]:
                wrong.append(name)

    threads = [threading.Thread(target=read, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_memory_is_that_of_some_photos(tmp_path: Path, kind: str) -> None:
    """64 MiB of photos, of which no more than a few lie in memory, listing or reading."""
    blocks = np.random.default_rng(0).integers(0, 256, (64, 1 << 20), np.uint8)
    photos = {f"{n:02d}.png": png(n) + block.tobytes() for n, block in enumerate(blocks)}
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        make_parquet(path, {"image": list(photos.values())}, rows=64)
    else:
        (make_tar if kind == "tar" else make_zip)(path, photos)
    del photos, blocks
    before, most_arrow = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    try:
        listing = list_photos([path])
        total = 0
        for photo in listing.photos:
            total += len(read_file(photo.path))
            most_arrow = max(most_arrow, pa.total_allocated_bytes() - before)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(listing.photos) == 64 and total > 64 << 20
    assert most < 8 << 20
    assert most_arrow < 40 << 20


@pytest.mark.parametrize("limit", [100, 1 << 20])
def test_the_limit_on_bytes_holds_inside(tmp_path: Path, limit: int) -> None:
    """A zip of zeros is large when it is unpacked: refused by what it says before it is."""
    archive = make_zip(tmp_path / "x.zip", {"bomb.png": bytes(50 << 20)})
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(PhotoError, match="50 MiB, over the limit"):
        read_file(f"{archive}::bomb.png", max_bytes=limit)
    with pytest.raises(PhotoError, match="nothing but zeros"):
        read_file(f"{archive}::bomb.png")
    assert open_archive(str(archive)).size("bomb.png") == 50 << 20
