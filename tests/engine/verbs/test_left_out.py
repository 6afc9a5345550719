"""What is left out of folders, and an index that knows it from before: nothing is wiped, nothing is blocked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.photos import listing as listing_module
from faceembed.engine.photos.failures import REMOVED
from faceembed.engine.photos.file_list import FileList
from faceembed.engine.verbs.remove import remove
from faceembed.errors import DataError, LossError
from tests.engine.verbs.albums import album, failures_of, paths_of, picture, run, state_of

pytestmark = pytest.mark.usefixtures("counted")


def of_an_older_version(monkeypatch: pytest.MonkeyPatch, photos: Path, index: Path) -> Any:
    """An index that was made when nothing was left out."""
    with monkeypatch.context() as patch:
        patch.setattr(listing_module, "made_by_a_system", lambda name, path: "")
        return run(photos, index)


def test_rows_faces_and_what_is_left_out_are_all_files(tmp_path: Path) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 5)
    album(nas / "@eaDir", 7, first=100)
    (nas / "bad.jpg").write_bytes(b"no picture")
    (nas / "notes.txt").write_text("text")
    lines: list[str] = []
    report = run(nas, index, notice=lines.append)
    assert (report.images, report.faces, report.failed) == (6, 5, 1)
    assert (report.excluded, report.ignored, report.passed_over) == ({"@eaDir": 7}, {".txt": 1}, 0)
    assert any("7 files were left out by their names or folders (7 by @eaDir)" in line for line in lines)
    assert report.faces + len(failures_of(index)) + 7 + 1 == sum(path.is_file() for path in nas.rglob("*"))


def test_an_older_index_is_neither_wiped_nor_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its photos 90 % are thumbnails, which a run of today does not look at."""
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 10)
    album(nas / ".thumbnails", 90, first=100)
    (nas / ".thumbnails" / "bad.jpg").write_bytes(b"no picture")
    assert of_an_older_version(monkeypatch, nas, index).faces == 100
    before = paths_of(index)
    picture(nas / "new.png", 1000)
    lines: list[str] = []
    report = run(nas, index, notice=lines.append)
    assert (report.embedded, report.faces, report.passed_over) == (1, 101, 90)
    assert paths_of(index) == sorted([*before, str(nas / "new.png")])
    assert failures_of(index) == {}  # the row of a file that is counted as left out now
    assert any("90 photos in the index are among those left out now" in line and "--prune" in line for line in lines)
    report = run(nas, index, prune=True)
    assert (report.removed, report.faces, report.passed_over) == (90, 11, 0)


def test_a_disk_that_is_not_mounted_is_still_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 10)
    album(nas / "#recycle", 10, first=100)
    of_an_older_version(monkeypatch, nas, index)
    before = state_of(tmp_path)
    for path in nas.glob("*.png"):
        before.pop(str(path))
        path.unlink()
    with pytest.raises(LossError, match="--prune"):
        run(nas / "..", index)
    assert state_of(tmp_path) == before


def test_a_photo_that_went_to_the_trash_has_gone(tmp_path: Path) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 10)
    run(nas, index)
    (nas / "#recycle").mkdir()
    shutil.move(nas / "00003.png", nas / "#recycle" / "00003.png")
    report = run(nas, index)
    assert (report.removed, report.faces, report.moved, report.excluded) == (1, 9, 0, {"#recycle": 1})
    shutil.move(nas / "#recycle" / "00003.png", nas / "00003.png")
    assert run(nas, index).faces == 10


def test_a_photo_that_comes_out_of_the_trash_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 10)
    album(nas / "#recycle", 3, first=100)
    of_an_older_version(monkeypatch, nas, index)
    shutil.move(nas / "#recycle" / "00100.png", nas / "back.png")
    report = run(nas, index)
    assert (report.embedded, report.moved, report.faces, report.passed_over) == (0, 1, 13, 2)


def test_what_is_excluded_stays_in_an_index_until_it_is_pruned(tmp_path: Path, counted: Any) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 3)
    album(nas / "private", 4, first=100)
    run(nas, index)
    report = run(nas, index, exclude=["private/"])
    assert (report.faces, report.passed_over, report.removed) == (7, 4, 0)
    assert run(nas, index, exclude=["private/"], prune=True).faces == 3
    assert run(nas, index, exclude=["*"], include=["0000*.png"]).faces == 3
    assert counted.photos == 7
    assert run(nas, index).faces == 7


def test_what_was_taken_out_by_hand_stays_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 3)
    album(nas / "@eaDir", 3, first=100)
    of_an_older_version(monkeypatch, nas, index)
    remove(index, [str(nas / "@eaDir" / "00101.png")])
    assert run(nas, index, prune=True).faces == 3
    assert failures_of(index) == {"00101.png": REMOVED}
    assert run(nas, index, include=["@eaDir"]).faces == 5


def test_only_what_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no photos in .*2 files were left out by name or folder"):
        run(album(tmp_path / "nas", 2), tmp_path / "p.faiss", exclude=["*.png"])


def test_a_list_of_photos(tmp_path: Path) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 4)
    names = sorted(map(str, nas.iterdir()))
    (tmp_path / "list.txt").write_text("\n".join([*names[:3], str(nas / "typo.png")]))
    report = run(FileList(str(tmp_path / "list.txt")), index)
    assert (report.images, report.faces, report.failed) == (4, 3, 1)
    assert failures_of(index) == {"typo.png": "list"}
    (nas / "00001.png").unlink()  # gone since the list was made
    report = run([FileList(str(tmp_path / "list.txt"))], index)
    assert (report.removed, report.faces) == (1, 2)
    (tmp_path / "list.txt").write_text("nothing\n")
    with pytest.raises(DataError, match="no photos in what was given"):
        run(FileList(str(tmp_path / "list.txt")), tmp_path / "other.faiss")
