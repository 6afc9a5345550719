"""The last step of `embed` holds a piece at a time: shards, old indexes and new files stay on disk, whatever their size."""

from __future__ import annotations

import collections
import tracemalloc
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pytest

from faceembed.engine.index import assembly, vector_file
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.losses import Selection
from faceembed.engine.index.merge import Merge
from faceembed.engine.index.recognise import Recognised
from faceembed.engine.index.shards import FaceTable, Shard, ShardFolder
from faceembed.engine.index.store import FaceIndex, face_pieces, load_faces
from faceembed.engine.index.update import Known
from faceembed.engine.index.vector_file import VectorFile, map_flat
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.listing import Listing
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.rows import FACE_SCHEMA

D = 256
MANIFEST = {"encoder": {"name": "e", "sha256": "a" * 64}, "dimension": D}


def faces(start: int, count: int, *, seed: int = 0) -> FaceTable:
    vectors = np.random.default_rng(start + seed).normal(size=(count, D)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = {
        field.name: [f"/p/{start + row}.jpg" for row in range(count)]
        if pa.types.is_string(field.type)
        else pa.array(np.zeros((count, 10), np.float32).tolist(), field.type)
        if field.name == "landmarks"
        else np.zeros(count, field.type.to_pandas_dtype())
        for field in FACE_SCHEMA
    }
    return FaceTable(pa.table(columns, schema=FACE_SCHEMA), vectors)


def joined(files: IndexFiles, folder: ShardFolder, kind: str = "flat", known: Known | None = None) -> dict[str, int]:
    listing = Listing([], [], collections.Counter(), [])
    known = known or Known(files, None, {}, [])
    merge = Merge(listing, Selection(listing, []), known, Recognised(), [])
    return merge.write(files, MANIFEST, D, kind, folder.files())


def test_memory_does_not_grow_with_the_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 MiB of vectors in 24 shards go through less than a third of that. Before, they were in memory seven times."""
    files = IndexFiles.of(tmp_path / "p.faiss")
    folder = ShardFolder(files.partial, MANIFEST)
    for number in range(24):
        folder.write(Shard(faces(2048 * number, 2048), []))
    monkeypatch.setattr(assembly, "ROWS", 4096)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    try:
        counts = joined(files, folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts["faces"] == 24 * 2048
    assert peak < 16 << 20
    assert pool.bytes_allocated() - before < 4 << 20  # nothing of Arrow's is left either
    found = load_faces(IndexFiles.of(tmp_path / "p.faiss"))
    assert np.array_equal(found.vectors[5 * 2048 : 6 * 2048], faces(5 * 2048, 2048).vectors)
    assert found.rows.column("path")[-1].as_py() == f"/p/{24 * 2048 - 1}.jpg"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "SQ8"])
def test_pieces_give_what_all_at_once_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Rows, ids, copies of a vector and failures, with pieces smaller than a shard and a second run on top."""
    monkeypatch.setattr(assembly, "ROWS", 7)
    files = IndexFiles.of(tmp_path / "p.faiss")
    folder = ShardFolder(files.partial, MANIFEST)
    first, second = faces(0, 60), faces(60, 50)
    second.vectors[3] = first.vectors[2]
    folder.write(Shard(first, [Failure(PhotoFile("/p/none.jpg", 1, 1), "detect", "no face")]))
    folder.write(Shard(second, []))
    assert joined(files, folder, kind) == {"faces": 110, "no_face": 1, "failed": 0, "in_tracks": 0}
    table = load_faces(files)
    assert np.array_equal(table.vectors, np.concatenate([first.vectors, second.vectors]))
    assert table.rows.column("face_id").to_pylist() == list(range(110))
    pieces = list(face_pieces(files, rows=13))
    assert np.array_equal(np.concatenate([piece.vectors for piece in pieces]), table.vectors)
    assert pa.concat_tables([piece.rows for piece in pieces]).equals(
        table.rows.select(FACE_SCHEMA.names).replace_schema_metadata(None)
    )
    hits = FaceIndex(files.faiss).search(first.vectors[2:3], k=2)[0]
    assert [hit.face_id for hit in hits] == [2, 63]
    known = Known.opened(IndexFiles.of(tmp_path / "p.faiss"))
    folder = ShardFolder(files.partial, MANIFEST)
    folder.write(Shard(faces(110, 5), []))
    merge = Merge(
        Listing([], [], collections.Counter(), []),
        Selection(Listing([], [], collections.Counter(), []), []),
        known,
        Recognised(),
        [],
    )
    merge.take_out([PhotoFile("/p/7.jpg", 0, 0)], {7})
    assert merge.write(files, MANIFEST, D, kind, folder.files())["faces"] == 114
    again = load_faces(files)
    assert again.rows.column("face_id").to_pylist() == [i for i in range(115) if i != 7]
    assert np.array_equal(again.vectors[-5:], faces(110, 5).vectors)


def test_a_flat_file_is_what_faiss_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, ids = faces(0, 40).vectors, np.arange(40) * 3 + (1 << 33)
    file = VectorFile(tmp_path / "ours.faiss", D, flat=True)
    file.add(vectors[:15])
    file.add(vectors[15:])
    file.close(ids)
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(D))
    index.add_with_ids(vectors, ids)
    faiss.write_index(index, str(tmp_path / "faiss.faiss"))
    assert (tmp_path / "ours.faiss").read_bytes() == (tmp_path / "faiss.faiss").read_bytes()
    mapped = map_flat(tmp_path / "ours.faiss")
    assert mapped is not None and np.array_equal(mapped[0], ids) and np.array_equal(mapped[1], vectors)
    (tmp_path / "cut.faiss").write_bytes((tmp_path / "ours.faiss").read_bytes()[:-9])
    assert map_flat(tmp_path / "cut.faiss") is None
    faiss.write_index(faiss.IndexIDMap2(faiss.IndexFlatL2(D)), str(tmp_path / "l2.faiss"))
    assert map_flat(tmp_path / "l2.faiss") is None


def test_a_faiss_that_writes_other_bytes_writes_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where our head of a flat file is not the installed FAISS's, it builds and writes the index."""
    head = vector_file._flat_head
    monkeypatch.setattr(vector_file, "_flat_head", lambda dimension, count: b"IxFX" + head(dimension, count)[4:])
    vector_file.writes_flat.cache_clear()
    try:
        files = IndexFiles.of(tmp_path / "p.faiss")
        folder = ShardFolder(files.partial, MANIFEST)
        folder.write(Shard(faces(0, 30), []))
        joined(files, folder)
        assert map_flat(files.faiss) is None
        assert np.array_equal(next(face_pieces(files)).vectors, faces(0, 30).vectors)
        assert faiss.read_index(str(files.faiss)).ntotal == 30
    finally:
        monkeypatch.undo()
        vector_file.writes_flat.cache_clear()
