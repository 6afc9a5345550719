"""faceembed against the `face_recognition` recipe: the same files, the same cores, in turns.

    python benchmarks/vs_face_recognition.py                                  # about 15 minutes on 2 cores
    python benchmarks/vs_face_recognition.py --photos 200 --rounds 1 --pairs 300          # a quick look
    python benchmarks/vs_face_recognition.py --json vs.json --plot vs.png --reuse-peer peer.npz
    python benchmarks/vs_face_recognition.py --from-json vs.json --plot vs.png            # draw again, measure nothing

What bounds it. For both, detection: a face may be anywhere at any size, so every pixel of a pyramid of scales is looked at,
while encoding is paid once a face. The identity in our default encoder is the peer's 29-layer ResNet (about 0.3 G multiply-adds a
face); dlib runs it at 15 to 20 faces/s on a core, OpenVINO in BF16 at some 750, so the encoder alone would allow a ratio of 40, less
what its gate costs, and our detector decides how much of that is left. Error rates differ by what an encoder is shown (landmarks,
alignment, which photos have a face found at all) and by the gate; `--embed-command "python -m faceembed embed --encoder dlib-resnet"`
leaves that out. The memory of ours is OpenVINO's, with batches in flight.

How. Both are whole processes, measured from outside from start to exit (processes.py): models are loaded and files written
inside the time. The rate without start-up is what each program says of itself: the peer leaves out Python, imports and
models, ours only Python and imports. A round is one run of each, in an order that alternates; ratios are taken within a
round, and the median of the rounds is quoted, so a slow minute of the machine hurts both. Before, every file is read once
(page cache) and each program runs once on a few photos (its own caches).
Both sides are kept on `--workers` cores. EER: LFW View 2, every photo of the list embedded once by each, see accuracy.py.

Not measured: whether the face found is the right one or a face at all (every photo here shows one, so the detection rate
counts finds); disks and networks; large photos; GPUs; several faces in a photo. The peer is a recipe that engineers use,
not the fastest program that dlib allows. Load by others on the machine disturbs rates: see `load_1min` in the JSON, and the
ratio of processor time a photo, which hardly minds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accuracy
import common
import numpy as np
import processes
from common import BenchmarkError, say
from turns import load_peer, measure_set, parsed, run_ours, run_peer, set_table, summarise

from faceembed.engine.evaluate.pair_formats import read_pairs

PEER = "peer_face_recognition.py"


# -------------------------------------------------------------------------------------------------------------- the run


def peer_of_pairs(root: Path, names: Sequence[str], args: argparse.Namespace, scratch: Path) -> tuple[Any, bool]:
    """The peer's embeddings of the pair list's photos, and whether they come from an earlier run."""
    cache: Path | None = args.reuse_peer
    if cache and cache.is_file():
        with np.load(cache) as data:
            known = set(data["paths"].tolist())
        if known.issuperset(names):
            say(f"  peer: embeddings reused from {cache}")
            return load_peer(cache), True
        say(f"  peer: {cache} lacks photos of this pair list; embedding them again")
    measured, found = run_peer(PEER, root, names, scratch, workers=args.workers)
    say(f"  peer: {len(names) / measured.seconds:.1f} photos/s")
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_bytes((scratch / "peer.npz").read_bytes())
    return found, False


def measure_eer(root: Path, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """LFW View 2: each side embeds every photo of the list once."""
    pairs = read_pairs(root / "lfw_pairs.txt", root="")
    if args.pairs:
        pairs = accuracy.take_pairs(pairs, args.pairs)
    names = list(pairs.photos)
    say(f"EER: {len(pairs.pairs)} pairs of {len(names)} photos")
    peer, reused = peer_of_pairs(root / "lfw", names, args, scratch)
    with tempfile.TemporaryDirectory(dir=scratch) as links:
        folder = common.link_photos(root / "lfw", names, Path(links))
        measured, ours = run_ours(folder, scratch, command=args.embed_command)
    say(f"  ours: {len(names) / measured.seconds:.1f} photos/s")
    return accuracy.compare(pairs, peer, ours) | {"peer_reused": reused, "complete": not args.pairs}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    root = common.data_root()
    document: dict[str, Any] = {
        "benchmark": "vs_face_recognition",
        "machine": common.machine() | {"cores": processes.pin_to_cores(args.workers)},
        "versions": common.versions("faceembed", "dlib-bin", "openvino", "onnxruntime", "numpy"),
        "settings": {
            "photos": args.photos,
            "times": args.times,
            "rounds": args.rounds,
            "workers": args.workers,
            "seed": args.seed,
        },
        "sets": {},
        "eer": None,
    }
    with tempfile.TemporaryDirectory(prefix="faceembed-vs-") as temporary:
        scratch = Path(temporary)
        for position, name in enumerate(args.sets):
            names = common.sample(common.list_photos(root / name), args.photos, seed=args.seed)
            if position == 0:
                say("warming up")
                run_peer(PEER, root / name, names[: processes.WARM_UP_PHOTOS], scratch, workers=args.workers)
                processes.warm_up(args.embed_command, root / name, names)
            say(f"{name}: {len(names)} photos")
            rounds = measure_set(PEER, root / name, names, args, scratch)
            document["sets"][name] = {"photos": len(names) * args.times, **summarise(rounds), "rounds": rounds}
        if not args.skip_eer:
            document["eer"] = measure_eer(root, args, scratch)
    return document


# --------------------------------------------------------------------------------------------------------------- output


def report(document: dict[str, Any]) -> str:
    """The tables, for people."""
    parts = [set_table(name, entry) for name, entry in document["sets"].items()]
    if document["eer"]:
        parts.append(_eer_table(document["eer"]))
    return "\n\n".join(parts)


def _eer_table(entry: dict[str, Any]) -> str:
    rows = []
    for key, label in (
        ("peer_euclidean", "peer, Euclidean (its own)"),
        ("peer_cosine", "peer, cosine"),
        ("ours_cosine", "ours, cosine"),
    ):
        rate, (low, high) = entry[key]["eer"], entry[key]["ci95"]
        no_face = entry["no_face"]["ours" if key == "ours_cosine" else "peer"]
        rows.append((label, f"{100 * rate:.2f}", f"{100 * low:.2f}-{100 * high:.2f}", no_face))
    title = f"LFW View 2: {entry['pairs']} pairs, {entry['photos']} photos; a photo without a face scores lowest"
    title += "" if entry["complete"] else " - A SUBSET of the pairs: not LFW's EER"
    title += "; the peer's embeddings are from an earlier run" if entry["peer_reused"] else ""
    low, high = (100 * bound for bound in entry["difference_ci95"])
    ratio = "-" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
    foot = f"ours/peer (Euclidean) {ratio}; difference on the same pairs {low:+.2f} to {high:+.2f} points (95 %)"
    return title + "\n" + common.table(("", "EER %", "95 %", "no face"), rows) + "\n" + foot


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="faceembed against the face_recognition recipe, on the same files.")
    parser.add_argument("--photos", type=int, default=1000, help="photos of each set, 0 for all (default 1000)")
    parser.add_argument(
        "--times", type=int, default=1, help="copies of each photo, so that start-up counts less (default 1)"
    )
    parser.add_argument("--sets", default="lfw,people_wild", help="folders of the data (default lfw,people_wild)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side on each set (default 3)")
    parser.add_argument("--workers", type=int, default=2, help="the peer's processes, and cores for both (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of photos")
    parser.add_argument("--pairs", type=int, default=0, help="a quick look at so many LFW pairs (default: all 6,000)")
    parser.add_argument("--skip-eer", action="store_true", help="rates and memory only")
    parser.add_argument(
        "--reuse-peer", type=Path, metavar="NPZ", help="keep the peer's LFW embeddings here, or use them"
    )
    parser.add_argument(
        "--embed-command", default=processes.EMBED, help="what to run as ours (default: python -m faceembed embed)"
    )
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--plot", type=Path, help="draw the result as PNG or SVG")
    parser.add_argument("--from-json", type=Path, help="draw and print an earlier result; measure nothing")
    return parsed(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    try:
        document = json.loads(args.from_json.read_text(encoding="utf-8")) if args.from_json else run(args)
    except BenchmarkError as error:
        raise SystemExit(f"error: {error}") from error
    if args.plot:
        from plot import draw

        draw(document, args.plot)
    print(report(document), end="\n\n")
    common.emit(document, args.json)


if __name__ == "__main__":
    main()
