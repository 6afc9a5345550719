"""The index by itself: kinds, search, empty ones, and files that do not belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest

from faceembed.engine.index.faiss_build import build_faiss
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.kinds import check_index_type, factory_string
from faceembed.engine.index.manifest import FORMAT, check_encoder, read_manifest
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import FaceIndex, load_faces, write_index
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import DataError, IndexFormatError, UsageError

D = 16


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(count: int, *, first_id: int = 100) -> FaceTable:
    """Faces with ids in no order."""
    ids = np.random.default_rng(1).permutation(count) + first_id
    blank = {field.name: "" if pa.types.is_string(field.type) else 0 for field in FACE_SCHEMA}
    rows = [{**blank, "face_id": int(i), "path": f"/{i}.jpg", "landmarks": [0.0] * 10} for i in ids]
    return FaceTable(pa.Table.from_pylist(rows, FACE_SCHEMA), unit(count))


def manifest(count: int) -> dict[str, Any]:
    encoder = {"name": "e", "sha256": "a" * 64}
    counts = {"faces": count, "no_face": 0, "failed": 0, "next_face_id": 100 + count}
    return {"encoder": encoder, "dimension": D, **counts}


def write(path: Path, count: int, kind: str = "flat") -> FaceTable:
    faces = table(count)
    write_index(IndexFiles.of(path), faces, [], manifest(count), kind)
    return faces


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "SQ8", "SQfp16", "IVF4,SQ8", "PQ4x4", "HNSW16,SQ8"])
def test_search_and_load_give_back_what_was_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.faiss"
    faces = write(path, 300, kind)
    index = FaceIndex(path)
    assert len(index) == 300
    ids = faces.rows.column("face_id").to_pylist()
    exact = "SQ8" not in kind and "PQ" not in kind and "fp16" not in kind
    right = 0
    for number, hits in enumerate(index.search(faces.vectors, k=5)):
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
        assert all(hit.path == f"/{hit.face_id}.jpg" for hit in hits)
        right += hits[0].face_id == ids[number]
    assert right == 300 if exact and kind != "hnsw" else right > 200
    back = load_faces(IndexFiles.of(path))
    np.testing.assert_array_equal(back.vectors, faces.vectors)  # bit for bit, lossy or not
    assert back.rows == faces.rows
    assert IndexFiles.of(path).vectors.exists() != exact


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "SQ8", "PQ4x4", "IVF4,Flat"])
def test_empty_index_of_every_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.faiss"
    write(path, 0, kind)
    index = FaceIndex(path)
    assert len(index) == 0
    assert len(load_faces(IndexFiles.of(path))) == 0
    with pytest.raises(DataError, match="holds no faces"):
        index.search(unit(1))


@pytest.mark.parametrize(
    ("faces", "lists"), [(0, 1), (1, 1), (38, 1), (78, 2), (390, 10), (10_000, 256), (1_000_000, 4000)]
)
def test_lists_of_ivf_grow_with_the_faces(faces: int, lists: int) -> None:
    assert factory_string("ivf", faces) == f"IVF{lists},Flat"
    assert faces == 0 or lists == 1 or faces / lists >= 39  # FAISS's own minimum to train on


def test_ivf_finds_nearly_everything(tmp_path: Path) -> None:
    path = tmp_path / "p.faiss"
    faces = write(path, 3000, "ivf")
    hits = FaceIndex(path).search(faces.vectors[:300], k=10)
    truth = np.argsort(-(faces.vectors[:300] @ faces.vectors.T), axis=1)[:, :10]
    ids = faces.rows.column("face_id").to_numpy()
    recall = np.mean(
        [len({h.face_id for h in row} & set(ids[best].tolist())) / 10 for row, best in zip(hits, truth, strict=True)]
    )
    assert recall > 0.8


def test_fewer_faces_than_hits_wanted(tmp_path: Path) -> None:
    path = tmp_path / "p.faiss"
    write(path, 3)
    assert [len(row) for row in FaceIndex(path).search(unit(2), k=50)] == [3, 3]


def test_questions_that_make_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "p.faiss"
    write(path, 3)
    index = FaceIndex(path)
    with pytest.raises(UsageError, match="k is 0"):
        index.search(unit(1), k=0)
    with pytest.raises(UsageError, match=r"queries have shape \(1, 8\), the index holds vectors of 16"):
        index.search(unit(1)[:, :8])


@pytest.mark.parametrize("kind", ["", "flatt", "IVF", "Flat,", "PQ5x4"])
def test_kinds_that_faiss_does_not_know(kind: str) -> None:
    with pytest.raises(UsageError, match=rf"--index '{kind}' is neither one of flat, hnsw, ivf, compact nor") as caught:
        check_index_type(kind, D)
    assert (
        "\n" not in str(caught.value) and "/project/" not in str(caught.value) and "Error in" not in str(caught.value)
    )
    with pytest.raises(UsageError):
        build_faiss(unit(3), np.arange(3), kind)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "SQ8", "IVF100000,Flat"])
def test_kinds_that_it_knows(kind: str) -> None:
    check_index_type(kind, D)


def test_no_index_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no index at .*p\.faiss; make one with: faceembed embed PHOTOS -o p\.faiss"):
        FaceIndex(tmp_path / "p.faiss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, f"has format 99, this version reads {FORMAT}"),
        ({"encoder": "e"}, "no 'encoder' in it"),
        ({"dimension": None}, "no 'dimension' in it"),
        ({"next_face_id": "7"}, "no 'next_face_id' in it"),
    ],
)
def test_a_manifest_that_lacks_something(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    files = IndexFiles.of(tmp_path / "p.faiss")
    write(files.faiss, 3)
    files.json.write_text(json.dumps({**json.loads(files.json.read_text()), **change}))
    with pytest.raises(IndexFormatError, match=message):
        read_manifest(files)


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "{}", "{", ""])
def test_json_that_is_no_manifest(tmp_path: Path, text: str) -> None:
    files = IndexFiles.of(tmp_path / "p.faiss")
    files.json.write_text(text)
    with pytest.raises(IndexFormatError, match=r"p\.faiss\.json"):
        read_manifest(files)


def test_encoder_is_checked_by_digest(tmp_path: Path) -> None:
    files = IndexFiles.of(tmp_path / "p.faiss")
    write(files.faiss, 3)
    stored = read_manifest(files)
    check_encoder(files, stored, "another name", "a" * 64)
    with pytest.raises(IndexFormatError, match=r"made with encoder e \(aaaaaaaaaaaa\), not e \(bbbbbbbbbbbb\)"):
        check_encoder(files, stored, "e", "b" * 64)


def test_a_faiss_index_of_another_kind_or_other_ids(tmp_path: Path) -> None:
    files = IndexFiles.of(tmp_path / "p.faiss")
    write(files.faiss, 3)
    plain = faiss.IndexFlatIP(D)
    plain.add(unit(3))
    faiss.write_index(plain, str(files.faiss))
    with pytest.raises(IndexFormatError, match="is a FAISS IndexFlatIP, not an IndexIDMap2"):
        FaceIndex(files.faiss)
    faiss.write_index(build_faiss(unit(3), np.arange(3), "flat"), str(files.faiss))
    with pytest.raises(IndexFormatError, match="do not belong together"):
        FaceIndex(files.faiss)
    with pytest.raises(IndexFormatError, match="hold other faces"):
        load_faces(files)


def test_vectors_of_another_index(tmp_path: Path) -> None:
    files = IndexFiles.of(tmp_path / "p.faiss")
    write(files.faiss, 40, "SQ8")
    for wrong in (unit(39), unit(40).astype(np.float64), unit(40)[:, :8]):
        np.save(files.vectors, wrong)
        with pytest.raises(IndexFormatError, match=r"p\.vectors\.npy and p\.parquet hold other faces|vectors\.npy and"):
            load_faces(files)


def test_cut_off_anywhere_is_one_error(tmp_path: Path) -> None:
    for kind in ("flat", "hnsw", "ivf"):
        path = tmp_path / "p.faiss"
        write(path, 120, kind)
        data = path.read_bytes()
        for size in [*range(0, 200, 7), *np.linspace(200, len(data) - 1, 20, dtype=int).tolist()]:
            path.write_bytes(data[:size])
            with pytest.raises(IndexFormatError, match=r"p\.faiss cannot be read") as caught:
                FaceIndex(path)
            assert "\n" not in str(caught.value)
