"""A run that is killed, interrupted or out of disk loses at most the shard it was in, and the next one ends as if nothing had been."""

from __future__ import annotations

import _thread
import contextlib
import copy
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from faceembed import files as writing
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import VECTOR_ID, FaceIndex
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.progress import Progress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs import embed as module
from faceembed.engine.verbs.embed import EmbedReport, embed
from faceembed.engine.verbs.remove import remove
from faceembed.errors import IndexFormatError

MakeFaces = Callable[[Path, int], list[Path]]
SHARD = 8
PHOTOS = 30

# `embed` in a process of its own with small shards; it says how far it is, and slows down so that a kill can hit it.
DRIVER = """
import sys, time
from faceembed.engine.verbs import embed as module
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.pipeline.settings import EmbedSettings
module.SHARD = int(sys.argv[3])
def progress(at):
    print(at.done, flush=True)
    time.sleep(0.05)
settings = EmbedSettings(batch_size=4, runtime=RuntimeSettings(precision="fp32", threads=2))
module.embed(sys.argv[1], sys.argv[2], settings=settings, progress=progress)
"""


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    """Small shards; and each photo is taken whole for a face and averaged, as the networks have no part in this."""
    monkeypatch.setattr(module, "SHARD", SHARD)
    encoder = copy.copy(pipeline.encoder)
    matrix = np.random.default_rng(0).normal(size=(3 * 100, 128))

    def encode(chips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        colours = chips.reshape(-1, 10, 15, 10, 15, 3).mean(axis=(2, 4)).reshape(-1, 300)
        vectors = np.stack([row @ matrix for row in colours - 127.5]) if len(chips) else np.zeros((0, 128))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / norms).astype(np.float32), norms[:, 0].astype(np.float32)

    monkeypatch.setattr(encoder, "encode", encode)

    def open_pipeline(settings: EmbedSettings, *_: object, **__: object) -> Pipeline:
        return Pipeline(settings, None, encoder, workers=2)

    monkeypatch.setattr(loading, "open_pipeline", open_pipeline)


def run(photos: Path, index: Path, **options: Any) -> EmbedReport:
    return embed(photos, index, settings=EmbedSettings(batch_size=4), **options)


def contents(index: Path) -> tuple[list[dict[str, Any]], bytes, str]:
    """Rows, vectors in their order, and errors."""
    rows = pq.read_table(index.with_suffix(".faiss.parquet")).to_pylist()
    store = faiss.read_index(str(index))
    vectors = [store.reconstruct(row[VECTOR_ID]) for row in rows]
    return rows, np.array(vectors, np.float32).tobytes(), index.with_suffix(".faiss.errors.csv").read_text()


@pytest.fixture
def album(tmp_path: Path, make_faces: MakeFaces) -> Path:
    """Thirty photos, three of them bad, in four shards."""
    folder = tmp_path / "album"
    paths = make_faces(folder, PHOTOS)
    for number in (3, 15, 29):
        paths[number].write_bytes(b"")
    return folder


@pytest.fixture
def whole(album: Path, tmp_path: Path) -> tuple[list[dict[str, Any]], bytes, str]:
    """What a run leaves that nobody disturbed."""
    run(album, tmp_path / "whole.faiss")
    return contents(tmp_path / "whole.faiss")


class Stop(Exception):
    """Ends a run from its progress callback, as Ctrl-C would."""


def stop_after(photos: int) -> Callable[[Progress], None]:
    def progress(at: Progress) -> None:
        if at.done >= photos:
            raise Stop

    return progress


@pytest.mark.parametrize("kill_at", [12, 24])
def test_kill_9_then_resume_equals_an_undisturbed_run(
    album: Path, tmp_path: Path, reuse_pipeline: Pipeline, kill_at: int
) -> None:
    index = tmp_path / "people.faiss"
    run(album, tmp_path / "whole.faiss")
    command = [sys.executable, "-c", DRIVER, str(album), str(index), str(SHARD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    assert not index.exists()
    second = run(album, index)
    assert kill_at - second.skipped <= SHARD
    assert second.skipped % SHARD == 0
    assert second.skipped > 0
    assert second.embedded == PHOTOS - second.skipped
    assert contents(index) == contents(tmp_path / "whole.faiss")
    assert not index.with_suffix(".faiss.partial").exists()


@pytest.mark.parametrize("stop_at", [1, SHARD - 1, SHARD, SHARD + 1, 2 * SHARD, PHOTOS])
def test_interrupted_anywhere_then_resumed(album: Path, tmp_path: Path, whole: tuple[Any, ...], stop_at: int) -> None:
    index = tmp_path / "people.faiss"
    threads = threading.active_count()
    with pytest.raises(Stop):
        run(album, index, progress=stop_after(stop_at))
    assert threading.active_count() == threads
    assert not index.exists()
    assert run(album, index).skipped == stop_at - stop_at % SHARD - (SHARD if stop_at % SHARD == 0 else 0)
    assert contents(index) == whole


def test_interrupted_again_and_again(album: Path, tmp_path: Path, whole: tuple[Any, ...]) -> None:
    index = tmp_path / "people.faiss"
    for done in (10, 20, 28):
        with pytest.raises(Stop):
            run(album, index, progress=stop_after(done))
    assert run(album, index).skipped == 3 * SHARD
    assert contents(index) == whole


def test_ctrl_c_while_waiting_ends_the_threads(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not a signal of the system: one that reaches this process late in the whole set of tests kills it before Python's
    # handler runs (the kernel finds no room for its frame). The command line's test sends a real one to a process of its own.
    process = Pipeline._process  # type: ignore[attr-defined]
    once = threading.Lock()

    def slow(self: Pipeline, *args: Any) -> Any:
        if once.acquire(blocking=False):
            _thread.interrupt_main()
        time.sleep(0.2)
        return process(self, *args)

    monkeypatch.setattr(Pipeline, "_process", slow)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(album, tmp_path / "people.faiss")
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_photos_that_change_while_a_run_is_interrupted(album: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    """Of the finished shard one photo changes, one goes; of the rest one changes, one goes; and one is new."""
    index = tmp_path / "people.faiss"
    with pytest.raises(Stop):
        run(album, index, progress=stop_after(2 * SHARD + 1))
    others = make_faces(tmp_path / "other", 40)
    for number, replacement in ((2, 35), (20, 36), (50, 37)):
        shutil.copy(others[replacement], album / f"{number:04d}.jpg")
    (album / "0005.jpg").unlink()
    (album / "0021.jpg").unlink()
    report = run(album, index)
    assert report.skipped == 2 * SHARD - 2
    clean = tmp_path / "clean.faiss"
    run(album, clean)
    assert_same_faces(index, clean)
    assert report.faces + report.no_face + report.failed == report.images


def assert_same_faces(index: Path, other: Path) -> None:
    """The same photos with the same stamps and embeddings, each once, in whatever order."""
    (rows_a, data_a, errors_a), (rows_b, data_b, errors_b) = contents(index), contents(other)
    vectors_a, vectors_b = (np.frombuffer(data, np.float32).reshape(-1, 128) for data in (data_a, data_b))
    keys = ("path", "face", "size", "mtime_ns")
    a = {tuple(row[key] for key in keys): vector for row, vector in zip(rows_a, vectors_a, strict=True)}
    b = {tuple(row[key] for key in keys): vector for row, vector in zip(rows_b, vectors_b, strict=True)}
    assert len(a) == len(rows_a)
    assert a.keys() == b.keys()
    for key, vector in a.items():
        assert vector @ b[key] == pytest.approx(1, abs=1e-5)
    assert sorted(errors_a.splitlines()) == sorted(errors_b.splitlines())


def test_a_photo_that_changes_to_and_fro_is_there_once(album: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    index, photo = tmp_path / "people.faiss", album / "0001.jpg"
    run(album, index)
    first = photo.read_bytes(), photo.stat().st_mtime_ns
    shutil.copy(album / "0002.jpg", photo)
    os.utime(album / "0009.jpg", ns=(5, 5))
    others = make_faces(tmp_path / "other", 60)
    with pytest.raises(Stop):  # the changed photo is in a finished shard
        for number in range(10, 20):
            shutil.copy(others[number + 40], album / f"{number:04d}.jpg")
        run(album, index, progress=stop_after(SHARD + 1))
    photo.write_bytes(first[0])
    os.utime(photo, ns=(first[1], first[1]))
    run(album, index)
    clean = tmp_path / "clean.faiss"
    run(album, clean)
    assert_same_faces(index, clean)


def test_an_interrupted_update_keeps_the_old_index(album: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    run(album, index)
    before = contents(index)
    for path in make_faces(tmp_path / "other", 60)[40:]:
        shutil.copy(path, album / f"new-{path.name}")
    with pytest.raises(Stop):
        run(album, index, progress=stop_after(PHOTOS + SHARD + 2))
    assert contents(index) == before
    assert len(FaceIndex(index)) == PHOTOS - 3
    report = run(album, index)
    assert (report.skipped, report.faces) == (PHOTOS + SHARD, PHOTOS + 20 - 3)
    rows = contents(index)[0]
    assert rows[: len(before[0])] == before[0]


def test_other_settings_do_not_resume(album: Path, tmp_path: Path, whole: tuple[Any, ...]) -> None:
    index = tmp_path / "people.faiss"
    with pytest.raises(Stop):
        run(album, index, progress=stop_after(SHARD + 1))
    with pytest.raises(IndexFormatError, match=r"unfinished run with another choice_of_faces .*--fresh"):
        embed(album, index, settings=EmbedSettings(faces="all"))
    report = run(album, index, fresh=True)
    assert report.skipped == 0
    assert contents(index) == whole


def test_another_folder_joins_an_interrupted_run(album: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    index = tmp_path / "people.faiss"
    with pytest.raises(Stop):
        run(album, index, progress=stop_after(SHARD + 1))
    make_faces(tmp_path / "other", 3)
    report = run(tmp_path / "other", index)
    assert report.faces == 3 + SHARD - 1  # what was finished is kept
    assert run(album, index).faces == 3 + PHOTOS - 3


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", range(1, 14))
def test_full_disk_at_every_write(
    album: Path, tmp_path: Path, whole: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The n-th file that is written meets a full disk: one error, finished shards stay, the next run completes."""
    index = tmp_path / "people.faiss"
    left = call

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "fsync", fsync)
        try:
            run(album, index)
            failed = False
        except OSError as error:
            assert error.errno == errno.ENOSPC
            failed = True
    assert failed == (call <= 10)  # settings, four shards, four files, the marker
    shards = len(list(index.with_suffix(".faiss.partial").glob("0*.parquet")))
    assert not list(tmp_path.rglob("*.tmp"))
    report = run(album, index)
    assert report.skipped == (min(SHARD * shards, PHOTOS) if failed else PHOTOS)
    assert shards == (min(max(call - 2, 0), 4) if failed else 0)
    assert contents(index) == whole


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_really_full_disk(album: Path, tmp_path: Path, whole: tuple[Any, ...], tiny_disk: Path) -> None:
    index = tiny_disk / "people.faiss"
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(album, index)
    assert caught.value.errno == errno.ENOSPC
    assert len(list(index.with_suffix(".faiss.partial").glob("0*.parquet"))) >= 1
    subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    assert run(album, index).skipped >= SHARD
    assert contents(index) == whole


# --- killed while the new files take the place of the old -----------------------------------------------------------


@pytest.mark.parametrize("call", range(1, 11))
@pytest.mark.parametrize("kind", ["flat", "SQ8"])
def test_killed_at_every_step_of_the_exchange(
    album: Path, tmp_path: Path, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch, call: int, kind: str
) -> None:
    """An index is updated, and the n-th rename never happens: what is found afterwards is the old index or the new one."""
    index = tmp_path / "people.faiss"
    run(album, index, index_type="SQ8" if kind == "flat" else "flat")  # the set of files changes, too
    old = contents(index)
    shutil.copy(album / "0000.jpg", album / "new.jpg")
    replace, left = os.replace, call

    def dying(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Stop
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with contextlib.suppress(Stop):
            run(album, index, index_type=kind)
    died = left <= 0
    assert IndexFiles.of(index).recover().faiss == index
    rows = contents(index)[0]
    assert len(rows) in (len(old[0]), len(old[0]) + 1)
    assert len(FaceIndex(index)) == len(rows)
    run(album, index, index_type=kind)
    assert len(contents(index)[0]) == len(old[0]) + 1
    assert index.with_suffix(".faiss.vectors.npy").exists() == (kind == "SQ8")
    assert sorted(path.name for path in tmp_path.glob("people.*") if path.is_dir()) == []
    assert died or call > 8


def test_leftovers_of_a_killed_write_do_not_join_the_next(album: Path, tmp_path: Path) -> None:
    """Vectors that a killed run had staged are not those of the run after it."""
    index = tmp_path / "people.faiss"
    run(album, index)
    partial = index.with_suffix(".faiss.partial")
    partial.mkdir()
    np.save(partial / "new.npy", np.zeros((PHOTOS - 3, 128), np.float32))
    (partial / "new.faiss").write_bytes(b"half")
    shutil.copy(album / "0000.jpg", album / "new.jpg")
    run(album, index)
    assert not index.with_suffix(".faiss.vectors.npy").exists()
    clean = tmp_path / "clean.faiss"
    run(album, clean)
    assert_same_faces(index, clean)


# --- damaged files --------------------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) * 2 // 3],
    "text": lambda data: b"not what it was\n" * 20,
    "begins badly": lambda data: bytes(64) + data[64:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", [".faiss", ".parquet", ".json", ".vectors.npy", ".errors.csv"])
def test_damaged_file_is_one_clear_error(album: Path, tmp_path: Path, suffix: str, damage: str) -> None:
    index = tmp_path / "people.faiss"
    run(album, index, index_type="SQ8")
    path = index if suffix == ".faiss" else Path(f"{index}{suffix}")
    if suffix == ".json":  # as versions before wrote the table, without a copy of it
        table = f"{index}.parquet"
        pq.write_table(pq.read_table(table).replace_schema_metadata(None), table)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    (album / "0000.jpg").unlink()
    if (suffix, damage) in ((".errors.csv", "empty"), (".errors.csv", "cut")):
        # A CSV file may be cut at a row's end and be sound: those photos are looked at again.
        with contextlib.suppress(IndexFormatError):
            assert run(album, index).faces == PHOTOS - 4
        return
    with pytest.raises(
        IndexFormatError, match=rf"people\.faiss{re.escape(suffix.removeprefix('.faiss'))} .*--fresh"
    ) as caught:
        run(album, index)
    assert "\n" not in str(caught.value)
    if suffix in (".faiss", ".parquet", ".json"):
        with pytest.raises(IndexFormatError, match=rf"people\.faiss{re.escape(suffix.removeprefix('.faiss'))}"):
            FaceIndex(index)
    assert run(album, index, fresh=True).faces == PHOTOS - 4


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_description_is_read_from_its_copy(album: Path, tmp_path: Path, damage: str) -> None:
    index = tmp_path / "people.faiss"
    run(album, index, index_type="SQ8")
    path = Path(f"{index}.json")
    sound = path.read_bytes()
    path.write_bytes(DAMAGE[damage](sound))
    said: list[str] = []
    assert len(FaceIndex(index, notice=said.append)) == PHOTOS - 3
    (line,) = said
    assert line.startswith(f"{path} is damaged (") and "read from the copy in people.faiss.parquet" in line
    assert path.read_bytes() == DAMAGE[damage](sound)  # a reader changes nothing
    report = run(album, index, notice=said.append)  # nothing new, and yet it is mended
    assert (report.embedded, report.faces) == (0, PHOTOS - 3)
    assert sum("written anew from the copy" in line for line in said) == 1
    mended = json.loads(path.read_bytes())
    assert mended.pop("derived") == {"forgotten": [path.name]}
    assert mended == {name: value for name, value in json.loads(sound).items() if name != "derived"}
    path.write_bytes(b"")
    removed = remove(index, [album / "0000.jpg"], notice=said.append)
    assert said[-1].startswith(
        "people.faiss.json was damaged once: name clusters that were made before with --clusters"
    )
    assert removed.left == len(FaceIndex(index)) == PHOTOS - 4
    assert json.loads(path.read_bytes())["faces"] == PHOTOS - 4
    path.write_bytes(b"")
    assert len(FaceIndex(index)) == PHOTOS - 4  # the copy went on with the index


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["00000000.parquet", "settings.json"])
def test_damaged_shard_is_one_clear_error(album: Path, tmp_path: Path, name: str, damage: str) -> None:
    index = tmp_path / "people.faiss"
    with pytest.raises(Stop):
        run(album, index, progress=stop_after(2 * SHARD + 1))
    path = index.with_suffix(".faiss.partial") / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(IndexFormatError, match=rf"people\.faiss\.partial/{name} ") as caught:
        run(album, index)
    assert "\n" not in str(caught.value)
    if name.endswith("parquet"):
        path.unlink()  # as the message says
        assert run(album, index).skipped == SHARD
    else:
        run(album, index, fresh=True)
    assert len(FaceIndex(index)) == PHOTOS - 3


def test_files_of_two_indexes_are_not_mixed(album: Path, tmp_path: Path, make_faces: MakeFaces) -> None:
    one, two = tmp_path / "one.faiss", tmp_path / "two.faiss"
    run(album, one)
    run(album, two)
    others = make_faces(tmp_path / "other", 42)
    shutil.copy(others[40], album / "0000.jpg")
    run(album, two)  # as many faces, another id
    shutil.copy(two, one)
    with pytest.raises(IndexFormatError, match="do not belong together"):
        FaceIndex(one)
    shutil.copy(others[41], album / "0001.jpg")
    with pytest.raises(IndexFormatError, match="hold other faces"):
        run(album, one)
