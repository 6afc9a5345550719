"""What a search finds and how fast, for each kind of index, beside exact search of the same faces.

    faceembed embed lfw -o lfw.faiss
    python benchmarks/search.py lfw.faiss --json benchmarks/results/search.json

Queries are faces of the index, moved a little, so that none is found only because it is there itself. Recall is the share of the k
nearest, by exact search, that are found; rates are those of one thread, kinds in turns, so that whatever else the machine does falls
on all alike. The bound is memory: exact search reads every vector once for a block of queries.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.store import FaceIndex, load_faces, write_index

KINDS = ("flat", "hnsw", "ivf", "SQ8", "IVF300,PQ64x4fs,RFlat", "PCA96,Flat")
SIZES = (10, 100, 1000)
Floats = NDArray[np.float32]


def build(source: Path, folder: Path, kinds: Sequence[str]) -> dict[str, tuple[FaceIndex, float, list[str]]]:
    """Each kind of index over the same faces, the seconds that it took, and what it said."""
    files = IndexFiles.of(source)
    faces, manifest = load_faces(files), read_manifest(files)
    manifest = {key: value for key, value in manifest.items() if key not in ("format", "search")}
    found = {}
    for number, kind in enumerate(kinds):
        said: list[str] = []
        started = time.perf_counter()
        write_index(IndexFiles.of(folder / f"{number}.faiss"), faces, [], manifest, kind, notice=said.append)
        seconds = time.perf_counter() - started
        found[kind] = (FaceIndex(folder / f"{number}.faiss"), seconds, said)
        common.say(f"{kind}: built in {seconds:.1f} s")
    return found


def draw_queries(vectors: Floats, count: int, *, noise: float, seed: int) -> Floats:
    """Some vectors, each turned by about ``noise`` radians."""
    rng = np.random.default_rng(seed)
    chosen = vectors[rng.permutation(len(vectors))[:count]]
    moved = chosen + noise * rng.normal(size=chosen.shape) / np.sqrt(vectors.shape[1])
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every kind."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = load_faces(IndexFiles.of(args.index)).vectors
    queries = draw_queries(vectors, args.queries, noise=args.noise, seed=args.seed)
    true, _ = faiss.knn(queries, vectors, max(args.sizes), metric=faiss.METRIC_INNER_PRODUCT)
    with tempfile.TemporaryDirectory(prefix="faceembed-search-") as folder:
        built = build(args.index, Path(folder), args.kinds)
        rows: dict[str, dict[str, Any]] = {
            kind: {"build_s": round(seconds, 2), "said": said, "effort": index.manifest["search"], "at": {}}
            for kind, (index, seconds, said) in built.items()
        }
        for k in args.sizes:
            rates: dict[str, list[float]] = {kind: [] for kind in args.kinds}
            for _ in range(args.rounds):
                for kind, (index, _, _) in built.items():
                    started = time.perf_counter()
                    hits = index.search(queries, k=k)
                    rates[kind].append(len(queries) / (time.perf_counter() - started))
                    found = np.array([[hit.similarity for hit in row] for row in hits])
                    recall = float(np.mean(found >= true[:, min(k, len(vectors)) - 1, None] - 1e-6))
                    least = min(len(row) for row in hits)
                    rows[kind]["at"][str(k)] = {"recall": round(recall, 4), "least_hits": least}
            for kind in args.kinds:
                beside = [mine / flat for mine, flat in zip(rates[kind], rates["flat"], strict=True)]
                rows[kind]["at"][str(k)] |= {
                    "queries_per_second": round(statistics.median(rates[kind]), 1),
                    "beside_flat": round(statistics.median(beside), 3),
                }
            common.say(f"k = {k} done")
    return {
        "benchmark": "search",
        "versions": common.versions("faceembed", "faiss-cpu", "numpy"),
        "faces": len(vectors),
        "dimension": int(vectors.shape[1]),
        "queries": len(queries),
        "noise": args.noise,
        "rounds": args.rounds,
        "kinds": rows,
    }


def report(document: dict[str, Any]) -> str:
    """The table, for people."""
    rows = [
        (
            kind,
            k,
            f"{found['recall']:.4f}",
            f"{found['least_hits']:,}",
            f"{found['queries_per_second']:,.0f}",
            f"{found['beside_flat']:.2f}",
        )
        for kind, row in document["kinds"].items()
        for k, found in row["at"].items()
    ]
    title = (
        f"{document['faces']:,} faces of {document['dimension']} numbers, {document['queries']:,} queries, one thread"
    )
    return f"{title}\n" + common.table(("kind", "k", "recall", "least hits", "queries/s", "/ flat"), rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Recall and rate of every kind of index.")
    parser.add_argument("index", type=Path, help="an index that faceembed embed made")
    parser.add_argument("--kinds", type=lambda text: text.split(";"), default=list(KINDS), help="separated by ;")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=list(SIZES))
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.05, help="radians that a query is moved by")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args(arguments)
    if args.rounds < 1 or args.queries < 1 or "flat" not in args.kinds:
        parser.error("--rounds and --queries must be 1 or more, and --kinds must have flat")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    document = run(args)
    print(report(document), end="\n\n")
    common.emit(document, args.json)


if __name__ == "__main__":
    main()
