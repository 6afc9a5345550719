"""Datasets: rows and errors are the photos, whatever is killed, changed or lost; and what is done is not done again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from faceembed.engine.distribute import plan as planning
from faceembed.engine.distribute import worker as working
from faceembed.engine.distribute.dataset import embeddings_of, read_footer, sample_of
from faceembed.engine.distribute.lease import leased
from faceembed.engine.distribute.plan import Tasks, members, read_plan, write_plan
from faceembed.engine.distribute.store import Access, Store, filesystem_of
from faceembed.engine.photos.photo_file import PhotoFile, decode_path
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed_dataset import DatasetReport, embed_dataset
from faceembed.engine.verbs.status import status
from faceembed.errors import DataError, IndexBusyError, IndexFormatError, LossError, UsageError
from tests.engine.verbs.albums import Counted, album, picture, without_networks

COUNT = 60


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_LEAST", 5)
    monkeypatch.setattr(planning, "_MOST", 15)
    monkeypatch.setattr(planning, "SHARD", 10)
    monkeypatch.setattr(planning, "_PER_FILE", 3)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """How many pipelines were opened: the gate's photos are all that it is given."""
    return without_networks(monkeypatch)


def run(photos: Any, output: Path | str, **options: Any) -> DatasetReport:
    return embed_dataset(photos, str(output), settings=EmbedSettings(aligner="none", batch_size=4), **options)


def rows_of(output: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Photo to embedding, and photo to stage; each photo once."""
    faces: dict[str, np.ndarray] = {}
    for path in sorted((output / "shards").glob("*.parquet")):
        table = pq.read_table(path)
        vectors = embeddings_of(table)
        for name, vector in zip(table.column("path").to_pylist(), vectors, strict=True):
            assert name not in faces
            faces[name] = vector
    failed: dict[str, str] = {}
    for path in sorted((output / "errors").glob("*.parquet")):
        table = pq.read_table(path)
        for name, stage in zip(table.column("path").to_pylist(), table.column("stage").to_pylist(), strict=True):
            assert name not in failed
            failed[decode_path(name)] = stage
    return faces, failed


def test_rows_and_errors_are_the_photos(tmp_path: Path, counted: Counted) -> None:
    photos = album(tmp_path / "p", COUNT)
    (photos / "bad.jpg").write_bytes(b"no picture")
    report = run(photos, tmp_path / "d", dtype="float16")
    faces, failed = rows_of(tmp_path / "d")
    assert len(faces) == COUNT == report.faces and set(failed.values()) == {"decode"} and report.failed == 1
    assert all(abs(np.linalg.norm(vector) - 1) < 2e-3 for vector in faces.values())
    table = pq.read_table(next((tmp_path / "d" / "shards").glob("*.parquet")))
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat>[256]"
    assert len(sample_of(table.schema)) == min(32, len(table))
    ids = [
        i for path in (tmp_path / "d" / "shards").glob("*.parquet") for i in pq.read_table(path)["face_id"].to_pylist()
    ]
    assert len(set(ids)) == COUNT and min(ids) >= 0
    found = status(str(tmp_path / "d"))
    assert (found.photos, found.done, found.to_do, found.failed) == (COUNT + 1, COUNT + 1, 0, 1)


def test_the_same_vectors_as_in_an_index(tmp_path: Path, counted: Counted) -> None:
    from tests.engine.verbs.albums import faces_of
    from tests.engine.verbs.albums import run as embed_index

    photos = album(tmp_path / "p", 20)
    run(photos, tmp_path / "d")
    embed_index(photos, tmp_path / "x.faiss")
    table = faces_of(tmp_path / "x.faiss")
    faces, _ = rows_of(tmp_path / "d")
    for photo, vector in zip(table.photos(), table.vectors, strict=True):
        assert np.array_equal(faces[photo.path], vector)


def test_a_second_run_opens_no_model_and_a_change_costs_its_shard(tmp_path: Path, counted: Counted) -> None:
    photos = album(tmp_path / "p", COUNT)
    first = run(photos, tmp_path / "d")
    assert first.computed == first.shards > 3
    loaded = counted.photos
    again = run(photos, tmp_path / "d")
    assert (again.computed, again.embedded, again.skipped, counted.photos) == (0, 0, COUNT, loaded)
    (photos / "00031.png").unlink()
    picture(photos / "00012a.png", 999)
    changed = run(photos, tmp_path / "d")
    assert 1 <= changed.computed <= 5 < first.shards and changed.dropped >= 1
    assert set(rows_of(tmp_path / "d")[0]) == {str(path) for path in photos.iterdir()}


def test_a_killed_run_goes_on(tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty ends at as many places: whatever was put there is kept, and no photo is there twice or not at all."""
    photos = album(tmp_path / "p", COUNT)
    run(photos, tmp_path / "whole")
    wanted = rows_of(tmp_path / "whole")[0]
    real = Store.write
    rng = np.random.default_rng(0)
    for end in [*range(12), *rng.integers(0, 16, 8).tolist()]:
        writes = 0

        def write(self: Store, name: str, data: bytes, end: int = end) -> None:
            nonlocal writes
            writes += 1
            if writes > end:
                raise KeyboardInterrupt
            real(self, name, data)

        monkeypatch.setattr(Store, "write", write)
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "d")
        monkeypatch.setattr(Store, "write", real)
        there = len(list((tmp_path / "d" / "shards").glob("*.parquet"))) if end > 1 else 0
        report = run(photos, tmp_path / "d")
        assert report.computed == report.shards - there
        found = rows_of(tmp_path / "d")[0]
        assert found.keys() == wanted.keys() and all(np.array_equal(found[p], wanted[p]) for p in wanted)


def test_a_full_disk_is_an_error_and_loses_nothing(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = album(tmp_path / "p", 30)
    real = Store.write

    def write(self: Store, name: str, data: bytes) -> None:
        if name.startswith("shards/") and len(list((tmp_path / "d" / "shards").glob("*.parquet"))) >= 2:
            raise OSError(28, "No space left on device")
        real(self, name, data)

    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(OSError, match="No space left"):
        run(photos, tmp_path / "d")
    monkeypatch.setattr(Store, "write", real)
    assert run(photos, tmp_path / "d").faces == 30 == len(rows_of(tmp_path / "d")[0])


def test_a_shard_that_was_damaged_or_lost_is_made_again(tmp_path: Path, counted: Counted) -> None:
    photos = album(tmp_path / "p", COUNT)
    run(photos, tmp_path / "d")
    first, second, *_ = sorted((tmp_path / "d" / "shards").glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    assert read_footer(Store.of(str(tmp_path / "d")), first.stem) is None
    assert run(photos, tmp_path / "d").computed == 2
    assert len(rows_of(tmp_path / "d")[0]) == COUNT


def test_what_could_not_be_read_is_tried_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = album(tmp_path / "p", 12)
    hidden = photos / "00003.png"
    data = hidden.read_bytes()
    real = working.Worker.run

    def run_without(self: working.Worker, *args: Any, **options: Any) -> Iterator[working.Done]:
        hidden.unlink()
        yield from real(self, *args, **options)

    monkeypatch.setattr(working.Worker, "run", run_without)
    stamp = os.stat(hidden)
    assert run(photos, tmp_path / "d").failed == 1
    monkeypatch.setattr(working.Worker, "run", real)
    hidden.write_bytes(data)
    os.utime(hidden, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert run(photos, tmp_path / "d").failed == 0
    assert len(rows_of(tmp_path / "d")[0]) == 12


def test_two_drivers(tmp_path: Path, counted: Counted) -> None:
    photos = album(tmp_path / "p", 3)
    with leased(Store.of(str(tmp_path / "d"))), pytest.raises(IndexBusyError, match="is being written by process"):
        run(photos, tmp_path / "d")


def test_a_lease_on_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceembed.engine.distribute import lease

    monkeypatch.setattr(lease, "_SETTLED", 0.01)
    store = Store.of(str(tmp_path))
    store.local = False  # as an object store: nothing to lock
    with leased(store):
        assert json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()
        with pytest.raises(IndexBusyError), leased(store):
            raise AssertionError
    assert not (tmp_path / "lease.json").exists()
    monkeypatch.setattr(lease, "SECONDS", -1.0)
    lease._write(store, {"token": "killed"})  # its driver is gone, and its time is over
    with leased(store):
        pass


def test_refusals(tmp_path: Path, counted: Counted) -> None:
    photos = album(tmp_path / "p", COUNT)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"no dataset of ours and not empty \(it holds mine.txt\)"):
        run(photos, tmp_path / "full")
    run(photos, tmp_path / "d")
    with pytest.raises(IndexFormatError, match="was made with another choice_of_faces"):
        embed_dataset(str(photos), str(tmp_path / "d"), settings=EmbedSettings(aligner="none", faces="all"))
    for path in sorted(photos.iterdir())[:55]:
        path.unlink()
    with pytest.raises(LossError, match="holds 60 photos, and 5 are there now"):
        run(photos, tmp_path / "d")
    assert len(rows_of(tmp_path / "d")[0]) == COUNT
    assert run(photos, tmp_path / "d", prune=True).faces == 5
    (tmp_path / "d" / "manifest.json").write_text("{")
    with pytest.raises(IndexFormatError, match="is damaged"):
        run(photos, tmp_path / "d")
    assert run(photos, tmp_path / "d", fresh=True).computed > 0
    with pytest.raises(DataError, match="no dataset at"):
        status(str(tmp_path / "none"))
    with pytest.raises(
        DataError, match="s3://bucket/photos: photos are read from folders, files and archives of this machine"
    ):
        run("s3://bucket/photos", tmp_path / "e")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photos in"):
        run(tmp_path / "empty", tmp_path / "e")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ftp://host/x", "'ftp://' is not known here; give a path, or file://, s3://, gs://, hf://"),
        ("s3://", "names no bucket"),
        ("gs:///", "names no bucket"),
    ],
)
def test_addresses_that_are_none(address: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        filesystem_of(address, Access())
    with pytest.raises(UsageError, match="no address; write http"):
        filesystem_of("s3://bucket", Access(endpoint="localhost:9000"))


def test_a_plan_takes_no_memory_of_its_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 photos that are never in memory together; a shard takes 28 bytes."""
    import tracemalloc

    monkeypatch.undo()
    store = Store.of(str(tmp_path))
    photos = (PhotoFile(f"/p/{i // 1000:05d}/{i:08d}.jpg", i, i << 30) for i in range(200_000))
    tracemalloc.start()
    try:
        tasks = write_plan(store, photos, {"encoder": "e"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tasks.photos == 200_000 and 130 < len(tasks) < 400
    assert peak < 40 << 20  # a file of the plan, and no more
    again = read_plan(store, {"encoder": "e"})
    assert isinstance(again, Tasks) and [t.shard for t in again] == [t.shard for t in tasks]
    assert [t.shard for t in read_plan(store, {"encoder": "f"})] != [t.shard for t in tasks]
    start = sum(task.photos for task in tasks[:3])
    assert members(store, tasks[3])[0].path == f"/p/{start // 1000:05d}/{start:08d}.jpg"


def test_gate_photos_reach_the_node_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has no photo at hand measures its precision on those that the driver sends."""
    photos = album(tmp_path / "p", 10)
    seen: list[bytes] = []
    without_networks(monkeypatch)
    inner = loading.open_pipeline

    def open_pipeline(settings: EmbedSettings, models: loading.Models, given: list[PhotoFile], **options: Any) -> Any:
        seen.extend(Path(photo.path).read_bytes() for photo in given)
        assert all(not photo.path.startswith(str(photos)) and photo.size for photo in given)
        return inner(settings, models, given, **options)

    monkeypatch.setattr(loading, "open_pipeline", open_pipeline)
    run(photos, tmp_path / "d")
    assert sorted(seen) == sorted(path.read_bytes() for path in photos.iterdir())
