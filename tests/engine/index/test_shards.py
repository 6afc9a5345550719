"""Shards: faces and failures come back bit for bit, in order, and only together with the settings that made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceembed.engine.index.shards import FaceTable, Shard, ShardFolder
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, encode_path
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import IndexFormatError

SETTINGS: dict[str, object] = {"encoder": {"name": "e", "sha256": "0"}, "dimension": 4}


def faces(*paths: str, seed: int = 0) -> FaceTable:
    rng = np.random.default_rng(seed)
    rows = [
        {
            **dict.fromkeys(FACE_SCHEMA.names, 1),
            "path": encode_path(path),
            "digest": "ab",
            "landmarks": rng.random(10).astype(np.float32).tolist(),
        }
        for path in paths
    ]
    return FaceTable(pa.Table.from_pylist(rows, FACE_SCHEMA), rng.normal(size=(len(paths), 4)).astype(np.float32))


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    shards = [
        Shard(faces("/a", "/b\udce9", "/c\nd"), []),
        Shard(faces(), [Failure(PhotoFile("/bad\udcff", 3, 2**60), "decode", "cut “off”")]),
        Shard(faces("/e", seed=1), [Failure(PhotoFile("/f", 0, 0), "read", "")]),
    ]
    folder = ShardFolder(tmp_path / "p", SETTINGS)
    for shard in shards:
        folder.write(shard)
    back = list(ShardFolder(tmp_path / "p", SETTINGS).read())
    for one, other in zip(shards, back, strict=True):
        assert other.faces.rows == one.faces.rows
        np.testing.assert_array_equal(other.faces.vectors, one.faces.vectors)
        assert other.faces.vectors.shape == one.faces.vectors.shape
        assert other.failures == one.failures
        assert other.faces.photos() == one.faces.photos()


def test_shards_of_older_versions_are_read(tmp_path: Path) -> None:
    """They hold embeddings as lists."""
    folder, shard = ShardFolder(tmp_path, SETTINGS), Shard(faces("/a", "/b"), [])
    folder.write(shard)
    path = tmp_path / "00000000.parquet"
    table = pq.read_table(path)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(shard.faces.vectors.ravel()), 4)
    pq.write_table(table.set_column(table.schema.get_field_index("embedding"), "embedding", lists), path)
    (back,) = folder.read()
    np.testing.assert_array_equal(back.faces.vectors, shard.faces.vectors)
    missing = pa.array([b"x" * 16, None], pa.binary(16))
    pq.write_table(table.set_column(table.schema.get_field_index("embedding"), "embedding", missing), path)
    with pytest.raises(IndexFormatError, match="1 embeddings are missing"):
        list(folder.read())


def test_numbering_goes_on(tmp_path: Path) -> None:
    for number in range(12):
        ShardFolder(tmp_path, SETTINGS).write(Shard(faces(f"/{number}"), []))
    paths = [photo.path for shard in ShardFolder(tmp_path, SETTINGS).read() for photo in shard.faces.photos()]
    assert paths == [f"/{number}" for number in range(12)]
    assert len(list(tmp_path.glob("*.parquet"))) == 12


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    ShardFolder(tmp_path, SETTINGS)
    with pytest.raises(IndexFormatError, match=r"unfinished run with another dimension \(4, now 8\)"):
        ShardFolder(tmp_path, {**SETTINGS, "dimension": 8})
    (tmp_path / "settings.json").write_text("[1, 2")
    with pytest.raises(IndexFormatError, match=r"settings\.json is damaged .*--fresh"):
        ShardFolder(tmp_path, SETTINGS)


def test_a_shard_without_embeddings_is_damaged(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, SETTINGS)
    folder.write(Shard(faces("/a"), []))
    path = tmp_path / "00000000.parquet"
    table = pq.read_table(path)
    for broken in (
        table.drop_columns(["embedding"]),
        table.replace_schema_metadata(None),
        table.replace_schema_metadata({"failures": json.dumps([{"stage": "read"}])}),
        table.replace_schema_metadata({"failures": "[1]"}),
        table.set_column(table.column_names.index("embedding"), "embedding", pa.array(["x"])),
    ):
        pq.write_table(broken, path)
        with pytest.raises(IndexFormatError, match=r"00000000\.parquet (is damaged|has no column) .*delete that file"):
            list(folder.read())


def test_take_and_concatenate() -> None:
    table = FaceTable.concatenate([faces("/a", "/b"), faces("/c", seed=3)], 4)
    assert len(table) == 3
    kept = table.take(np.array([True, False, True]))
    assert [photo.path for photo in kept.photos()] == ["/a", "/c"]
    np.testing.assert_array_equal(kept.vectors, table.vectors[[0, 2]])
    assert len(table.take(np.zeros(3, bool))) == 0
    assert FaceTable.concatenate([], 4).vectors.shape == (0, 4)
