"""Does `faceembed cluster` put photos of one person together? On LFW and people_wild, against DBSCAN, HDBSCAN and Leiden.

    python benchmarks/clustering.py                             # embeds both sets; with --lfw and --wild indexes: some minutes
    python benchmarks/clustering.py --scale 100000 --scale 1000000   # also time and memory on so many made-up vectors
    python benchmarks/clustering.py --choose                    # the choice of the settings, on people who are in no test

How. Both get the same embeddings, one face a photo. Ours runs as it is. DBSCAN (scikit-learn) is run at every epsilon of a
grid and the least group size of 2 and 3, and the best of these is taken, BY THE LABELS OF THE TEST ITSELF: once for the best
pairwise F1, once for the best BCubed F1. That is an advantage which nobody has on photos without labels. What it leaves as
noise counts as groups of one. HDBSCAN and Leiden (`clustering_others.py`) have no such advantage, nor do they read anything off the set as ours
does: their settings are chosen on the people that ours were chosen on. A line says which could not run for want of a package.

    lfw, pair list        people who are named in LFW's pair list: no number was chosen on them, but see below
    lfw                   everybody; the 1,468 others took part in the choice
    people_wild, others   60 people outside the 180 training people of the split with seed 7
    people_wild           all 240 people; the 180 took part in the choice
    incremental           the rows above, grouped in ten steps of new faces: anew each time, or with --keep

How far to trust it. That a crowd takes in faces left alone (`group.CROWD`) was thought of after one look at LFW's pair list, where
without it pairwise recall was 52 % and precision 98 %; it was then decided on made-up vectors of 250 photos a person, and by the
people whom settings are chosen on, for whom it changes nothing. "people_wild, others" was not changed by it either.

What bounds it. The encoder: pairs of one person that it sees as strangers. About one label in ten of people_wild is wrong, which
costs every method. Pairwise figures of LFW are those of its largest person: 530 photos of one man are 58 % of all its pairs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import clustering_others as others
import common
import numpy as np
import processes
from clustering_others import alone, figures
from clustering_scale import Floats, scale_child
from common import BenchmarkError, say
from numpy.typing import NDArray

from faceembed.engine.index.clusters import group as grouping
from faceembed.engine.index.clusters.rank_order import neighbour_lists, rank_order_edges
from faceembed.engine.index.clusters.scores import cluster_scores
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.graph import Edges, whisper
from faceembed.engine.index.store import load_faces
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import embed
from faceembed.trainer.data.split import split_people

ENCODER = "dlib-resnet"  # with which the settings of `cluster` were chosen
SPLIT = {"train": 180, "validate": 20, "test": 40, "seed": 7}
EPSILONS = tuple(np.round(np.arange(0.02, 0.0901, 0.0025), 4).tolist())
LEAST_GROUPS = (2, 3)
STEPS = 10

Set = tuple[NDArray[np.str_], Floats]


# ------------------------------------------------------------------------------------------------------------------ sets


def read_set(index: Path) -> Set:
    """Each face's person, by its folder, and its vector."""
    faces = load_faces(IndexFiles.of(index))
    paths = [decode_path(path) for path in faces.rows.column("path").to_pylist()]
    return np.array([Path(path).parent.name for path in paths]), faces.vectors


def named_in_pairs(path: Path) -> set[str]:
    """The people of LFW's pair list."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return {row[0] for row in rows if len(row) >= 3} | {row[2] for row in rows if len(row) == 4}


def part(whole: Set, chosen: NDArray[np.bool_]) -> Set:
    """Some faces of a set."""
    return whole[0][chosen], whole[1][chosen]


def read_sets(args: argparse.Namespace) -> tuple[dict[str, Set], Set]:
    """The sets that are measured, and the people on whom settings were chosen."""
    root = common.data_root()
    with tempfile.TemporaryDirectory(prefix="faceembed-clustering-") as folder:
        sets = []
        for name, given in (("lfw", args.lfw), ("people_wild", args.wild)):
            index = given or Path(folder) / f"{name}.faiss"
            if given is None:
                say(f"embedding {name}")
                embed([root / name], index, settings=EmbedSettings(encoder=ENCODER))
            sets.append(read_set(index))
    lfw, wild = sets
    listed = np.isin(lfw[0], sorted(named_in_pairs(root / "lfw_pairs.txt")))
    training = np.isin(wild[0], split_people(sorted(set(wild[0].tolist())), **SPLIT)["train"])
    chosen = (
        np.concatenate([wild[0][training], lfw[0][~listed]]),
        np.concatenate([wild[1][training], lfw[1][~listed]]),
    )
    measured = {
        "lfw, pair list": part(lfw, listed),
        "lfw": lfw,
        "people_wild, others": part(wild, ~training),
        "people_wild": wild,
    }
    return measured, chosen


# --------------------------------------------------------------------------------------------------------------- methods


def ours(people: NDArray[np.str_], vectors: Floats, threshold: float) -> dict[str, Any]:
    """`faceembed cluster` as it is, and in steps."""
    least = grouping.suggested_least(vectors, threshold)
    started = time.perf_counter()
    groups = grouping.group(vectors, least=least)
    seconds = time.perf_counter() - started
    order = np.random.default_rng(0).permutation(len(people))
    kept = np.zeros(0, np.int64)
    renamed = np.zeros(0, np.int64)
    moved = 0
    for step in np.array_split(order, STEPS):
        seen = order[: len(kept) + len(step)]
        new = np.full(len(step), -1)
        kept = grouping.group(vectors[seen], least=least, known=np.concatenate([kept, new]))
        before = np.concatenate([renamed, new])
        unused = int(renamed.max(initial=-1)) + 1
        renamed = grouping.same_numbers(grouping.group(vectors[seen], least=least), before, unused=unused)
        moved += int(((before >= 0) & (before != renamed)).sum())
    return {
        "least": least,
        "seconds": seconds,
        "groups": int(groups.max()) + 1,
        **figures(cluster_scores(people, groups)),
        "steps_anew": figures(cluster_scores(people[order], renamed)),
        "steps_anew_moved_share": moved / (len(people) * (STEPS - 1) / 2),
        "steps_keep": figures(cluster_scores(people[order], kept)),
    }


def dbscan(people: NDArray[np.str_], vectors: Floats) -> dict[str, Any]:
    """DBSCAN over the grid: its best by each figure."""
    from scipy.sparse import csr_matrix, vstack
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import sort_graph_by_row_values

    started = time.perf_counter()
    blocks = []  # distances up to the largest epsilon, computed once for all
    for start in range(0, len(vectors), 1000):
        distance = 1 - vectors[start : start + 1000] @ vectors.T
        distance[distance > max(EPSILONS)] = 0  # "no entry"
        blocks.append(csr_matrix(np.where(distance != 0, np.maximum(distance, 1e-9), 0)))
    graph = sort_graph_by_row_values(vstack(blocks).tocsr(), warn_when_not_sorted=False)
    rows = []
    for least in LEAST_GROUPS:
        for epsilon in EPSILONS:
            found = DBSCAN(eps=epsilon, min_samples=least, metric="precomputed").fit_predict(graph)
            scores = figures(cluster_scores(people, alone(found)))
            rows.append({"epsilon": epsilon, "min_samples": least, **scores})
    best = {name: max(rows, key=lambda row: row[name]) for name in ("pairwise_f1", "bcubed_f1")}
    for name, row in best.items():
        if row["epsilon"] in (EPSILONS[0], EPSILONS[-1]):
            raise BenchmarkError(f"the best epsilon by {name} is the grid's end, {row['epsilon']}: widen it")
    return {"best": best, "grid_seconds": time.perf_counter() - started}


def choose(people: NDArray[np.str_], vectors: Floats, threshold: float) -> list[dict[str, Any]]:
    """The settings beside each other on the people that they were chosen on: rank-order edges and whispers."""
    count, own = len(vectors), np.arange(len(vectors))
    strangers = (grouping.suggested_least(vectors, threshold) - threshold) / grouping.LIFT
    rows = []
    for length in (8, 12, 16, 24, 32):
        lists = neighbour_lists(vectors, own, vectors, length)
        for lift in (0.0, 0.2, 0.3, 0.38, 0.45, 0.5):
            least = threshold + lift * strangers
            edges, distance = rank_order_edges(lists, own, count, least=least)
            for farthest in (0.4, 0.6, 0.8, 1.0):
                near = distance <= farthest
                weight = (farthest + 0.1 - distance[near]).astype(np.float32)
                found = whisper(count, Edges(edges.a[near], edges.b[near], weight))
                scores = figures(cluster_scores(people, found))
                rows.append({"neighbours": length, "lift": lift, "farthest": farthest, "least": least, **scores})
    return sorted(rows, key=lambda row: -row["pairwise_f1"] - row["bcubed_f1"])


# ----------------------------------------------------------------------------------------------------------------- scale


# ------------------------------------------------------------------------------------------------------------------- run


def run(args: argparse.Namespace) -> dict[str, Any]:
    spec = resolve(ENCODER, task="encoder").spec
    if spec.threshold is None:
        raise BenchmarkError(f"{ENCODER} has no threshold")
    document: dict[str, Any] = {
        "what": "clustering",
        "machine": common.machine(),
        "versions": common.versions("faceembed", "faiss-cpu", "numpy", "scikit-learn", "leidenalg", "igraph"),
        "encoder": spec.name,
        "split": SPLIT,
        "epsilons": EPSILONS,
        "sets": {},
        "scale": [],
    }
    if not args.only_scale:
        measured, chosen = read_sets(args)
        if args.choose:
            document["chosen_on"] = {"faces": len(chosen[0]), "people": len(set(chosen[0].tolist()))}
            document["choice"] = choose(*chosen, spec.threshold)
        document["others"] = {}
        for method in others.PACKAGES:
            why = others.missing(method)
            say(why or f"{method}: choosing its settings on {len(chosen[0]):,} faces")
            document["others"][method] = {"missing": why} if why else others.choose_other(method, *chosen)
        for name, (people, vectors) in measured.items():
            say(f"{name}: {len(people):,} faces")
            sizes = {"faces": len(people), "people": len(set(people.tolist()))}
            document["sets"][name] = {
                **sizes,
                "ours": ours(people, vectors, spec.threshold),
                "dbscan": dbscan(people, vectors),
                "others": {
                    method: others.run_other(method, found["choice"][0]["settings"], people, vectors)
                    for method, found in document["others"].items()
                    if "choice" in found
                },
            }
    for count in args.scale:
        say(f"{count:,} made-up vectors")
        command = [sys.executable, __file__, "--scale-child", str(count)]
        document["scale"].append(processes.measure(command).json())
    return document


def report(document: dict[str, Any]) -> str:
    """The tables."""
    header = ("", "pairs P", "R", "F1", "BCubed P", "R", "F1")

    def cells(scores: dict[str, Any]) -> list[str]:
        return [
            f"{100 * scores[f'{n}_{k}']:.1f}" for n in ("pairwise", "bcubed") for k in ("precision", "recall", "f1")
        ]

    parts = []
    for name, entry in document["sets"].items():
        mine, best = entry["ours"], entry["dbscan"]["best"]
        rows = [
            ("ours", *cells(mine)),
            (f"ours, {STEPS} steps", *cells(mine["steps_anew"])),
            (f"ours, {STEPS} steps, --keep", *cells(mine["steps_keep"])),
            *(
                (f"DBSCAN, best {key.replace('_', ' ')}: {row['epsilon']:g}/{row['min_samples']}", *cells(row))
                for key, row in best.items()
            ),
            *(
                (f"{method}, {'/'.join(map(str, row['settings'].values()))}", *cells(row))
                for method, row in entry["others"].items()
            ),
        ]
        parts.append(f"{name}: {entry['faces']:,} faces, {entry['people']:,} people, %\n" + common.table(header, rows))
    parts += [found["missing"] for found in document.get("others", {}).values() if "missing" in found]
    for method, found in document.get("others", {}).items():
        if found.get("failed"):
            error = found["failed"][0]["error"]
            parts.append(
                f"{method}: {len(found['failed'])} settings of its grid fail and were not chosen from: {error}"
            )
    for row in document.get("choice", [])[:8]:
        parts.append(f"choice: {row}")
    for big in document["scale"]:
        parts.append(
            f"{big['vectors']:,} made-up vectors: {big['seconds']:.0f} s ({big['cpu_seconds']:.0f} s of processor), peak "
            f"{big['peak_bytes'] / common.MIB:,.0f} MiB ({big['inputs_bytes'] / common.MIB:,.0f} before), neighbours found "
            f"{100 * big['neighbours_found']:.1f} %, pairs' F1 {100 * big['pairwise_f1']:.1f} %"
        )
    return "\n\n".join(parts)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Does `faceembed cluster` put photos of one person together?")
    parser.add_argument("--lfw", type=Path, metavar="FAISS", help="an index of lfw, instead of embedding it")
    parser.add_argument("--wild", type=Path, metavar="FAISS", help="an index of people_wild, instead of embedding it")
    parser.add_argument("--choose", action="store_true", help="also show the choice of the settings")
    parser.add_argument(
        "--scale", type=int, action="append", default=[], metavar="N", help="also group N made-up vectors"
    )
    parser.add_argument("--only-scale", action="store_true", help="nothing but --scale")
    parser.add_argument("--scale-child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    if args.scale_child:
        threshold = resolve(ENCODER, task="encoder").spec.threshold
        assert threshold is not None
        common.emit(scale_child(args.scale_child, threshold))
        return
    common.run_and_report(args, run, report)


if __name__ == "__main__":
    main()
