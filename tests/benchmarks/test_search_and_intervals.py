"""The benchmarks of search and of intervals: short runs of them on made vectors and scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import intervals
import numpy as np
import pyarrow as pa
import pytest
import search

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import write_index
from faceembed.engine.photos.rows import FACE_SCHEMA


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


def test_search_measures_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    zeros = {field.name: "" if pa.types.is_string(field.type) else 0 for field in FACE_SCHEMA}
    rows = [{**zeros, "face_id": i, "path": f"/{i}.jpg", "landmarks": [0.0] * 10} for i in range(200)]
    manifest = {"encoder": {"name": "e", "sha256": "a"}, "dimension": 16, "faces": 200, "no_face": 0, "failed": 0}
    faces = FaceTable(pa.Table.from_pylist(rows, FACE_SCHEMA), vectors)
    write_index(IndexFiles.of(tmp_path / "p.faiss"), faces, [], {**manifest, "next_face_id": 200}, "flat")
    options = ["--kinds", "flat;hnsw;ivf", "--sizes", "5,50", "--queries", "20", "--rounds", "1"]
    search.main([str(tmp_path / "p.faiss"), *options])
    kinds = last_json(capsys)["kinds"]
    assert isinstance(kinds, dict) and list(kinds) == ["flat", "hnsw", "ivf"]
    for kind, row in kinds.items():
        assert row["at"]["50"]["least_hits"] == 50
        assert row["at"]["5"]["recall"] >= (1 if kind == "flat" else 0.95)
        assert row["at"]["5"]["queries_per_second"] > 0
    with pytest.raises(SystemExit):
        search.main([str(tmp_path / "p.faiss"), "--kinds", "hnsw"])


def test_intervals_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "s.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "similarity"))
        writer.writerows((1, value) for value in rng.normal(3, 1, 400))
        writer.writerows((0, value) for value in rng.normal(0, 1, 400))
    options = ["--sizes", "10", "--draws", "20", "--resamples", "20", "--json", str(tmp_path / "r.json")]
    intervals.main(["--scores", str(tmp_path / "s.csv"), *options])
    document = last_json(capsys)
    assert json.loads((tmp_path / "r.json").read_text()) == document
    (row,) = document["rows"]  # type: ignore[misc]
    assert set(row["coverage"]) == {"eer", "eer_bootstrap", "auc", "auc_delong", "fnmr_at_fmr_1e-1"}
    assert row["coverage"]["eer"] >= 0.9 and row["mean_width"]["eer"] > row["mean_width"]["eer_bootstrap"]
