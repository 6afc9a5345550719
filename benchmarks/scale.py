"""What an index of many faces takes and finds: time, memory, bytes and recall by size, of made faces that are as hard as real ones.

    python benchmarks/scale.py lfw.faiss --faces 100000 300000 --kinds flat ivf compact --json scale.json

Made faces: the mean, the spread between people and the spread of a person's photos are those of a real index (its folders are its
people), Gaussian in both, with as many photos a person. Whether they are as hard is measured first, on as many made ones as there are
real ones: how similar the nearest other face is, and how often 8-bit codes of 96 directions still find it without the exact vectors.
Sizes larger than were built are fitted: time and bytes by a line through the logarithms, whose scatter is given beside.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceembed.engine.distribute.dataset import open_manifest, write_shard
from faceembed.engine.distribute.store import Store
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import FaceIndex, load_faces
from faceembed.engine.photos.rows import FACE_SCHEMA

Floats = NDArray[np.float32]
QUERIES = 500
_SHARD = 4096


class People:
    """A model of the faces of a real index.

    Args:
        vectors: float32 (F, D) of real faces.
        folders: of each face's photo, which is a person.
    """

    def __init__(self, vectors: Floats, folders: list[str]) -> None:
        _, person = np.unique(folders, return_inverse=True)
        counts = np.bincount(person)
        means = np.stack([np.bincount(person, column, len(counts)) for column in vectors.T.astype(np.float64)], 1)
        means /= counts[:, None]
        several = counts[person] > 1
        within = (vectors - means[person])[several]
        freedom = several.sum() - (counts > 1).sum()
        self.mean = means.mean(0)
        inside = within.T @ within / max(1, freedom)
        between = (
            np.cov(means.T) - inside * (1 / counts).mean()
        )  # a person's mean of few photos is spread by these, too
        self.between, self.within = _root(between), _root(inside)
        self.counts = counts

    def draw(self, faces: int, seed: int) -> Floats:
        """Made faces, unit length."""
        rng = np.random.default_rng(seed)
        counts = rng.choice(self.counts, faces)
        person = np.repeat(np.arange(faces), counts)[:faces]
        who = rng.normal(size=(int(person[-1]) + 1, len(self.mean))).astype(np.float32) @ self.between.astype(
            np.float32
        )
        made = self.mean + who[person] + rng.normal(size=(faces, len(self.mean))).astype(np.float32) @ self.within
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, directions = np.linalg.eigh(covariance)
    return np.asarray((directions * np.sqrt(values.clip(0))) @ directions.T)


def hardness(vectors: Floats) -> dict[str, float]:
    """How similar the nearest other is, at three quantiles, and how often its codes still come first."""
    import faiss as typed

    faiss: Any = typed
    own = np.random.default_rng(0).permutation(len(vectors))[:1000]
    similar, nearest = faiss.knn(vectors[own], vectors, 2, metric=faiss.METRIC_INNER_PRODUCT)
    index = faiss.index_factory(vectors.shape[1], "PCA96,SQ8", faiss.METRIC_L2)
    index.train(vectors)
    index.add(vectors)
    found = index.search(vectors[own], 2)[1]
    other = np.where(found[:, 0] == own, found[:, 1], found[:, 0])
    real = np.where(nearest[:, 0] == own, nearest[:, 1], nearest[:, 0])
    quantiles = np.quantile(similar[:, 1], (0.1, 0.5, 0.9))
    return {
        **{f"nearest_other_q{q}": round(float(v), 4) for q, v in zip((10, 50, 90), quantiles, strict=True)},
        "recall_of_codes": round(float((other == real).mean()), 4),
    }


def fill(folder: Path, people: People, faces: int) -> None:
    """A dataset of made faces."""
    store = Store.of(str(folder))
    dimension = len(people.mean)
    made = {
        "encoder": {"name": "made", "sha256": "0"},
        "aligner": {"name": "none", "sha256": ""},
        "dimension": dimension,
    }
    open_manifest(store, made, dtype="float16", fresh=False)
    for number, start in enumerate(range(0, faces, _SHARD)):
        count = min(_SHARD, faces - start)
        columns = {
            field.name: [f"/photos/{start + row:09d}.jpg" for row in range(count)]
            if pa.types.is_string(field.type)
            else pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(count * 10, np.float32)), 10)
            if field.name == "landmarks"
            else np.zeros(count, field.type.to_pandas_dtype())
            for field in FACE_SCHEMA
        }
        rows, vectors = pa.table(columns, schema=FACE_SCHEMA), people.draw(count, number)
        write_shard(store, f"{number:032x}", rows, vectors, [], photos=count, precision="fp32", dtype="float16")


_BUILD = """
import sys, json, time
from faceembed.engine.verbs.index import index_dataset
t = time.process_time()
report = index_dataset(sys.argv[1], sys.argv[2], index_type=sys.argv[3], memory=int(sys.argv[4]))
# not ru_maxrss: a process keeps what the one that started it held
peak = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({**report.to_json_dict(), "cpu_seconds": time.process_time() - t, "peak_bytes": peak}))
"""


def build(folder: Path, index: Path, kind: str, memory: int) -> dict[str, Any]:
    """One index, in a process of its own whose memory counts."""
    import json

    command = [sys.executable, "-c", _BUILD, str(folder), str(index), kind, str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ask(index: Path, queries: Floats) -> tuple[NDArray[np.int64], float]:
    """The nearest of each query, and queries a second, one at a time from one thread."""
    opened = FaceIndex(index)
    opened.search(queries[:2], k=1)
    started = time.perf_counter()
    found = [opened.search(query[None], k=1)[0][0].face_id for query in queries]
    return np.array(found), len(queries) / (time.perf_counter() - started)


def fitted(sizes: list[int], values: list[float], at: list[int]) -> dict[str, Any]:
    """A line through the logarithms, and what it says of larger sizes; ``scatter`` is the factor of one standard error at the largest."""
    x, y = np.log(sizes), np.log(values)
    slope, start = np.polyfit(x, y, 1)
    left = y - (slope * x + start)
    spread = np.sqrt((left**2).sum() / max(1, len(x) - 2)) if len(x) > 2 else float("nan")
    far = spread * np.sqrt(1 + 1 / len(x) + (np.log(at[-1]) - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    return {"exponent": round(float(slope), 3), "scatter": round(float(np.exp(far)), 3)} | {
        str(size): float(np.exp(slope * np.log(size) + start)) for size in at
    }


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path, help="of real faces, whose folders are their people")
    parser.add_argument("--faces", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="+", default=["flat", "ivf", "compact"])
    parser.add_argument("--memory", type=int, default=8 << 30)
    parser.add_argument("--folder", type=Path, help="where made faces and indexes lie meanwhile")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = load_faces(IndexFiles.of(args.index))
    people = People(table.vectors, [os.path.dirname(photo.path) for photo in table.photos()])
    report: dict[str, Any] = {
        "real": hardness(table.vectors),
        "made": hardness(people.draw(len(table), 1 << 20)),
        "sizes": {},
    }
    common.say(f"nearest other face and codes: real {report['real']}, made {report['made']}")
    for faces in args.faces:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            place = Path(folder)
            fill(place / "d", people, faces)
            queries = people.draw(QUERIES, 1 << 21)  # of people who are not in it
            exact: NDArray[np.int64] | None = None
            rate_of_flat = 0.0
            for kind in args.kinds:
                built = build(place / "d", place / f"{kind}.faiss", kind, args.memory)
                found, rate = ask(place / f"{kind}.faiss", queries)
                if kind == "flat":
                    exact, rate_of_flat = found, rate
                one = {
                    "seconds": built["seconds"],
                    "cpu_seconds": round(built["cpu_seconds"], 1),
                    "peak_bytes_a_face": round(built["peak_bytes"] / faces, 1),
                    "memory_bytes_a_face": round(built["bytes_in_memory"] / faces, 1),
                    "queries_a_second": round(rate, 1),
                    "times_flat": round(rate / rate_of_flat, 2) if rate_of_flat else None,
                    "recall_at_1": None if exact is None else round(float((found == exact).mean()), 4),
                }
                report["sizes"].setdefault(str(faces), {})[kind] = one
                common.say(f"{faces:,} faces, {kind}: {one}")
    if len(args.faces) > 1:
        for kind in args.kinds:
            values = [report["sizes"][str(faces)][kind] for faces in args.faces]
            report.setdefault("fitted", {})[kind] = {
                key: fitted(
                    args.faces,
                    [value[key] * scale for value, scale in zip(values, scales, strict=True)],
                    [10**8, 10**9],
                )
                for key, scales in (("cpu_seconds", [1] * len(values)), ("memory_bytes_a_face", args.faces))
            }
    common.emit(report, args.json)


if __name__ == "__main__":
    main()
