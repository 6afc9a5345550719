"""Photos in archives through `embed` and what comes after it: known again, moved, dropped, guarded, searched, compared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.index.clusters.links import write_links
from faceembed.engine.index.store import FaceIndex
from faceembed.engine.photos.archives.names import split
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.verbs.relocate import relocate
from faceembed.engine.verbs.remove import remove
from faceembed.errors import LossError
from tests.engine.photos.archives_made import make_parquet, make_tar, make_zip, png, structs
from tests.engine.verbs.albums import Counted, album, failures_of, paths_of, run


def files(first: int, count: int) -> dict[str, bytes]:
    return {f"{number:05d}.png": png(number, 24 + number % 3) for number in range(first, first + count)}


def archives(folder: Path, count: int = 4) -> Path:
    make_tar(folder / "a.tar", {**files(0, count), "labels.json": b"{}"})
    make_zip(folder / "sub" / "b.zip", files(100, count))
    make_parquet(folder / "c.parquet", {"image": structs(list(files(200, count).values()))}, rows=3)
    return folder


def test_faces_rows_and_what_is_left_out_are_all_files(tmp_path: Path, counted: Counted) -> None:
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos")
    make_tar(photos / "bad.tar", {"x.png": png(5), "broken.png": b"no picture", "__MACOSX/y.png": png(6)})
    (photos / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    album(photos, 2, first=300)
    report = run(photos, index)
    assert (report.faces, report.failed, counted.photos) == (15, 2, 16)
    assert (report.excluded, report.ignored) == ({"__MACOSX": 1}, {".json": 1})
    assert failures_of(index) == {"bad.tar::broken.png": "decode", "cut.zip": "list"}
    assert f"{photos}/sub/b.zip::00100.png" in paths_of(index)
    assert f"{photos}/c.parquet::image/3" in paths_of(index)


def test_a_second_run_reads_nothing_and_a_touched_archive_computes_nothing(tmp_path: Path, counted: Counted) -> None:
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos")
    run(photos, index)
    report = run(photos, index)
    assert (report.embedded, report.unread, report.faces) == (0, 12, 12)
    for path in (photos / "a.tar", photos / "sub/b.zip", photos / "c.parquet"):
        os.utime(path, ns=(1, 1))
    report = run(photos, index)
    assert (report.embedded, report.touched, report.faces) == (0, 12, 12)
    assert counted.photos == 12


def test_an_archive_that_was_added_to(tmp_path: Path, counted: Counted) -> None:
    """All of it is read and known again; what is new is embedded, what is gone is dropped."""
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos")
    run(photos, index)
    make_tar(photos / "a.tar", files(1, 5))  # 0 is gone, 4 and 5 are new
    report = run(photos, index)
    assert (report.embedded, report.touched, report.removed, report.faces) == (2, 3, 1, 13)
    inside = [path for path in paths_of(index) if "a.tar::" in path]
    assert inside == [f"{photos}/a.tar::{name}" for name in files(1, 5)]


def test_moved_unpacked_and_packed_photos_are_known_by_their_bytes(tmp_path: Path, counted: Counted) -> None:
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos")
    run(photos, index)
    (photos / "a.tar").rename(photos / "sub" / "renamed.tar")
    report = run(photos, index)
    assert (report.embedded, report.moved, report.faces) == (0, 4, 12)
    (photos / "sub" / "b.zip").unlink()
    for name, data in files(100, 4).items():
        (photos / name).write_bytes(data)
    report = run(photos, index)
    assert (report.embedded, report.moved, report.faces) == (0, 4, 12)
    make_tar(photos / "copy.tar", files(100, 4))
    report = run(photos, index)
    assert (report.embedded, report.copies, report.faces) == (0, 4, 16)
    assert counted.photos == 12


def test_an_archive_that_is_gone_or_damaged_wipes_nothing_unasked(tmp_path: Path, counted: Counted) -> None:
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos", 60)
    assert run(photos, index).faces == 180
    whole = (photos / "sub/b.zip").read_bytes()
    (photos / "sub/b.zip").write_bytes(whole[:1000])
    lines: list[str] = []
    report = run(photos, index, notice=lines.append)
    assert (report.faces, report.removed, report.failed) == (180, 0, 1)  # damaged is not gone
    kept = [line for line in lines if "they stay" in line]
    assert len(kept) == 1 and kept[0].startswith(f"60 photos in the index are of {photos}/sub/b.zip, where they cannot")
    lines.clear()
    run(photos, index, notice=lines.append)
    assert kept[0] in lines  # as long as it is so
    (photos / "sub/b.zip").unlink()
    with pytest.raises(LossError, match="held 60 of the 180 photos in the index"):
        run(photos, index)
    assert len(paths_of(index)) == 180
    report = run(photos, index, prune=True)
    assert (report.faces, report.removed, report.failed) == (120, 60, 0)


def test_an_archive_that_was_named_may_be_gone(tmp_path: Path, counted: Counted) -> None:
    index, tar = tmp_path / "p.faiss", make_tar(tmp_path / "a.tar", files(0, 4))
    assert run(tar, index).faces == 4
    tar.rename(tmp_path / "elsewhere.tar")
    with pytest.raises(LossError, match=r"a\.tar held 4 of the 4 photos in the index and is gone"):
        run(tar, index)
    assert run(tmp_path / "elsewhere.tar", index).moved == 4


def test_what_is_left_out_later_stays_until_prune(tmp_path: Path, counted: Counted) -> None:
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos")
    run(photos, index)
    report = run(photos, index, exclude=["b.zip"])
    assert (report.passed_over, report.faces) == (4, 12)
    report = run(photos, index, exclude=["c.parquet::image/1"], prune=True)
    assert (report.faces, report.removed) == (11, 1)


def test_relocate_remove_links_and_thumbnails(tmp_path: Path, counted: Counted) -> None:
    index, photos = tmp_path / "p.faiss", archives(tmp_path / "photos")
    run(photos, index)
    shutil.copytree(photos, tmp_path / "new")
    shutil.rmtree(photos)
    assert relocate(index, photos, tmp_path / "new").photos == 12
    os.rename(tmp_path / "new" / "a.tar", tmp_path / "new" / "z.tar")
    assert relocate(index, tmp_path / "new" / "a.tar", tmp_path / "new" / "z.tar").photos == 4
    assert run(tmp_path / "new", index).embedded == 0
    report = remove(index, [f"{tmp_path}/new/z.tar::00000.png", f"{tmp_path}/new/sub/b.zip"])
    assert (report.faces, report.on_disk, report.left) == (5, 5, 7)
    assert run(tmp_path / "new", index).faces == 7
    faces = FaceIndex(index)
    paths = paths_of(index)
    assert all(split(path) and thumbnail(path) for path in paths) and len(faces) == 7
    album(tmp_path / "flat", 1)
    named = [*map(decode_path, paths), str(tmp_path / "flat" / "00000.png")]
    made = write_links(tmp_path / "people", named, *_numbers(len(named)), least_faces=1)
    assert (made.links, made.inside, made.missing) == (1, 7, [])


def _numbers(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(count), np.zeros(count, np.int64)
