"""Photos that were moved, touched, copied or replaced: known again by their bytes, and nothing is computed twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import FaceIndex
from faceembed.engine.photos.photo_file import digest_of
from faceembed.engine.verbs.remove import remove
from faceembed.errors import UsageError
from tests.engine.verbs.albums import (
    Counted,
    album,
    faces_of,
    failures_of,
    ids_of,
    paths_of,
    picture,
    run,
)

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    """Thirty photos in two folders and one that is none."""
    folder = album(tmp_path / "nas", 20)
    album(folder / "more", 10, first=20)
    (folder / "bad.jpg").write_bytes(b"no picture at all")
    return folder


@pytest.fixture
def index(tmp_path: Path, nas: Path, counted: Counted) -> Path:
    path = tmp_path / "p.faiss"
    assert run(nas, path).faces == 30
    counted.photos = 0
    return path


def below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*.png"))


def check_vectors(index: Path) -> None:
    """Every face's vector is that of the photo its row names."""
    table, other = faces_of(index), index.with_name("again.faiss")
    run([photo.path for photo in table.photos()], other, fresh=other.exists())
    wanted = {
        photo.path: vector for photo, vector in zip(faces_of(other).photos(), faces_of(other).vectors, strict=True)
    }
    for photo, vector in zip(table.photos(), table.vectors, strict=True):
        np.testing.assert_array_equal(vector, wanted[photo.path])
        info = os.stat(photo.path)
        assert (photo.size, photo.mtime_ns) == (info.st_size, info.st_mtime_ns)
        assert photo.digest == digest_of(Path(photo.path).read_bytes())
    assert len(FaceIndex(index)) == len(table)


def test_a_moved_archive(index: Path, nas: Path, tmp_path: Path, counted: Counted) -> None:
    before = ids_of(index)
    shutil.move(nas, tmp_path / "nas2")
    lines: list[str] = []
    report = run(tmp_path / "nas2", index, notice=lines.append)
    assert (report.embedded, report.moved, report.removed, report.faces, report.failed) == (0, 31, 0, 30, 1)
    assert counted.photos == 0
    assert ids_of(index) == before
    assert paths_of(index) == below(tmp_path / "nas2")
    assert any("known by their bytes, not computed again: 31 moved" in line for line in lines)
    assert json.loads(Path(f"{index}.json").read_text())["roots"] == [str(nas), str(tmp_path / "nas2")]
    again = run(tmp_path / "nas2", index)
    assert (again.unread, again.moved, again.removed) == (31, 0, 0)
    check_vectors(index)


@pytest.mark.parametrize("named", [False, True])
def test_what_did_not_move_with_its_archive_is_said(tmp_path: Path, counted: Counted, named: bool) -> None:
    before, after, index = album(tmp_path / "nas", 20), tmp_path / "nas2", tmp_path / "p.faiss"

    def given(folder: Path) -> Any:
        return [Path(path) for path in below(folder)] if named else folder

    assert run(given(before), index).faces == 20
    before.rename(after)
    dead = [str(before / Path(path).name) for path in below(after)[:3]]
    for path in below(after)[:3]:
        os.unlink(path)
    for moved in (17, 0):  # at every run, as long as it is so
        said: list[str] = []
        report = run(given(after), index, notice=said.append)
        assert (report.moved, report.embedded, report.faces) == (moved, 0, 20)
        (line,) = (line for line in said if "is not there" in line)
        assert line.startswith(
            f"3 photos in the index are of {before}, which is not there and was not asked for; they stay: `faceembed remove`"
        )
    assert remove(index, [before]).faces == 3
    assert paths_of(index) == below(after) and not {*paths_of(index)} & {*dead}
    said = []
    assert run(given(after), index, notice=said.append).faces == 17
    assert not [line for line in said if "not there" in line]


def test_a_folder_that_is_there_and_not_asked_for_is_not_spoken_of(index: Path, nas: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert run(album(tmp_path / "other", 3, first=50), index, notice=said.append).faces == 33
    assert not [line for line in said if "not there" in line]
    shutil.rmtree(nas)
    run(tmp_path / "other", index, notice=said.append)
    assert sum(line.startswith(f"30 photos in the index are of {nas}, ") for line in said) == 1


def test_folders_renamed_inside(index: Path, nas: Path, counted: Counted) -> None:
    """Also where a folder is empty then: its photos are not gone."""
    (nas / "more").rename(nas / "less")
    report = run(nas, index)
    assert (report.embedded, report.moved, report.removed) == (0, 10, 0)
    assert paths_of(index) == below(nas)
    check_vectors(index)


@pytest.mark.parametrize("touch", ["mtime", "rights", "copied over"])
def test_touched_photos(index: Path, nas: Path, counted: Counted, touch: str) -> None:
    before = ids_of(index)
    for path in map(Path, below(nas)):
        if touch == "mtime":
            os.utime(path, ns=(5, 5))
        elif touch == "rights":
            path.chmod(0o600)
        else:
            data, info = path.read_bytes(), path.stat()
            path.unlink()
            path.write_bytes(data)
            os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))
    report = run(nas, index)
    assert (report.embedded, report.touched, report.removed) == (0, 30, 0)
    assert ids_of(index) == before
    assert run(nas, index).unread == 31
    check_vectors(index)


def test_another_photo_of_the_same_size_and_time(index: Path, nas: Path, counted: Counted) -> None:
    """What size and time do not tell, the time of the last change of any kind does."""
    victim = nas / "00004.png"
    info, old = victim.stat(), ids_of(index)["00004.png"]
    for seed in range(500, 2000):  # until one has as many bytes
        if picture(nas.parent / "other.png", seed, side=25).stat().st_size == info.st_size:
            break
    else:
        pytest.fail("no picture of that size")
    shutil.copy(nas.parent / "other.png", victim)
    os.utime(victim, ns=(info.st_mtime_ns, info.st_mtime_ns))
    assert (victim.stat().st_size, victim.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)
    report = run(nas, index)
    assert (report.embedded, report.removed, report.faces) == (1, 1, 30)
    assert ids_of(index)["00004.png"] > old
    check_vectors(index)


def test_what_was_not_read_is_said(index: Path, nas: Path) -> None:
    lines: list[str] = []
    assert run(nas, index, notice=lines.append).unread == 31
    assert lines == ["nothing new, changed or gone; 31 photos were not read, as their size and times are the same"]
    report = run(nas, index, check=True, notice=lines.append)
    assert (report.unread, report.embedded, report.touched) == (0, 0, 0)


def test_check_reads_what_the_file_system_cannot_tell(index: Path, nas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back, a disk that lies: only reading finds it."""
    from faceembed.engine.photos import listing as module

    real = module.stated
    before = {str(path): real(str(path), os.stat(path)) for path in nas.rglob("*") if path.is_file()}
    shutil.copy(nas / "00001.png", nas / "00004.png")

    def lying(path: str, info: os.stat_result) -> Any:
        return before.get(path) or real(path, info)

    monkeypatch.setattr(module, "stated", lying)
    assert run(nas, index).embedded == 0
    report = run(nas, index, check=True)
    assert (report.copies, report.removed) == (1, 1)


def test_copies(index: Path, nas: Path, counted: Counted) -> None:
    """Into the folder, into another one, and of one that is moved at the same time."""
    other = nas.parent / "other"
    other.mkdir()
    shutil.copy(nas / "00001.png", nas / "copy.png")
    shutil.copy(nas / "00002.png", other / "copy.png")
    (nas / "00003.png").rename(other / "moved.png")
    shutil.copy(other / "moved.png", other / "moved too.png")
    report = run([nas, other], index)
    assert (report.embedded, report.copies, report.moved, report.faces) == (0, 3, 1, 33)
    assert paths_of(index) == sorted(below(nas) + below(other))
    table = faces_of(index)
    ids = table.rows.column("face_id").to_pylist()
    assert len(set(ids)) == 33
    check_vectors(index)


def test_names_exchanged(index: Path, nas: Path, counted: Counted) -> None:
    a, b, c, spare = (nas / name for name in ("00000.png", "00003.png", "00006.png", "spare"))
    before = ids_of(index)
    a.rename(spare)
    b.rename(a)
    c.rename(b)
    spare.rename(c)
    report = run(nas, index)
    assert (report.embedded, report.moved, report.faces) == (0, 3, 30)
    after = ids_of(index)
    assert (after["00000.png"], after["00003.png"], after["00006.png"]) == (
        before["00003.png"],
        before["00006.png"],
        before["00000.png"],
    )
    check_vectors(index)


def test_moved_and_a_new_photo_in_its_place(index: Path, nas: Path, counted: Counted) -> None:
    (nas / "00000.png").rename(nas / "before.png")
    picture(nas / "00000.png", 777)
    report = run(nas, index)
    assert (report.embedded, report.moved, report.faces) == (1, 1, 31)
    check_vectors(index)


def test_a_failure_that_moves_is_not_tried_again(index: Path, nas: Path, counted: Counted) -> None:
    (nas / "bad.jpg").rename(nas / "more" / "worse.jpg")
    assert run(nas, index).embedded == 0
    assert failures_of(index) == {"worse.jpg": "decode"}


def test_moved_after_an_interrupted_run(tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an archive that moved, the shards of the run that was killed are known, too."""
    from faceembed.engine.verbs import embed as module

    monkeypatch.setattr(module, "SHARD", 16)
    nas, index = album(tmp_path / "nas", 60), tmp_path / "p.faiss"

    class Stop(Exception):
        pass

    def stop(at: Any) -> None:
        if at.done >= 40:
            raise Stop

    with pytest.raises(Stop):
        run(nas, index, progress=stop)
    shutil.move(nas, tmp_path / "nas2")
    report = run(tmp_path / "nas2", index)
    assert (report.moved, report.embedded, report.faces) == (32, 28, 60)
    assert paths_of(index) == below(tmp_path / "nas2")
    check_vectors(index)


# --- one folder by several names ------------------------------------------------------------------------------------


def test_a_linked_root_is_indexed_once(index: Path, nas: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(nas)
    report = run(tmp_path / "link", index)
    assert (report.embedded, report.unread, report.faces) == (0, 31, 30)
    (nas / "00001.png").unlink()
    assert run(tmp_path / "link" / "", index).removed == 1
    assert run([nas, tmp_path / "link"], index).images == 30


@pytest.fixture
def mounted(nas: Path, tmp_path: Path) -> Iterator[Path]:
    """The same folder in another place."""
    place = tmp_path / "mounted"
    place.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "--bind", nas, place], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("part", [".", "more"])
def test_a_root_that_is_mounted_twice_is_indexed_once(index: Path, nas: Path, mounted: Path, part: str) -> None:
    report = run(mounted / part, index)
    assert (report.embedded, report.faces) == (0, 30)
    (nas / "more" / "00021.png").unlink()
    assert run(mounted / part, index).removed == 1
    assert paths_of(index) == below(nas)


def test_a_mount_above_what_is_known(tmp_path: Path, mounted: Path, nas: Path, counted: Counted) -> None:
    """One folder is in the index, and the other place shows that and more."""
    index = tmp_path / "q.faiss"
    run(nas / "more", index)
    report = run(mounted, index)
    assert (report.unread, report.faces, report.embedded) == (10, 30, 21)
    assert paths_of(index) == below(nas)


def test_a_mount_below_a_new_root(index: Path, mounted: Path, nas: Path, tmp_path: Path) -> None:
    """What is one file is in the index once, and it is said."""
    lines: list[str] = []
    picture(tmp_path / "q" / "new.png", 999)
    (tmp_path / "q" / "link").symlink_to(mounted)
    report = run(tmp_path / "q", index, notice=lines.append)
    assert (report.aliases, report.embedded, report.faces, report.copies) == (31, 1, 31, 0)
    assert any("31 photos are in the index under another path of the same file" in line for line in lines)


def test_hard_links_are_photos_of_their_own(index: Path, nas: Path) -> None:
    os.link(nas / "00001.png", nas / "twin.png")
    report = run(nas, index)
    assert (report.copies, report.aliases, report.faces) == (1, 0, 31)


# --- what cannot be read now ----------------------------------------------------------------------------------------


def test_touched_photos_that_cannot_be_read_stay(index: Path, nas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.engine.index import recognise as module
    from faceembed.errors import PhotoError

    def refusing(path: str) -> bytes:
        raise PhotoError("read", "Permission denied")

    lines: list[str] = []
    for path in map(Path, below(nas)):
        path.chmod(0o000)
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_file", refusing)
        report = run(nas, index, notice=lines.append)
    assert (report.faces, report.removed, report.embedded) == (30, 0, 0)
    assert any("30 photos may have changed and cannot be read now" in line for line in lines)


# --- indexes of the version before ----------------------------------------------------------------------------------

OLD = {".parquet": ".faiss.parquet", ".json": ".faiss.json", ".errors.csv": ".faiss.errors.csv"}


def as_before(index: Path) -> None:
    """Give an index the names, columns and fields that the version before wrote."""
    for old, new in OLD.items():
        index.with_suffix(new).rename(index.with_suffix(old))
    table = pq.read_table(index.with_suffix(".parquet")).drop_columns(["ctime_ns", "digest"])
    pq.write_table(table, index.with_suffix(".parquet"))
    with open(index.with_suffix(".errors.csv"), newline="") as file:
        rows = [row[:5] for row in csv.reader(file)]
    with open(index.with_suffix(".errors.csv"), "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    manifest = json.loads(index.with_suffix(".json").read_text())
    del manifest["selections"]
    index.with_suffix(".json").write_text(json.dumps(manifest))


def test_an_index_of_the_version_before(index: Path, nas: Path, counted: Counted) -> None:
    as_before(index)
    assert len(FaceIndex(index)) == 30  # reading changes nothing
    assert index.with_suffix(".json").exists()
    lines: list[str] = []
    before, vectors = ids_of(index), faces_of(index).vectors
    report = run(nas, index, notice=lines.append)
    assert (report.embedded, report.removed, report.faces, report.unread) == (0, 0, 30, 31)
    assert any("31 photos were embedded by an older version, which kept no hash" in line for line in lines)
    assert ids_of(index) == before
    np.testing.assert_array_equal(faces_of(index).vectors, vectors)
    names = sorted(path.name for path in index.parent.glob("p.*"))
    assert names == ["p.faiss", "p.faiss.errors.csv", "p.faiss.json", "p.faiss.parquet"]
    assert run(nas, index, check=True).embedded == 0
    assert all(photo.digest for photo in faces_of(index).photos())
    shutil.move(nas, nas.with_name("nas2"))
    assert run(nas.with_name("nas2"), index).moved == 31
    check_vectors(index)


def test_an_index_of_the_version_before_by_a_link(index: Path, nas: Path, tmp_path: Path) -> None:
    """It was made by way of a link, which roots no longer keep: the files are the same ones."""
    (tmp_path / "link").symlink_to(nas)
    as_before(index)
    table = pq.read_table(index.with_suffix(".parquet"))
    paths = [path.replace(str(nas), str(tmp_path / "link")) for path in table.column("path").to_pylist()]
    pq.write_table(table.set_column(1, "path", [paths]), index.with_suffix(".parquet"))
    errors = index.with_suffix(".errors.csv")
    errors.write_text(errors.read_text().replace(str(nas), str(tmp_path / "link")))
    report = run(tmp_path / "link", index)
    assert (report.embedded, report.moved, report.faces) == (0, 31, 30)
    assert paths_of(index) == below(nas)


def test_an_unfinished_run_of_the_version_before(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceembed.engine.verbs import embed as module

    monkeypatch.setattr(module, "SHARD", 16)
    nas, index = album(tmp_path / "nas", 40), tmp_path / "p.faiss"

    def stop(at: Any) -> None:
        if at.done >= 33:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(nas, index, progress=stop)
    partial = index.with_suffix(".partial")
    index.with_suffix(".faiss.partial").rename(partial)
    for path in partial.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["ctime_ns", "digest"]), path)
    counted.photos = 0
    assert run(nas, index).faces == 40
    assert counted.photos == 8
    assert not partial.exists()


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_killed_while_the_files_get_their_new_names(
    index: Path, nas: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, counted: Counted
) -> None:
    as_before(index)
    replace, left = os.replace, killed_at

    def dying(source: Any, target: Any) -> None:
        nonlocal left
        if str(target).startswith(str(index)):
            left -= 1
            if left <= 0:
                raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            run(nas, index)
    assert len(FaceIndex(index)) == 30
    assert run(nas, index).faces == 30
    assert counted.photos == 0


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "p.parquet": lambda path: pq.write_table(pq.read_table(path.with_name("p.faiss.parquet")).select(["path"]), path),
    "p.json": lambda path: path.write_text('{"format": "mine"}'),
    "p.errors.csv": lambda path: path.write_text("error,line\n"),
    "p.vectors.npy": lambda path: np.save(path, np.zeros(3)),
    "p.partial": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("fresh", [False, True])
def test_files_of_others_beside_an_index(index: Path, nas: Path, fresh: bool) -> None:
    """Whatever is called as older versions called their files, and is none, stays."""
    for name, make in FOREIGN.items():
        make(index.with_name(name))
    before = {name: index.with_name(name).read_bytes() for name in FOREIGN if index.with_name(name).is_file()}
    picture(nas / "new.png", 4321)
    assert run(nas, index, fresh=fresh).faces == 31
    assert len(FaceIndex(index)) == 31
    assert {name: index.with_name(name).read_bytes() for name in before} == before
    assert index.with_name("p.partial").is_dir()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_faiss_file_of_somebody_else(tmp_path: Path, nas: Path, fresh: bool) -> None:
    index = tmp_path / "team.faiss"
    index.write_bytes(b"IxFI and so on")
    (tmp_path / "team.json").write_text('{"team": ["a", "b"]}')
    with pytest.raises(UsageError, match=r"team\.faiss is there without its team\.faiss\.json.*not replaced"):
        run(nas, index, fresh=fresh)
    assert index.read_bytes() == b"IxFI and so on"
    assert IndexFiles.of(index).old is False
