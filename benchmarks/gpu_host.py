"""What Python costs on the way to a card: the whole path with a card that computes nothing, this build beside one of before, in one run.

    python benchmarks/gpu_host.py                                              # this build alone: 1, 2 processes
    python benchmarks/gpu_host.py --before ../old/.venv/bin/python --rounds 5  # beside another build, in turns
    python benchmarks/gpu_host.py --indexes flat hnsw ivf                      # what training and adding at the end cost

What bounds it. The card does not: its time for a photo is made up (`null_card.SECONDS`: 25,000 photos/s decoded, 30,000 searched and
encoded), and waited for as a card is. So what is left is Python: listing, reading, headers, digests, batches, stages, rows, shards, and the
index at the end. One process has one core's worth of Python; several share the machine's.

How. Photos of LFW, hard links to as many as are asked for, all read once before. Each build runs in a process of its own, in turns, measured from
a quarter of the photos on to the finished index. Rates are told by the clock and by processor seconds: on a busy machine the second
is what to look at, and ``on free cores`` is that times the number of processes, each on a core of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
from common import BenchmarkError, say

HERE = Path(__file__).parent
LEAST = 64
"""Photos; rates of fewer say nothing."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All builds in turns.

    Raises:
        BenchmarkError: what was asked for cannot be measured.
    """
    if args.rounds < 1 or args.count < LEAST or min(args.processes) < 1:
        raise BenchmarkError(f"give at least 1 round, {LEAST} photos and 1 process")
    if args.scratch and not args.scratch.is_dir():
        raise BenchmarkError(f"--scratch {args.scratch} is not a folder")
    photos = args.photos or common.data_root() / "lfw"
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-host-", dir=args.scratch) as temporary:
        folder = linked(photos, Path(temporary), args.count)
        say(f"{args.count} photos, {common.machine()['load_1min']} load before")
        for number in range(args.rounds):
            for name, words in programs(args):
                found.setdefault(name, []).append(once([*words, str(folder)]))
                say(
                    f"round {number + 1}: {name}: {found[name][-1]['photos_per_processor_second']:,.0f} photos/processor s"
                )
    return {"machine": common.machine(), "photos": args.count, "rounds": args.rounds, "builds": summary(found)}


def programs(args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """What is run in a round, by name."""
    child = str(HERE / "null_card.py")
    ours = [
        (f"this build, {number} process{'es' * (number > 1)}", [sys.executable, child, "--processes", str(number)])
        for number in args.processes
    ]
    others = [
        (f"this build, {kind}", [sys.executable, child, "--index", kind]) for kind in args.indexes if kind != "flat"
    ]
    before = [("before", [str(args.before), child])] if args.before else []
    return before + ours + others


def linked(source: Path, folder: Path, count: int) -> Path:
    """So many photos, some under several names, 512 in a folder."""
    names = common.list_photos(source)
    target = folder / "photos"
    for number in range(count):
        part = target / f"{number // 512:04d}"
        part.mkdir(parents=True, exist_ok=True)
        common.link_photos(source, [names[number % len(names)]], folder / "once")
        linked_file = folder / "once" / names[number % len(names)]
        (part / f"{number:07d}.jpg").hardlink_to(linked_file)
        linked_file.unlink()
    common.warm_page_cache(source, names)
    return target


def once(words: list[str]) -> dict[str, Any]:
    """One run of one build."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BenchmarkError(f"{words[0]} does not start: {error.strerror}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchmarkError(f"{' '.join(words[:2])} ended with code {done.returncode}: {last}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def processes_of(build: str) -> int:
    """How many work in a build, by its name."""
    found = re.search(r"(\d+) process", build)
    return int(found[1]) if found else 1


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians and ranges of each build, and its rate over that of before, round by round."""
    builds = {}
    for name, runs in found.items():
        entry: dict[str, Any] = {}
        for key in ("photos_per_second", "photos_per_processor_second", "index_seconds"):
            values = [one[key] for one in runs]
            entry[key] = {"median": statistics.median(values), "least": min(values), "most": max(values)}
        cores = processes_of(name)
        entry["on_free_cores"] = cores * entry["photos_per_processor_second"]["median"]
        if "before" in found:
            key = "photos_per_processor_second"
            ratios = [cores * one[key] / other[key] for one, other in zip(runs, found["before"], strict=True)]
            entry["over_before"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        builds[name] = entry
    return builds


def report(document: dict[str, Any]) -> str:
    """A row a build."""
    rows = []
    for name, entry in document["builds"].items():
        ratio = f"{entry['over_before']['median']:.2f}" if "over_before" in entry else ""
        cells = [f"{entry[key]['median']:,.0f}" for key in ("photos_per_second", "photos_per_processor_second")]
        rows.append([name, *cells, f"{entry['on_free_cores']:,.0f}", ratio, f"{entry['index_seconds']['median']:.1f}"])
    return common.table(["build", "photos/s", "per processor s", "on free cores", "over before", "index s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="the Python of an environment with another build")
    parser.add_argument("--photos", type=Path, help="a folder of photos  [default: LFW]")
    parser.add_argument("--count", type=int, default=32_768, help="photos; files are repeated")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--indexes", nargs="+", default=["flat"], help="kinds of index to measure with one process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="a folder on the file system of the photos, for hard links")
    parser.add_argument("--json", type=Path)
    common.run_and_report(parser.parse_args(), run, report)


if __name__ == "__main__":
    main()
