"""How often the 95 % intervals of `faceembed eval` hold the truth, at several sizes of lists.

    faceembed eval lfw_pairs.txt --root lfw --scores lfw.csv
    python benchmarks/intervals.py --scores lfw.csv --json benchmarks/results/intervals.json

Lists of so many pairs a class are drawn, with replacement, from the scores of a large list, whose own rates are the truth then. Of FNMR
at a fixed FMR the truth is that of the threshold which the drawn list gave. Beside them, what the plain bootstrap and DeLong give.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.intervals import auc_bounds, eer_interval, share_bounds

SIZES = (10, 25, 50, 100, 300)
DRAWS = 400
Floats = NDArray[np.float64]


def read_scores(path: Path) -> tuple[Floats, Floats]:
    """Scores of the positives and of the negatives in a file of ``eval --scores``."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(float(row["similarity"]), row["label"] == "1") for row in csv.DictReader(file)]
    values, labels = np.array([score for score, _ in rows]), np.array([label for _, label in rows])
    return values[labels], values[~labels]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Draw and count."""
    positives, negatives = read_scores(args.scores)
    whole = metrics.roc(np.r_[positives, negatives], np.repeat([True, False], [len(positives), len(negatives)]))
    truth = {"eer": metrics.eer_of(whole)[0], "auc": metrics.auc(whole)}
    rng = np.random.default_rng(args.seed)
    rows = []
    for size in args.sizes:
        hits: dict[str, list[bool]] = {}
        widths: dict[str, list[float]] = {}

        def note(name: str, ends: tuple[float, float], true: float, hits: Any = hits, widths: Any = widths) -> None:
            hits.setdefault(name, []).append(ends[0] - 1e-12 <= true <= ends[1] + 1e-12)
            widths.setdefault(name, []).append(ends[1] - ends[0])

        labels = np.repeat([True, False], size)
        for draw in range(args.draws):
            scores = np.r_[rng.choice(positives, size), rng.choice(negatives, size)]
            curve = metrics.roc(scores, labels)
            note("eer", eer_interval(scores, labels, resamples=args.resamples, seed=draw).ends, truth["eer"])
            note("eer_bootstrap", metrics.bootstrap_eer(curve, resamples=args.resamples, seed=draw), truth["eer"])
            note("auc", auc_bounds(scores, labels), truth["auc"])
            note("auc_delong", metrics.auc_interval(scores, labels), truth["auc"])
            if (fnmr := metrics.fnmr_at_fmr(curve, 1)) is not None:
                last = int(np.searchsorted(curve.fmr, (size // 10) / size, side="right")) - 1
                true = float((positives < curve.thresholds[last]).mean())
                note("fnmr_at_fmr_1e-1", share_bounds(round(fnmr * size), size), true)
        rows.append(
            {
                "pairs_a_class": size,
                "coverage": {name: round(float(np.mean(found)), 4) for name, found in hits.items()},
                "mean_width": {name: round(float(np.mean(found)), 5) for name, found in widths.items()},
            }
        )
        common.say(f"{size} pairs a class done")
    settings = {"draws": args.draws, "resamples": args.resamples, "seed": args.seed, "scores": args.scores.name}
    population = {"positives": len(positives), "negatives": len(negatives)}
    return {"benchmark": "intervals", "settings": settings, "population": population, "truth": truth, "rows": rows}


def report(document: dict[str, Any]) -> str:
    """The table, for people."""
    names = list(document["rows"][0]["coverage"])
    head = ("pairs a class", *(f"{name} %" for name in names))
    rows = [
        (row["pairs_a_class"], *(f"{100 * row['coverage'][name]:.1f}" for name in names)) for row in document["rows"]
    ]
    truth = document["truth"]
    title = f"coverage of 95 % intervals, {document['settings']['draws']} draws; EER {100 * truth['eer']:.2f} %, AUC {truth['auc']:.5f}"
    return f"{title}\n" + common.table(head, rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Coverage of the intervals of faceembed eval.")
    parser.add_argument("--scores", type=Path, required=True, help="a file that faceembed eval --scores wrote")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=list(SIZES))
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, run: Callable[[argparse.Namespace], dict[str, Any]] = run) -> None:
    args = parse(arguments)
    document = run(args)
    print(report(document), end="\n\n")
    common.emit(document, args.json)


if __name__ == "__main__":
    main()
