"""`faceembed index`: what it finds, what it takes of memory, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from faceembed.cli.main import main
from faceembed.engine.distribute.dataset import open_manifest, shard_name, write_shard
from faceembed.engine.distribute.store import Store
from faceembed.engine.index import kinds
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import FaceIndex, load_faces
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.engine.verbs.index import index_dataset
from faceembed.errors import DataError, IndexFormatError, UsageError

D = 64
MADE = {"encoder": {"name": "made", "sha256": "a" * 64}, "aligner": {"name": "none", "sha256": ""}, "dimension": D}


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """People of ten photos each, not around the origin: what codes without a centre get wrong."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(count // 10 + 1, D)) * np.geomspace(1, 0.1, D) + 0.5
    vectors = people[np.arange(count) // 10] + rng.normal(size=(count, D)) * 0.15
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def dataset(folder: Path, vectors: np.ndarray, *, shard: int = 500, dtype: str = "float32") -> Path:
    store = Store.of(str(folder))
    open_manifest(store, MADE, dtype=dtype, fresh=False)
    for number, start in enumerate(range(0, len(vectors), shard)):
        part = vectors[start : start + shard]
        columns = {
            f.name: [f"/p/{start + row:07d}.jpg" for row in range(len(part))]
            if pa.types.is_string(f.type)
            else pa.array(np.zeros((len(part), 10), np.float32).tolist(), f.type)
            if f.name == "landmarks"
            else np.zeros(len(part), f.type.to_pandas_dtype())
            for f in FACE_SCHEMA
        }
        bad = [Failure(PhotoFile(f"/p/bad{number}.jpg", 1, 1), "detect", "no face")]
        rows = pa.table(columns, schema=FACE_SCHEMA)
        write_shard(store, f"{number:032x}", rows, part, bad, photos=len(part) + 1, precision="fp32", dtype=dtype)
    return folder


@pytest.mark.parametrize(
    ("kind", "dtype"), [("auto", "float32"), ("ivf", "float32"), ("compact", "float32"), ("compact", "float16")]
)
def test_an_index_finds_what_is_there(tmp_path: Path, kind: str, dtype: str) -> None:
    vectors = clustered(3000)
    vectors[17] = vectors[4]
    report = index_dataset(str(dataset(tmp_path / "d", vectors, dtype=dtype)), tmp_path / "p.faiss", index_type=kind)
    assert (report.faces, report.no_face, report.shards) == (3000, 6, 6)
    assert report.kind == ("flat" if kind == "auto" else kind)
    index = FaceIndex(tmp_path / "p.faiss")
    own = np.arange(0, 3000, 7)
    exact = np.argsort(-vectors[own] @ vectors.T, axis=1)[:, :3]
    hits = index.search(vectors[own], k=3)
    found = [[int(hit.path[3:10]) for hit in row] for row in hits]
    nearest_other = np.mean([bool({*row} & {int(b)}) for row, (a, b, _) in zip(found, exact, strict=True)])
    assert nearest_other >= 0.99
    similarity = np.array([row[0].similarity for row in hits])  # exact cosines, whatever the codes are
    assert np.abs(similarity - 1).max() < (1e-5 if dtype == "float32" else 1e-3)
    assert [hit.path for hit in index.search(vectors[4:5], k=2)[0]] == ["/p/0000004.jpg", "/p/0000017.jpg"]
    if kind == "compact":
        assert (
            report.bytes_in_memory / 3000 < 140
        )  # lists and links count for more in so few; see the bench for the rest
        files = IndexFiles.of(tmp_path / "p.faiss")
        assert files.vectors.exists() and np.allclose(load_faces(files).vectors, vectors, atol=1e-3)


def test_memory_is_obeyed_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset(tmp_path / "d", clustered(1000))
    monkeypatch.setattr("faceembed.engine.verbs.index.FLAT_FACES", 100)
    with pytest.raises(UsageError, match=r"--index hnsw of 1,000 faces takes about 0.0 GiB .* or --index compact"):
        index_dataset(str(folder), tmp_path / "p.faiss", index_type="hnsw", memory=100_000)
    ivf, compact = (kinds.bytes_in_memory(kind, D, 1000) for kind in ("ivf", "compact"))
    assert compact < ivf
    assert index_dataset(str(folder), tmp_path / "p.faiss", memory=ivf).kind == "ivf"
    assert index_dataset(str(folder), tmp_path / "p.faiss", memory=ivf - 1).kind == "compact" or compact > ivf - 1
    with pytest.raises(UsageError, match="--index compact"):
        index_dataset(str(folder), tmp_path / "p.faiss", memory=1000)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset at"):
        index_dataset(str(tmp_path / "none"), tmp_path / "p.faiss")
    folder = dataset(tmp_path / "d", clustered(1000))
    with pytest.raises(UsageError, match="neither one of flat, hnsw, ivf, compact nor a FAISS factory string"):
        index_dataset(str(folder), tmp_path / "p.faiss", index_type="best")
    damaged = folder / shard_name(f"{1:032x}")
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-5])
    with pytest.raises(IndexFormatError, match="is damaged"):
        index_dataset(str(folder), tmp_path / "p.faiss")
    assert not (tmp_path / "p.faiss").exists()


def test_the_command(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", clustered(1000))
    done = CliRunner().invoke(main, ["index", str(folder), "-o", str(tmp_path / "p.faiss"), "--json", "-q"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["faces"] == 1000
    assert (
        CliRunner().invoke(main, ["index", str(folder), "-o", str(tmp_path / "p.faiss"), "--memory", "x"]).exit_code
        != 0
    )
