"""Peak memory of `faceembed embed` over few and over many photos.

    python benchmarks/memory.py                                    # 2,000 and 13,233 photos of LFW
    python benchmarks/memory.py --counts 200,1000,4000 --set people_wild --json memory.json

What bounds it. The models, the runtime's buffers, and the batches that the bounded queues let into flight are a constant.
What must grow with the photos is little: a path in the list (some 200 bytes in Python), a row of the table, and, if the
index is put together in memory at the end, four bytes a dimension for every face (0.5 KiB for 128). Growth of more than
about 2 KiB a photo means that something is kept which should have gone to the disk.

How. One fresh run a count, each a sample that contains the one before it; peak of the sum of PSS over the process and its
descendants (processes.py). Growth is the slope between the smallest and the largest count. It jitters by some MiB with the
allocator and with how full the queues happen to be, so a slope over few photos says nothing.

Not measured: photos much larger than these (a bounded number of photos is in flight, of whatever size), the page cache,
memory on a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import processes
from common import MIB, say

LIMIT_BYTES = 1536 * MIB


def peak(root: Path, names: Sequence[str], *, embed: str) -> dict[str, Any]:
    """One fresh run over some photos."""
    with tempfile.TemporaryDirectory(prefix="faceembed-memory-") as temporary:
        folder = common.link_photos(root, names, Path(temporary) / "photos")
        measured = processes.measure(processes.embed_command(embed, folder, Path(temporary) / "index.faiss"))
    return {
        "photos": len(names),
        "peak_pss_bytes": measured.peak_pss_bytes,
        "max_rss_bytes": measured.max_rss_bytes,
        "seconds": round(measured.seconds, 2),
    }


def growth(runs: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Bytes a photo and ratio between the run with the fewest photos and the one with the most; None for one run."""
    first, last = (pick(runs, key=lambda run: run["photos"]) for pick in (min, max))
    if first["photos"] == last["photos"]:
        return None
    difference = last["peak_pss_bytes"] - first["peak_pss_bytes"]
    return {
        "bytes_per_photo": difference / (last["photos"] - first["photos"]),
        "ratio": last["peak_pss_bytes"] / first["peak_pss_bytes"],
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every count, from the largest down: each sample is drawn from the one before."""
    root = common.data_root() / args.set
    photos = common.list_photos(root)
    processes.pin_to_cores(args.cores)
    processes.warm_up(args.embed_command, root, photos)
    names, runs = photos, []
    for count in sorted((min(count, len(photos)) for count in args.counts), reverse=True):
        names = common.sample(names, count, seed=args.seed)
        say(f"{len(names)} photos")
        runs.append(peak(root, names, embed=args.embed_command))
    runs.reverse()
    return {
        "benchmark": "memory",
        "machine": common.machine(),
        "set": args.set,
        "runs": runs,
        "growth": growth(runs),
        "limit_bytes": LIMIT_BYTES,
        "within_limit": all(entry["peak_pss_bytes"] < LIMIT_BYTES for entry in runs),
    }


def report(document: dict[str, Any]) -> str:
    """The table, for people."""
    rows = [
        (f"{entry['photos']:,}", *(f"{entry[key] / MIB:.0f}" for key in ("peak_pss_bytes", "max_rss_bytes")))
        for entry in document["runs"]
    ]
    text = common.table(("photos", "peak, sum of PSS, MiB", "largest process, MiB"), rows)
    if document["growth"]:
        text += f"\n\ngrowth {document['growth']['bytes_per_photo'] / 1024:.2f} KiB a photo"
        text += f", ratio {document['growth']['ratio']:.2f}"
    verdict = "within" if document["within_limit"] else "OVER"
    return f"{text}\n{verdict} the limit of {document['limit_bytes'] / MIB:.0f} MiB"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Peak memory of faceembed embed over few and many photos.")
    parser.add_argument("--counts", default="2000,13233", help="numbers of photos (default 2000,13233)")
    parser.add_argument("--set", default="lfw", help="folder of the data (default lfw)")
    parser.add_argument("--cores", type=int, default=2, help="cores to stay on (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of photos")
    parser.add_argument(
        "--embed-command", default=processes.EMBED, help="what to run (default: python -m faceembed embed)"
    )
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args(arguments)
    args.counts = [int(count) for count in args.counts.split(",") if count]
    if not args.counts or min(args.counts) < 1:
        parser.error("--counts must be numbers of 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    common.run_and_report(parse(arguments), run, report)


if __name__ == "__main__":
    main()
