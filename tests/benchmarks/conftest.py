"""What the benchmarks' tests share: the scripts made importable, three small photos, a stand-in for `faceembed embed`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # the benchmarks are scripts, not a package

# `faceembed embed FOLDER -o INDEX --json`: one random face a photo, a second smaller one in the first photo. It works for
# STUB_SECONDS a photo, except where the index is there already.
STUB = """
import json, os, sys, time
from pathlib import Path
import faiss, numpy, pyarrow, pyarrow.parquet
folder, index = Path(sys.argv[1]), Path(sys.argv[3])
paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.jpg"))
old, work = index.exists(), len(paths) * float(os.environ.get("STUB_SECONDS", "0.01"))
if not old:
    end = time.process_time() + work
    while time.process_time() < end:
        pass
    rows = [{"path": p, "face": 0, "w": 9.0, "h": 9.0} for p in paths] + [{"path": paths[0], "face": 1, "w": 2.0, "h": 2.0}]
    rows = [row | {"face_id": 100 + i} for i, row in enumerate(rows)]
    vectors = numpy.random.default_rng(0).normal(size=(len(rows), 128)).astype("float32")
    faiss.normalize_L2(vectors)
    store = faiss.IndexIDMap2(faiss.IndexFlatIP(128))
    store.add_with_ids(vectors, numpy.array([row["face_id"] for row in rows]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), index.with_suffix(".faiss.parquet"))
    faiss.write_index(store, str(index) + ".part")  # a kill leaves no index without its table
    os.replace(str(index) + ".part", index)
print(json.dumps({"images": len(paths), "skipped": len(paths) if old else 0, "seconds": work}))
"""


@pytest.fixture
def stub(tmp_path: Path) -> str:
    """A value for `--embed-command`."""
    script = tmp_path / "stub.py"
    script.write_text(STUB, encoding="utf-8")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FACEEMBED_DATA in small: the astronaut at two sizes, one picture with no face, and a list of two pairs."""
    skimage = pytest.importorskip("skimage.data")
    from PIL import Image

    root = tmp_path / "data"
    astronaut = Image.fromarray(skimage.astronaut()[:300, 100:400])
    for name, image in (
        ("Ann/Ann_0001.jpg", astronaut),
        ("Ann/Ann_0002.jpg", astronaut.resize((250, 250))),
        ("Bob/Bob_0001.jpg", Image.new("RGB", (250, 250), "white")),
    ):
        path = root / "lfw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (root / "lfw_pairs.txt").write_text("1\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n", encoding="utf-8")
    monkeypatch.setenv("FACEEMBED_DATA", str(root))
    return root
