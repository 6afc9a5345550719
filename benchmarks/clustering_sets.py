"""Groups of faces by ours, HDBSCAN, Leiden and Chinese whispers in one run: LFW, people_wild, and people_fiw, whose people are kin.

    python benchmarks/clustering_sets.py --indexes FOLDER        # FOLDER/lfw-ENCODER.faiss and so on, made by `embed`; some minutes
    python benchmarks/clustering_sets.py --indexes FOLDER --encoder faceembed-r29 --encoder faceembed-accurate --json sets.json

How. One face a photo, the same embeddings for all. Ours runs as `faceembed cluster` does. The settings of the three others are chosen
anew for each encoder, by the sum of the pairwise and the BCubed F1, from grids about its threshold (`clustering_others.grids_for`), on people who are in no
row below: the 180 training people of people_wild, and LFW's people outside its pair list, on whom ours were chosen (with `dlib-resnet`, once for all encoders).

    lfw, pair list        people who are named in LFW's pair list
    people_wild, others   60 people outside the 180
    people_fiw, others    people of families of use 'validate' and 'test', whom no encoder of ours was trained on
    people_fiw            all of them; training people of the encoder are among them, so it flatters every method

"Kin" is the share of wrongly joined pairs whose two people are of one family. FIW's families are whole in a part, so every parent,
child, brother and sister of a person is there to be taken for them.

What bounds it. Labels (about one in ten of people_wild is wrong) and, in FIW, small and old photos: see `clustering.py`.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import clustering
import clustering_others as others
import common
import numpy as np
from clustering import Set, part
from common import BenchmarkError, say
from numpy.typing import NDArray

from faceembed.engine.index.clusters import group as grouping
from faceembed.engine.index.clusters.scores import cluster_scores
from faceembed.engine.models.registry import resolve
from faceembed.trainer.data.split import split_people

ENCODERS = ("faceembed-r29", "faceembed-accurate")
DATA = ("lfw", "people_wild", "people_fiw")


def read_parts(indexes: Path, encoder: str) -> tuple[dict[str, Set], Set]:
    """The sets that are measured, and the faces that settings are chosen on."""
    root = common.data_root()
    files = {name: indexes / f"{name}-{encoder}.faiss" for name in DATA}
    if absent := [str(path) for path in files.values() if not path.is_file()]:
        raise BenchmarkError(f"no {', '.join(absent)}: make them by `faceembed embed FOLDER -o … --encoder {encoder}`")
    lfw, wild, fiw = (clustering.read_set(files[name]) for name in DATA)
    listed = np.isin(lfw[0], sorted(clustering.named_in_pairs(root / "lfw_pairs.txt")))
    training = np.isin(wild[0], split_people(sorted(set(wild[0].tolist())), **clustering.SPLIT)["train"])
    with open(root / "fiw_members.csv", newline="", encoding="utf-8") as file:
        unseen = sorted(row["person"] for row in csv.DictReader(file) if row["use"] in ("validate", "test"))
    chosen = (
        np.concatenate([wild[0][training], lfw[0][~listed]]),
        np.concatenate([wild[1][training], lfw[1][~listed]]),
    )
    measured = {
        "lfw, pair list": part(lfw, listed),
        "people_wild, others": part(wild, ~training),
        "people_fiw, others": part(fiw, np.isin(fiw[0], unseen)),
        "people_fiw": fiw,
    }
    return measured, chosen


def families(people: NDArray[np.str_]) -> NDArray[np.str_]:
    """FIW's families, ``F0001`` of ``F0001_MID2``; of other names, the names."""
    return np.array([name.split("_MID")[0] for name in people.tolist()])


def kin_share(people: NDArray[np.str_], groups: NDArray[np.int64]) -> float | None:
    """Of the pairs of different people that were joined, the share of one family; None where there are none."""

    def together(*labels: NDArray[Any]) -> int:
        """Pairs that are alike in all of these labels."""
        numbers = np.stack([np.unique(of, return_inverse=True)[1] for of in labels], axis=1)
        counts = np.unique(numbers, axis=0, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    same = together(groups, people)
    wrong = together(groups) - same
    return (together(groups, families(people)) - same) / wrong if wrong else None


def one_set(faces: Set, settings: Mapping[str, others.Settings], threshold: float) -> dict[str, Any]:
    """Every method on one set."""
    people, vectors = faces
    found: dict[str, Any] = {"faces": len(people), "people": len(set(people.tolist())), "methods": {}}
    for method, chosen in {"ours": {"least": grouping.suggested_least(vectors, threshold)}, **settings}.items():
        started = time.process_time()
        groups = grouping.group(vectors, **chosen) if method == "ours" else others.groups_of(method, chosen, vectors)
        found["methods"][method] = {
            "settings": chosen,
            "cpu_seconds": time.process_time() - started,
            "groups": len(set(groups.tolist())),
            **others.figures(cluster_scores(people, groups)),
            "kin": kin_share(people, groups),
        }
    return found


def one_encoder(indexes: Path, encoder: str) -> dict[str, Any]:
    """Settings chosen on some people, then everybody else."""
    spec = resolve(encoder, task="encoder").spec
    if spec.threshold is None:
        raise BenchmarkError(f"{encoder} has no threshold")
    measured, chosen = read_parts(indexes, encoder)
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(chosen[0]), size=(2, 100_000))
    strangers = float(np.median(np.einsum("nd,nd->n", chosen[1][a], chosen[1][b])[chosen[0][a] != chosen[0][b]]))
    grids = others.grids_for(spec.threshold, strangers)
    row: dict[str, Any] = {"sha256": spec.sha256, "threshold": spec.threshold, "strangers": strangers, "missing": []}
    row["chosen_on"] = {"faces": len(chosen[0]), "people": len(set(chosen[0].tolist()))}
    settings = {}
    for method in others.PACKAGES:
        if why := others.missing(method):
            row["missing"].append(why)
            continue
        say(f"{encoder}, {method}: choosing its settings on {len(chosen[0]):,} faces")
        found = others.choose_other(method, *chosen, grid=grids[method])
        settings[method] = found["choice"][0]["settings"]
        row.setdefault("choice", {})[method] = {"best": found["choice"][:3], "failed": len(found["failed"])}
    row["sets"] = {}
    for name, faces in measured.items():
        say(f"{encoder}, {name}: {len(faces[0]):,} faces")
        row["sets"][name] = one_set(faces, settings, spec.threshold)
    return row


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All encoders."""
    return {
        "what": "clustering of three sets",
        "machine": common.machine(),
        "versions": common.versions("faceembed", "faiss-cpu", "numpy", "scikit-learn", "leidenalg", "igraph"),
        "encoders": {encoder: one_encoder(args.indexes, encoder) for encoder in args.encoder or ENCODERS},
    }


def report(document: dict[str, Any]) -> str:
    """A table for each encoder and set."""
    parts = []
    for encoder, row in document["encoders"].items():
        for name, found in row["sets"].items():
            lines = []
            for method, of in found["methods"].items():
                rates = [
                    of[f"{kind}_{key}"] for kind in ("pairwise", "bcubed") for key in ("precision", "recall", "f1")
                ]
                kin = "" if of["kin"] is None else f"{100 * of['kin']:.0f}"
                lines.append(
                    (
                        f"{method}, {'/'.join(f'{v:.4g}' if isinstance(v, float) else str(v) for v in of['settings'].values())}",
                        *(f"{100 * rate:.1f}" for rate in rates),
                        kin,
                        f"{of['groups']:,}",
                        f"{of['cpu_seconds']:.1f}",
                    )
                )
            head = ("", "pairs P", "R", "F1", "BCubed P", "R", "F1", "kin", "groups", "CPU s")
            title = f"{encoder}, {name}: {found['faces']:,} faces, {found['people']:,} people, %\n"
            parts.append(title + common.table(head, lines))
        parts += row["missing"]
    return "\n\n".join(parts)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--indexes", type=Path, required=True, metavar="FOLDER", help="where DATA-ENCODER.faiss lie")
    parser.add_argument("--encoder", action="append", help=f"may be repeated; by default {' and '.join(ENCODERS)}")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    common.run_and_report(parse(), run, report)
