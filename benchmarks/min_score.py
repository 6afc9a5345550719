"""The least score of a face: how an aligner's `min_score` is chosen, and what it costs and keeps out on other pictures.

    python benchmarks/min_score.py                                  # the built-in aligner, 4 minutes on one core
    python benchmarks/min_score.py --quick                          # 40 pictures of each set: a look, no figure to quote
    python benchmarks/min_score.py --aligner mtcnn --json results/min_score_mtcnn.json

Chosen on: photos of the training people of `people_wild` (split of seed 7), LFW outside View 2, and the training half of `no_faces`,
pictures without a person. Of the scores, in hundredths, that lose at most 0.5 % of the first and 0.1 % of the second, those that let
fewest false faces into the third, and of these the lowest. Measured on: the test people, 2,000 photos of View 2, the test half.

A photo is lost where its best face scores less; a false face is one in a picture without a person, counted once a picture. Statues,
masks and drawn faces are counted apart, because what is seen there is a matter of taste, and `hard_crops`, which this aligner chose
itself, not at all. Photos without any face before are none's loss. Intervals of 95 %, Wilson.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.metrics import wilson_interval
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.trainer.data.split import split_people

SPLIT, SPLIT_SEED = {"train": 180, "validate": 20, "test": 40}, 7
VIEW_2, SEED, QUICK = 2000, 7, 40
MOST_LOST = {"people_wild, training people": 0.005, "LFW outside View 2": 0.001}
CHOSEN_ON = "no_faces, training half"
TASTE = "statues_drawings"
SCORES = np.round(np.arange(0.0, 1.0, 0.01), 2)


def main() -> None:
    """Measure, print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aligner", default="faceembed-align")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} pictures of each set")
    parser.add_argument("--threads", type=int, default=1, help="0: all cores")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--json", type=Path, help="also write the result here")
    common.run_and_report(parser.parse_args(), run, report)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The best score of every picture, what is chosen by it, and what that costs."""
    runtime = RuntimeSettings(device="cpu", precision=args.precision, threads=args.threads)
    settings = EmbedSettings(aligner=args.aligner, faces="all", min_score=0.0, runtime=runtime)
    sets = {name: common.sample(paths, QUICK if args.quick else 0, seed=SEED) for name, paths in pictures().items()}
    scores = best_scores(settings, sets)
    aligner = resolve(args.aligner, task="aligner")
    chosen = choose(scores)
    shown = sorted({0.0, chosen, aligner.spec.min_score or 0.0})
    return {
        "machine": common.machine(),
        "aligner": aligner.spec.name,
        "sha256": aligner.spec.sha256,
        "quick": args.quick,
        "chosen": chosen,
        "min_score": aligner.spec.min_score,
        "sets": {
            name: {
                "pictures": len(best),
                "without_any": int((best == 0).sum()),
                "without_a_person": is_empty(name),
                "at": {f"{score:.2f}": counted(best, score, empty=is_empty(name)) for score in shown},
            }
            for name, best in scores.items()
        },
    }


def pictures() -> dict[str, list[str]]:
    """Every set by its name; those of `no_faces` hold no person."""
    root = common.data_root()
    wild, lfw, empty = root / "people_wild", root / "lfw", root / "no_faces"
    split = split_people(os.listdir(wild), **SPLIT, seed=SPLIT_SEED)

    def people(part: str) -> list[str]:
        return [str(wild / name / photo) for name in split[part] for photo in common.list_photos(wild / name)]

    def without(half: str, *, taste: bool) -> list[str]:
        found = (path for path in common.list_photos(empty / half) if not path.startswith("hard_crops"))
        return [str(empty / half / path) for path in found if path.startswith(TASTE) is taste]

    listed = read_pairs(root / "lfw_pairs.txt", root=lfw).photos
    known = {Path(path).parent.name for path in listed}
    outside = [str(lfw / path) for path in common.list_photos(lfw) if Path(path).parts[0] not in known]
    view_2 = [str(lfw / path) for path in common.list_photos(lfw) if Path(path).parts[0] in known]
    return {
        "people_wild, training people": people("train"),
        "LFW outside View 2": outside,
        CHOSEN_ON: without("train", taste=False),
        f"{CHOSEN_ON}: statues, drawings": without("train", taste=True),
        "people_wild, test people": people("test"),
        "LFW, people of View 2": common.sample(view_2, VIEW_2, seed=SEED),
        "no_faces, test half": without("test", taste=False),
        "no_faces, test half: statues, drawings": without("test", taste=True),
    }


def is_empty(name: str) -> bool:
    """Whether the pictures of a set hold no person."""
    return name.startswith("no_faces")


def best_scores(settings: EmbedSettings, sets: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.float64]]:
    """The highest score of a face in each picture that can be read, 0 where nothing is found."""
    spec = resolve(settings.encoder, task="encoder").spec
    aligner = loading.resolve_aligner(settings)
    first = [photo_file(path) for path in next(iter(sets.values()))]
    cutter = loading.open_cutter(settings, spec, aligner, first, notice=common.say)
    scores = {}
    for name, paths in sets.items():
        best: list[float] = []
        with contextlib.closing(cutter.cut([photo_file(path) for path in paths])) as cuts:
            for cut in cuts:
                unread = {failure.photo.path for failure in cut.failures if failure.stage not in ("detect", "align")}
                found = np.zeros(len(cut.photos))
                np.maximum.at(found, cut.faces.photo, cut.faces.scores.astype(np.float64))
                scored = zip(cut.photos, found, strict=True)
                best += [float(score) for photo, score in scored if photo.path not in unread]
        scores[name] = np.array(best)
        common.say(f"{name}: {len(best):,} pictures")
    return scores


def choose(scores: Mapping[str, NDArray[np.float64]]) -> float:
    """The least score, by the rule at the head of this file; 0 where no score keeps a false face out."""
    allowed = [
        float(score)
        for score in SCORES
        if all(_lost(scores[name], score) <= most * len(scores[name]) for name, most in MOST_LOST.items())
    ]
    return min(allowed, key=lambda score: (int((scores[CHOSEN_ON] >= max(score, 1e-9)).sum()), score))


def _lost(best: NDArray[np.float64], score: float) -> int:
    return int(((best > 0) & (best < score)).sum())


def counted(best: NDArray[np.float64], score: float, *, empty: bool) -> dict[str, Any]:
    """How many pictures go wrong at a score: false faces where there is no person, else photos lost."""
    wrong = int((best >= max(score, 1e-9)).sum()) if empty else _lost(best, score)
    return {
        "count": wrong,
        "share": wrong / max(len(best), 1),
        "ci95": list(wilson_interval(wrong, len(best))) if len(best) else None,
    }


def report(document: dict[str, Any]) -> str:
    """The table."""
    scores = list(next(iter(document["sets"].values()))["at"])
    rows = []
    for name, found in document["sets"].items():
        what = "false faces" if found["without_a_person"] else "photos lost"
        cells = [_cell(found["at"][score], found["pictures"]) for score in scores]
        rows.append((f"{name}: {what}", f"{found['pictures']:,}", *cells))
    lines = [common.table(("pictures", "of", *(f"from {score} on" for score in scores)), rows)]
    lines.append(f"chosen: {document['chosen']:.2f}; {document['aligner']} has {document['min_score']}")
    if document["quick"]:
        lines.append("a quick look: too few pictures to choose by or to quote")
    return "\n".join(lines)


def _cell(found: dict[str, Any], pictures: int) -> str:
    if found["ci95"] is None:
        return "-"
    low, high = found["ci95"]
    return f"{found['count']} ({100 * found['share']:.2f} %; {100 * low:.2f} to {100 * high:.2f})"


if __name__ == "__main__":
    main()
