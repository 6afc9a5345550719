"""Vectors out and in: exact, in every format; foreign files read or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceembed.engine.index.store import FaceIndex
from faceembed.engine.verbs.vectors import export_vectors, import_vectors
from faceembed.errors import DataError, FaceEmbedError, IndexFormatError, UsageError
from tests.engine.verbs.albums import Counted, album, faces_of, run


@pytest.fixture
def index(tmp_path: Path, counted: Counted) -> Path:
    run(album(tmp_path / "photos", 9), tmp_path / "p.faiss")
    return tmp_path / "p.faiss"


def test_an_array(index: Path, tmp_path: Path) -> None:
    report = export_vectors(index, tmp_path / "v.npy")
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.dtype == np.float32 and np.array_equal(vectors, faces_of(index).vectors)
    about = json.loads((tmp_path / "v.npy.json").read_text())
    assert (about["faces"], about["dimension"], about["normalised"]) == (9, 256, True)
    assert about["encoder"]["name"] == report.encoder == "faceembed-r29"
    export_vectors(index, tmp_path / "v.npy")  # what we wrote may be written again


def test_a_table(index: Path, tmp_path: Path) -> None:
    export_vectors(index, tmp_path / "v.parquet")
    table = pq.read_table(tmp_path / "v.parquet")
    held = faces_of(index)
    assert table.drop_columns(["vector"]).equals(held.rows.replace_schema_metadata(None))
    assert np.array_equal(np.stack(table.column("vector").to_numpy()), held.vectors)


def test_a_dataset(index: Path, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    export_vectors(index, tmp_path / "v.lance")
    table = lance.dataset(str(tmp_path / "v.lance")).to_table()
    assert np.array_equal(np.stack(table.column("vector").to_numpy()), faces_of(index).vectors)
    with pytest.raises(UsageError, match=r"v.lance is there already"):
        export_vectors(index, tmp_path / "v.lance")


def test_exact_vectors_of_a_lossy_index(tmp_path: Path, counted: Counted) -> None:
    run(album(tmp_path / "photos", 60), tmp_path / "p.faiss", index_type="SQ8")
    export_vectors(tmp_path / "p.faiss", tmp_path / "v.npy")
    assert np.array_equal(np.load(tmp_path / "v.npy"), np.load(tmp_path / "p.faiss.vectors.npy"))


@pytest.mark.parametrize("name", ["v.npy", "v.parquet"])
def test_there_and_back(index: Path, tmp_path: Path, name: str) -> None:
    export_vectors(index, tmp_path / name)
    import_vectors(tmp_path / name, tmp_path / "back.faiss", encoder="faceembed-r29")
    back, held = faces_of(tmp_path / "back.faiss"), faces_of(index)
    assert np.allclose(back.vectors, held.vectors, atol=1e-6)
    opened, first = FaceIndex(tmp_path / "back.faiss"), FaceIndex(index)
    assert opened.manifest["encoder"] == first.manifest["encoder"]
    hits = opened.search(held.vectors[4:5], k=1)[0]
    assert hits[0].similarity == pytest.approx(1, abs=1e-5) and hits[0].face_id == 4
    if name.endswith(".parquet"):
        assert back.rows.column("path").equals(held.rows.column("path"))
        assert back.rows.column("norm").equals(held.rows.column("norm"))
        assert back.rows.column("score").equals(held.rows.column("score"))


def test_photos_are_not_embedded_into_imported_vectors(index: Path, tmp_path: Path) -> None:
    """They may be of other settings, which nobody knows; the line says that and not which of them is missing."""
    export_vectors(index, tmp_path / "v.parquet")
    copy = tmp_path / "copy.faiss"
    import_vectors(tmp_path / "v.parquet", copy)
    before = copy.read_bytes()
    with pytest.raises(
        IndexFormatError, match=r"copy.faiss is of vectors that were imported .*give another -o, or --fresh"
    ):
        run(album(tmp_path / "more", 2), copy)
    assert copy.read_bytes() == before


def test_vectors_of_others(tmp_path: Path) -> None:
    """Float64, of any length; paths from a list, two faces of one photo."""
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(4, 8)) * 7
    np.save(tmp_path / "t.npy", theirs)
    (tmp_path / "l.txt").write_text("/a.jpg\n/b.jpg\n/a.jpg\n/c d.jpg\n")
    said: list[str] = []
    report = import_vectors(
        tmp_path / "t.npy", tmp_path / "t.faiss", paths=tmp_path / "l.txt", encoder="buffalo_l", notice=said.append
    )
    assert (report.faces, report.dimension, report.encoder) == (4, 8, "buffalo_l")
    held = faces_of(tmp_path / "t.faiss")
    assert np.allclose(np.linalg.norm(held.vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(held.rows.column("norm").to_numpy(), np.linalg.norm(theirs, axis=1), rtol=1e-5)
    assert held.rows.column("path").to_pylist() == ["/a.jpg", "/b.jpg", "/a.jpg", "/c d.jpg"]
    assert held.rows.column("face").to_pylist() == [0, 0, 1, 0]
    assert any("4 of 4 vectors had another length than 1" in line for line in said)
    assert any("photos cannot be searched for in it" in line for line in said)


def test_a_list_column_of_doubles(tmp_path: Path) -> None:
    rows = pa.table({"vector": pa.array([[3.0, 4.0], [0.0, 2.0]]), "path": ["/x.jpg", "/y.jpg"], "more": [1, 2]})
    pq.write_table(rows, tmp_path / "t.parquet")
    import_vectors(tmp_path / "t.parquet", tmp_path / "t.faiss", encoder="theirs")
    assert np.allclose(faces_of(tmp_path / "t.faiss").vectors, [[0.6, 0.8], [0, 1]])


def _npy(array: Any) -> Any:
    return lambda folder: np.save(folder / "v.npy", array, allow_pickle=True)


def _table(column: Any, **more: Any) -> Any:
    return lambda folder: pq.write_table(pa.table({"vector": column, **more}), folder / "v.parquet")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda folder: None, DataError, r"v\.npy: there is no such file"),
        (
            lambda folder: (folder / "v.npy").write_bytes(b"no array"),
            IndexFormatError,
            r"v\.npy cannot be read as .npy",
        ),
        (_npy(np.array([{"a": 1}])), IndexFormatError, r"v\.npy cannot be read as .npy"),
        (_npy(np.zeros(5)), IndexFormatError, r"float64 of shape \(5,\); vectors are numbers \(N, D\)"),
        (_npy(np.array([["a", "b"]])), IndexFormatError, r"vectors are numbers"),
        (_npy(np.zeros((0, 5))), DataError, "holds no vectors"),
        (
            _npy(np.array([[1.0, 0], [0, 0], [np.nan, 1]])),
            IndexFormatError,
            "row 1 is not finite or all zero, and 1 others",
        ),
        (
            _table(pa.array([[1.0], [1.0, 2.0]])),
            IndexFormatError,
            "vectors of 1 to 2 numbers; all must have one dimension",
        ),
        (_table(pa.array([[1.0], None])), IndexFormatError, "1 rows have no vector"),
        (_table(pa.array(["a", "b"])), IndexFormatError, "holds string, not lists of numbers"),
        (_table(pa.array([["a"], ["b"]])), IndexFormatError, "not lists of numbers"),
        (_table(pa.array([[1.0], [2.0]]), path=["/a.jpg", None]), DataError, "has rows without a path"),
        (
            lambda folder: pq.write_table(pa.table({"x": [1]}), folder / "v.parquet"),
            IndexFormatError,
            "in a column 'vector'",
        ),
    ],
)
def test_bad_files(tmp_path: Path, make: Any, kind: type[FaceEmbedError], message: str) -> None:
    make(tmp_path)
    path = next(tmp_path.glob("v.*"), tmp_path / "v.npy")
    with pytest.raises(kind, match=message):
        import_vectors(path, tmp_path / "o.faiss", encoder="theirs")
    assert not list(tmp_path.glob("o.faiss*"))


def test_mistakes(index: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.eye(3))
    (tmp_path / "l.txt").write_text("/a.jpg\n")
    before = index.read_bytes()
    for options, message in (
        ({}, "does not say which encoder made its vectors; give its name with --encoder"),
        ({"encoder": "x", "paths": tmp_path / "l.txt"}, "names 1 photos for 3 vectors"),
        ({"encoder": "x", "paths": tmp_path / "none.txt"}, "none.txt: No such file"),
    ):
        with pytest.raises(FaceEmbedError, match=message):
            import_vectors(tmp_path / "t.npy", tmp_path / "o.faiss", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is there already"):
        import_vectors(tmp_path / "t.npy", index, encoder="x")
    assert index.read_bytes() == before
    export_vectors(index, tmp_path / "v.parquet")
    with pytest.raises(UsageError, match="says that faceembed-r29 made it"):
        import_vectors(tmp_path / "v.parquet", tmp_path / "o.faiss", encoder="x")
    (tmp_path / "mine.npy").write_bytes(b"mine")
    for name, message in (
        ("v.csv", "vectors are written as .npy, .parquet, .lance"),
        ("mine.npy", "is not a file of vectors"),
    ):
        with pytest.raises(UsageError, match=message):
            export_vectors(index, tmp_path / name)
    with pytest.raises(DataError, match="there is no index"):
        export_vectors(tmp_path / "none.faiss", tmp_path / "w.npy")
