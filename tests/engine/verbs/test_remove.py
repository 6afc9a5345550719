"""What is taken out of an index is gone from every file of it, at once, and does not come back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.index.clusters.output import read_clusters
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import FaceIndex
from faceembed.engine.verbs import embed as module
from faceembed.engine.verbs.cluster import ClusterSettings, cluster
from faceembed.engine.verbs.remove import remove
from faceembed.errors import DataError, IndexBusyError, IndexFormatError, UsageError
from tests.engine.verbs.albums import (
    Counted,
    album,
    faces_of,
    failures_of,
    ids_of,
    paths_of,
    picture,
    run,
    state_of,
)

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = album(tmp_path / "nas", 20)
    return album(folder / "jane", 4, first=50).parent


def files_with(folder: Path, data: bytes) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and data in path.read_bytes())


@pytest.mark.parametrize("kind", ["flat", "SQ8", "hnsw", "IVF2,Flat"])
@pytest.mark.parametrize("what", ["nas/00003.png", "nas/jane", "gone"])
def test_no_byte_is_left(nas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, what: str) -> None:
    """Not in the index, nor in the exact vectors of a lossy one, nor in an unfinished run."""
    monkeypatch.setattr(module, "SHARD", 16)
    out = tmp_path / "out"
    index = out / "p.faiss"
    run(nas, index, index_type=kind)
    album(nas / "jane", 16, first=100)

    def stop(at: Any) -> None:
        if at.done > 24 + 16:
            raise InterruptedError

    album(nas / "late", 20, first=200)
    with pytest.raises(InterruptedError):
        run(nas, index, progress=stop)
    table = faces_of(index)
    chosen = "nas/00003.png" if what == "gone" else what
    rows = [row for row, photo in enumerate(table.photos()) if photo.path.startswith(str(tmp_path / chosen))]
    assert len(rows) == (4 if what == "nas/jane" else 1)
    vectors = [table.vectors[row].tobytes() for row in rows]
    late = [faces_of_photo(path) for path in sorted((nas / "jane").iterdir())[4:]] if what == "nas/jane" else []
    for vector in vectors:
        assert files_with(out, vector) == (["p.faiss.vectors.npy"] if kind == "SQ8" else ["p.faiss"])
    assert not late or all("00000000.parquet" in files_with(out, vector) for vector in late)
    if what == "gone":
        (nas / "00003.png").unlink()
    report = remove(index, [tmp_path / chosen])
    assert report.faces == len(rows) + len(late)
    assert report.on_disk == (0 if what == "gone" else report.photos)
    for vector in vectors + late:
        assert files_with(tmp_path, vector) == []
    assert len(FaceIndex(index)) == report.left == 24 + 16 - report.faces
    assert not [path for path in paths_of(index) if path.startswith(str(tmp_path / chosen))]
    assert json.loads(Path(f"{index}.json").read_text())["index"] == kind


def faces_of_photo(path: Path) -> bytes:
    """The vector that the pipeline gives for a photo, from an index of it alone."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run(path, Path(folder) / "one.faiss")
        return faces_of(Path(folder) / "one.faiss").vectors[0].tobytes()


def test_it_does_not_come_back(nas: Path, tmp_path: Path, counted: Counted) -> None:
    """Though its photos are still there, touched, moved or copied; a fresh start takes them in again."""
    index = tmp_path / "p.faiss"
    run(nas, index)
    counted.photos = 0
    assert remove(index, [nas / "jane"]).on_disk == 4
    assert failures_of(index) == dict.fromkeys(["00050.png", "00051.png", "00052.png", "00053.png"], "removed")
    assert run(nas, index).faces == 20
    os.utime(nas / "jane" / "00050.png", ns=(5, 5))
    (nas / "jane" / "00051.png").rename(nas / "moved.png")
    report = run(nas, index)
    assert (report.faces, report.failed, report.no_face, counted.photos) == (20, 0, 0, 0)
    picture(nas / "jane" / "00052.png", 4711)  # another photo
    assert run(nas, index).faces == 21
    assert run(nas, index, fresh=True).faces == 24


@pytest.mark.parametrize("harm", ["emptied", "deleted", "and the description is damaged"])
def test_it_does_not_come_back_without_the_errors_file(nas: Path, tmp_path: Path, harm: str) -> None:
    """That looks like a log, which anybody may empty."""
    index = tmp_path / "p.faiss"
    run(nas, index)
    remove(index, [nas / "jane"])
    errors = Path(f"{index}.errors.csv")
    errors.unlink() if harm == "deleted" else errors.write_bytes(b"")
    if harm.startswith("and"):
        Path(f"{index}.json").write_bytes(b"")
    os.utime(nas / "jane" / "00051.png", ns=(7, 7))
    shutil.copy(nas / "jane" / "00052.png", nas / "copy.png")
    picture(nas / "new.png", 900)
    for faces in (21, 21):
        assert run(nas, index).faces == faces
    assert set(failures_of(index).values()) == {"removed"} and len(failures_of(index)) == 5
    assert run(nas, index, fresh=True).faces == 26


@pytest.mark.parametrize("harm", ["emptied", "deleted"])
def test_a_run_that_finds_nothing_new_sees_that_the_vectors_are_gone(nas: Path, tmp_path: Path, harm: str) -> None:
    index = tmp_path / "p.faiss"
    run(nas, index)
    index.unlink() if harm == "deleted" else index.write_bytes(b"")
    with pytest.raises(
        IndexFormatError, match=r"p\.faiss cannot be read \((it is empty|No such file or directory)\); .*--fresh"
    ):
        run(nas, index)
    assert run(nas, index, fresh=True).faces == 24


def test_a_person(nas: Path, tmp_path: Path) -> None:
    """Out of the clusters and the links as well."""
    index, clusters, links = tmp_path / "p.faiss", tmp_path / "who.parquet", tmp_path / "by-person"
    run(nas, index)
    cluster(index, clusters, settings=ClusterSettings(threshold=0.999, duplicates=False, least_faces=1), links=links)
    rows, _ = read_clusters(clusters)
    number, face = rows.column("cluster").to_pylist()[3], rows.column("face_id").to_pylist()[3]
    vector = faces_of(index).vectors[3].tobytes()
    report = remove(index, [f"person-{number:06d}"])
    assert (report.faces, report.links, report.clusters) == (1, 1, [str(clusters)])
    assert files_with(tmp_path, vector) == []
    assert face not in read_clusters(clusters)[0].column("face_id").to_pylist()
    assert face not in ids_of(index).values()
    assert not list(links.glob(f"*/{face}-*"))
    with pytest.raises(DataError, match="nobody of that number"):
        remove(index, [f"person-{number:06d}"])


def test_people_want_one_file_of_clusters(nas: Path, tmp_path: Path) -> None:
    index = tmp_path / "p.faiss"
    run(nas, index)
    before = state_of(tmp_path)
    with pytest.raises(UsageError, match="none is known to the index"):
        remove(index, ["person-000001"])
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("words", [["nix.jpg"], ["nas/00001.png", "nix.jpg"], ["nas/0000"]])
def test_a_name_that_is_not_there_changes_nothing(
    nas: Path, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "p.faiss"
    run(nas, index)
    before = state_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no photo of that name .* nothing was changed"):
        remove(index, words)
    assert state_of(tmp_path) == before


def test_no_index(tmp_path: Path) -> None:
    for name in ("p.faiss", "none/p.faiss"):
        with pytest.raises(DataError, match="no index at"):
            remove(tmp_path / name, ["x"])


def test_what_is_left_is_too_little_for_its_kind(nas: Path, tmp_path: Path) -> None:
    """Taking out always works: the kind gives way, and it is said."""
    index, lines = tmp_path / "p.faiss", []
    run(nas, index, index_type="IVF20,Flat")
    remove(index, [nas / "jane", nas / "00001.png"], notice=lines.append)
    assert any("flat one from now on" in line for line in lines)
    assert len(FaceIndex(index)) == 19
    assert remove(index, [nas]).left == 0
    assert len(FaceIndex(index)) == 0


def test_while_a_run_writes(nas: Path, tmp_path: Path) -> None:
    from faceembed.engine.index.lock import writing

    index = tmp_path / "p.faiss"
    run(nas, index)
    with writing(index), pytest.raises(IndexBusyError):
        remove(index, [nas])


def test_ten_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made vectors: a hundred of ten thousand go, and all others stay what they were."""
    import pyarrow as pa

    from faceembed.engine.index.shards import FaceTable
    from faceembed.engine.index.store import write_index
    from faceembed.engine.photos.rows import FACE_SCHEMA

    count, rng = 10_000, np.random.default_rng(0)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = {
        field.name: pa.array([0] * count).cast(field.type)
        for field in FACE_SCHEMA
        if field.type != pa.list_(pa.float32(), 10)
    }
    columns["landmarks"] = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(10 * count, np.float32)), 10)
    columns["face_id"] = pa.array(range(count))
    columns["path"] = pa.array([f"/nas/{n % 100:02d}/{n}.jpg" for n in range(count)])
    columns["size"] = pa.array([1] * count)
    rows = pa.table([columns[name] for name in FACE_SCHEMA.names], schema=FACE_SCHEMA)
    manifest = {
        "encoder": {"name": "e", "sha256": "0"},
        "dimension": 8,
        "faces": count,
        "no_face": 0,
        "failed": 0,
        "next_face_id": count,
    }
    index = tmp_path / "p.faiss"
    write_index(IndexFiles.of(index), FaceTable(rows, vectors), [], {**manifest, "index": "flat"}, "flat")
    report = remove(index, ["/nas/07"])
    assert (report.faces, report.left, report.on_disk) == (100, 9_900, 0)
    kept = [n for n in range(count) if n % 100 != 7]
    np.testing.assert_array_equal(faces_of(index).vectors, vectors[kept])
    assert not any(files_with(tmp_path, vectors[n].tobytes()) for n in (7, 107, 9_907))
