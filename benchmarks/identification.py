"""Who is it, open set: templates of several photos against single ones, on people_fiw and people_wild.

    python benchmarks/identification.py --index people.faiss        # an index of both folders: a minute
    python benchmarks/identification.py                             # embeds both first

How. Half of the people are enrolled with `PHOTOS` photos each; their other photos are probes that should be found, and all photos of
the other half are strangers' probes. FNIR is the share of the first that are not given their own name at the threshold at which so many of
the second are given any (FPIR). FIW's families are split as they fall: parents of enrolled people are among the strangers. Everything
is drawn `ROUNDS` times and averaged; an interval is over people drawn anew (bootstrap), all rounds together.

    choosing    FIW's people of use 'train' and the 180 training people of people_wild (seed 7): what `templates.RULE` and its quality are
                chosen on
    measuring   FIW's people of use 'test' and 'validate' and the 60 other people of people_wild: looked at once

"FPIR where 1 is stated" is what came of the threshold that `identify` takes for 1 % and the gallery's size (`open_set`).
What bounds it: labels. About one in ten of people_wild and some of FIW are wrong, which costs every rule.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import load_faces
from faceembed.engine.models.registry import resolve
from faceembed.engine.people.open_set import carried, open_set_limit
from faceembed.engine.people.templates import Templates, template
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.embed import embed
from faceembed.trainer.data.split import split_people

ENCODER = "faceembed-r29"
PHOTOS, ROUNDS, RESAMPLES, FPIR = 3, 5, 200, 0.01
SPLIT = {"train": 180, "validate": 20, "test": 40, "seed": 7}
Floats = NDArray[np.float32]


def main() -> None:
    """Measure, print tables, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, metavar="FAISS", help="an index of people_wild and people_fiw")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--json", type=Path, help="also write the result here")
    common.run_and_report(parser.parse_args(), run, report)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Both halves of the table."""
    root = common.data_root()
    sets = [root / "people_wild", root / "people_fiw"]
    with tempfile.TemporaryDirectory(prefix="faceembed-identification-") as folder:
        index = args.index or Path(folder) / "people.faiss"
        if args.index is None:
            embed(sets, index, settings=EmbedSettings(encoder=args.encoder))
        faces = load_faces(IndexFiles.of(index))
    spec = resolve(args.encoder, task="encoder").spec
    paths = [Path(decode_path(path)) for path in faces.rows.column("path").to_pylist()]
    people = np.array([f"{path.parent.parent.name}/{path.parent.name}" for path in paths])
    qualities = quality_of(faces.rows)
    parts = {}
    for name, chosen in parts_of(root).items():
        mask = np.isin(people, sorted(chosen))
        values = {quality: of[mask] for quality, of in qualities.items()}
        parts[name] = measure(faces.vectors[mask], people[mask], values, spec)
    return {"machine": common.machine(), "encoder": spec.name, "sha256": spec.sha256, "parts": parts}


def parts_of(root: Path) -> dict[str, set[str]]:
    """Who is in which part, as ``folder/person``."""
    with open(root / "fiw_members.csv", newline="", encoding="utf-8") as file:
        use = {row["person"]: row["use"] for row in csv.DictReader(file)}
    wild = sorted(path.name for path in (root / "people_wild").iterdir())
    train = set(split_people(wild, **SPLIT)["train"])
    return {
        "choosing": {f"people_fiw/{who}" for who, of in use.items() if of == "train"}
        | {f"people_wild/{who}" for who in train},
        "measuring": {f"people_fiw/{who}" for who, of in use.items() if of in ("test", "validate")}
        | {f"people_wild/{who}" for who in wild if who not in train},
    }


def quality_of(rows: Any) -> dict[str, Floats]:
    """What may weight a photo, (F,) each, above 0."""
    column = {name: rows.column(name).to_numpy().astype(np.float32) for name in ("norm", "score", "real", "w", "h")}
    size = np.minimum(column["w"], column["h"])
    real = np.clip(np.nan_to_num(column["real"], nan=1.0), 1e-3, 1)
    return {
        "norm": column["norm"],
        "real": real,
        "norm x real": column["norm"] * real,
        "score": column["score"],
        "side": np.minimum(size, 150),
    }


def rules(qualities: Mapping[str, Floats]) -> dict[str, Callable[[Floats, NDArray[np.int64]], Floats]]:
    """Each rule by its name: rows of a person, to a template."""
    flat = np.ones(len(next(iter(qualities.values()))), np.float32)
    found: dict[str, Callable[[Floats, NDArray[np.int64]], Floats]] = {
        "one photo": lambda v, rows: v[rows[:1]],
        "mean": lambda v, rows: template(v[rows], flat[rows], "mean"),
        "max": lambda v, rows: template(v[rows], flat[rows], "max"),
    }
    for name, quality in qualities.items():
        found[f"mean by {name}"] = lambda v, rows, q=quality: template(v[rows], q[rows], "quality")  # type: ignore[misc]
        found[f"best two by {name}"] = lambda v, rows, q=quality: template(
            v[rows[np.argsort(-q[rows], kind="stable")[:2]]], flat[:2], "mean"
        )  # type: ignore[misc]
        found[f"best photo by {name}"] = lambda v, rows, q=quality: v[rows[[int(q[rows].argmax())]]]  # type: ignore[misc]
    return found


def measure(vectors: Floats, people: NDArray[Any], qualities: Mapping[str, Floats], spec: Any) -> dict[str, Any]:
    """FNIR of every rule, in each of the rounds, with an interval over people."""
    names, who = np.unique(people, return_inverse=True)
    rng = np.random.default_rng(7)
    ways = rules(qualities)
    outcomes: dict[str, list[tuple[NDArray[Any], ...]]] = {name: [] for name in ways}
    stated: dict[str, list[float]] = {name: [] for name in ways}
    enrolled_people = 0
    by_person = [np.flatnonzero(who == number) for number in range(len(names))]
    for _ in range(ROUNDS):
        order = rng.permutation(len(names))
        enrolled = [number for number in order[: len(names) // 2] if len(by_person[number]) > PHOTOS]
        strangers = np.concatenate([by_person[number] for number in order[len(names) // 2 :]])
        chosen = {number: rng.permutation(by_person[number]) for number in enrolled}
        probes = np.concatenate([rows[PHOTOS:] for rows in chosen.values()])
        owner = np.concatenate([np.full(len(rows) - PHOTOS, at) for at, rows in enumerate(chosen.values())])
        enrolled_people = len(enrolled)
        limit = open_set_limit(spec, people=len(enrolled), fpir=FPIR)
        shown = vectors[np.concatenate([rows[:PHOTOS] for rows in chosen.values()])]
        for name, way in ways.items():
            gallery = Templates([way(vectors, rows[:PHOTOS]) for rows in chosen.values()])
            mine, others = gallery.scores(vectors[probes]), gallery.scores(vectors[strangers]).max(axis=1)
            first = mine.argmax(axis=1) == owner
            outcomes[name].append((who[probes], first, mine.max(axis=1), who[strangers], others))
            kept = limit if " photo" in name else carried(limit, spec, shown, gallery)
            stated[name].append(float((others >= kept.threshold).mean()))
    rows = {name: rates(found, len(names)) for name, found in outcomes.items()}
    return {
        "people": len(names),
        "enrolled": enrolled_people,
        "photos": len(vectors),
        "rules": {name: {**row, "stated": round(float(np.mean(stated[name])), 5)} for name, row in rows.items()},
    }


def rates(found: list[tuple[NDArray[Any], ...]], people: int) -> dict[str, Any]:
    """Rank-1, FNIR at FPIR over the rounds, and its interval over people."""
    rng = np.random.default_rng(0)

    def fnir(weights: NDArray[np.float64]) -> tuple[float, float]:
        values, ranks = [], []
        for probe, first, best, stranger, others in found:
            order = np.argsort(-others)
            share = np.cumsum(weights[stranger][order]) / weights[stranger].sum()
            at = int(np.searchsorted(share, FPIR, side="right"))
            limit = others[order[at]]  # one more would pass the rate
            hit = first & (best > limit)
            values.append(1 - float((weights[probe] * hit).sum() / weights[probe].sum()))
            ranks.append(float((weights[probe] * first).sum() / weights[probe].sum()))
        return float(np.mean(values)), float(np.mean(ranks))

    whole, rank = fnir(np.ones(people))
    drawn = [
        fnir(np.bincount(rng.integers(0, people, people), minlength=people).astype(float))[0] for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "fnir": round(whole, 5),
        "low": round(float(low), 5),
        "high": round(float(high), 5),
        "rank_1": round(rank, 5),
    }


def report(document: dict[str, Any]) -> str:
    """A table for each part."""
    text = [f"{document['encoder']}, {PHOTOS} photos a person, FPIR {FPIR:.0%}"]
    for name, part in document["parts"].items():
        alone = part["rules"]["one photo"]["fnir"]
        text.append(f"\n{name}: {part['people']:,} people, {part['enrolled']:,} enrolled, {part['photos']:,} photos")
        rows = [
            (
                rule,
                f"{100 * of['fnir']:.1f} ({100 * of['low']:.1f} to {100 * of['high']:.1f})",
                f"{100 * (1 - of['fnir'] / alone):.0f}",
                f"{100 * of['rank_1']:.1f}",
                f"{100 * of['stated']:.2f}",
            )
            for rule, of in part["rules"].items()
        ]
        text.append(common.table(["rule", "FNIR %", "fewer misses %", "rank-1 %", "FPIR where 1 is stated, %"], rows))
    return "\n".join(text)


if __name__ == "__main__":
    main()
