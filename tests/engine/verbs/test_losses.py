"""A disk that is not mounted, a folder that is gone, photos that vanish: nothing is dropped from an index unasked."""

from __future__ import annotations

import collections
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.index.losses import Selection, alarm
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.verbs.embed import Progress
from faceembed.errors import DataError, LossError
from tests.engine.verbs.albums import album, failures_of, paths_of, picture, run, state_of

pytestmark = pytest.mark.usefixtures("counted")


def _gone(folder: Path) -> None:
    """Its photos are out of the run's sight."""
    (top,) = (parent for parent in folder.parents if parent.name.startswith("test_"))
    shutil.move(folder, top / "unmounted")


def _empty(folder: Path) -> None:
    _gone(folder)
    folder.mkdir()


def _mount_elsewhere(folder: Path) -> None:
    _empty(folder)
    (folder / "lost+found").mkdir()
    (folder / "README.txt").write_text("nothing is mounted here")


@pytest.mark.parametrize("unmount", [_empty, _gone, _mount_elsewhere])
@pytest.mark.parametrize("where", ["nas", "nas/2019", "nas/2019/may"])
@pytest.mark.parametrize("count", [1, 10])
def test_an_empty_mount_changes_nothing(
    tmp_path: Path, unmount: Callable[[Path], None], where: str, count: int
) -> None:
    index = tmp_path / "out" / "p.faiss"
    nas = album(tmp_path / "nas", 300 if where != "nas" else 0)
    album(tmp_path / "nas/2019/may", count, first=1000)
    run(nas, index)
    before = state_of(index.parent)
    folder = tmp_path / where
    unmount(folder)
    with pytest.raises(
        LossError, match=rf"held {count} of the [\d,]+ photos in the index and .*not mounted\?.*--prune"
    ) as caught:
        run(nas, index)
    named = folder.parent if unmount is _gone and where == "nas/2019/may" else folder  # which is empty itself then
    assert str(caught.value).startswith(f"{named} held")
    assert "\n" not in str(caught.value)
    assert state_of(index.parent) == before
    report = run(nas, index, prune=True)
    assert report.removed == count
    assert report.faces == len(paths_of(index)) == (0 if where == "nas" else 300)


def test_a_mount_that_comes_back_goes_on(tmp_path: Path, counted: Any) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 5)
    run(nas, index)
    _empty(nas)
    with pytest.raises(LossError):
        run(nas, index)
    nas.rmdir()
    shutil.move(tmp_path / "unmounted", nas)
    assert run(nas, index).embedded == 0
    assert counted.photos == 5


@pytest.mark.parametrize(
    ("total", "deleted", "refused"), [(300, 61, True), (300, 50, False), (400, 80, False), (60, 51, True)]
)
def test_much_of_an_index_is_not_dropped_unasked(tmp_path: Path, total: int, deleted: int, refused: bool) -> None:
    """More than a fifth and more than 50, from a folder that still has photos."""
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", total)
    run(nas, index)
    before = state_of(tmp_path)
    for path in sorted(nas.iterdir())[:deleted]:
        path.unlink()
        before.pop(str(path))
    if refused:
        with pytest.raises(LossError, match=rf"{deleted} of the {total} photos in the index are gone.*--prune"):
            run(nas, index)
        assert state_of(tmp_path) == before
    assert run(nas, index, prune=refused).removed == deleted
    assert len(paths_of(index)) == total - deleted


def test_ten_thousand_photos_of_ten_thousand_folders(tmp_path: Path) -> None:
    """The look at what is gone does not take the square of their number."""
    known = {f"/nas/{n % 100}/{n}/photo.jpg": PhotoFile(f"/nas/{n % 100}/{n}/photo.jpg", n, n) for n in range(10_000)}
    roots = [f"/nas/{n % 100}/{n}" for n in range(10_000)]
    listing = Listing([], [("/nas/3", "Permission denied")], collections.Counter(), roots)
    selection = Selection(listing, [])
    started = time.process_time()
    gone = {path for path in known if selection.lost(path)}
    assert len(gone) == 9_900  # those below the folder that cannot be read stay
    assert "and 9,899 more such folders" in alarm(gone, known, [path for path in known if path not in gone], selection)
    assert time.process_time() - started < 5


def test_deleted_photos_are_dropped_as_before(tmp_path: Path) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 10)
    run(nas, index)
    (nas / "00003.png").unlink()
    assert run(nas, index).removed == 1


def test_failures_count_as_photos_of_a_folder(tmp_path: Path) -> None:
    """A folder of which nothing has a face is not mounted either."""
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 4)
    (nas / "sub").mkdir()
    (nas / "sub" / "bad.jpg").write_bytes(b"no picture")
    run(nas, index)
    _empty(nas / "sub")
    with pytest.raises(LossError, match="held 1 of the 5"):
        run(nas, index)
    assert failures_of(index) == {"bad.jpg": "decode"}


# --- photos that vanish while a run works ---------------------------------------------------------------------------


def vanishing(when: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    done = False

    def progress(at: Progress) -> None:
        nonlocal done
        if at.done >= when and not done:
            done = True
            act()

    return progress


@pytest.mark.parametrize("deleted", ["00001.png", "00198.png"])
def test_a_photo_that_vanishes_leaves_no_row(tmp_path: Path, deleted: str) -> None:
    """One that was embedded already, and one that could not be read any more."""
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 200)
    lines: list[str] = []
    report = run(nas, index, progress=vanishing(16, (nas / deleted).unlink), notice=lines.append)
    assert (report.vanished, report.faces, report.failed) == (1, 199, 0)
    assert deleted not in {os.path.basename(path) for path in paths_of(index)} | set(failures_of(index))
    assert any("vanished while the run worked" in line and deleted in line for line in lines)


def test_a_known_photo_that_vanishes_during_an_update(tmp_path: Path) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 30)
    run(nas, index)
    album(nas, 40, first=100)
    report = run(nas, index, progress=vanishing(16, (nas / "00007.png").unlink))
    assert (report.vanished, report.faces) == (1, 69)


@pytest.mark.parametrize("update", [False, True])
def test_a_disk_that_goes_while_a_run_works(tmp_path: Path, update: bool, counted: Any) -> None:
    """The index stays as it was, what was embedded is kept, and the next run goes on."""
    index, nas = tmp_path / "out" / "p.faiss", album(tmp_path / "nas", 100)
    if update:
        run(nas, index)
        album(nas, 100, first=100)
    before = paths_of(index) if update else []
    with pytest.raises(LossError, match=r"--prune; what was embedded is kept"):
        run(nas, index, progress=vanishing(16, lambda: _empty(nas)))
    assert (paths_of(index) if update else []) == before
    assert index.exists() == update
    nas.rmdir()
    shutil.move(tmp_path / "unmounted", nas)
    assert run(nas, index).faces == 100 + 100 * update


# --- photos that are named one by one -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 300])
def test_files_that_are_named_and_gone(tmp_path: Path, count: int) -> None:
    """`embed ph/*.jpg`: the shell names only what is there."""
    index, folder = tmp_path / "p.faiss", album(tmp_path / "ph", count)
    run(sorted(folder.glob("*.png")), index)
    (folder / "00004.png").unlink()
    report = run(sorted(folder.glob("*.png")), index)
    assert (report.removed, report.embedded) == (1, 0)
    assert len(paths_of(index)) == count - 1


def test_the_same_names_with_one_gone(tmp_path: Path) -> None:
    """Names that a script kept, of which one is no more; a name that nobody knew stays an error."""
    index, folder = tmp_path / "p.faiss", album(tmp_path / "ph", 5)
    names = sorted(folder.glob("*.png"))
    run(names, index)
    names[2].unlink()
    assert run(names, index).removed == 1
    with pytest.raises(DataError, match="No such file"):
        run([*names, folder / "typo.png"], index)


def test_files_of_another_pattern_stay(tmp_path: Path) -> None:
    index, folder = tmp_path / "p.faiss", album(tmp_path / "ph", 10)
    picture(tmp_path / "other" / "x.png", 99)
    run(sorted(folder.glob("*.png")), index)
    report = run(sorted(folder.glob("0000[0-3].png")), index)  # the others are there, only not named
    assert (report.removed, report.faces) == (0, 10)
    (folder / "00009.png").unlink()
    assert run([tmp_path / "other" / "x.png"], index).faces == 11  # another folder says nothing of this one
    assert run(sorted(folder.glob("0000[0-3].png")), index).faces == 10


def test_one_selection_of_two_folders(tmp_path: Path) -> None:
    """`embed a/*.png b/*.png`, and later all that is left of b is one photo that the pattern does not name."""
    index = tmp_path / "p.faiss"
    a, b = album(tmp_path / "a", 3), album(tmp_path / "b", 3, first=10)
    run([*sorted(a.glob("*.png")), *sorted(b.glob("*.png"))], index)
    for path in sorted(b.glob("*.png"))[:2]:
        path.unlink()
    report = run(sorted(a.glob("*.png")), index)
    assert (report.removed, report.faces) == (2, 4)


def test_a_pattern_that_matches_nothing_any_more(tmp_path: Path) -> None:
    """The shell hands on `ph/*.png` as it is."""
    index, folder = tmp_path / "p.faiss", album(tmp_path / "ph", 3)
    run(sorted(folder.glob("*.png")), index)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(LossError, match=r"held 3 of the 3 .*--prune"):
        run([folder / "*.png"], index)
    assert run([folder / "*.png"], index, prune=True).faces == 0
