"""What one NVIDIA card says of the GPU path: about five minutes, in parts that each may fail, with a JSON file after each.

    python benchmarks/card.py --photos photos/ --json card.json       # where DALI and TensorRT are installed: a user's RTX card
    python benchmarks/card.py --photos photos/ --networks torch       # where PyTorch is, and no TensorRT
    python benchmarks/card.py --dry-run                               # here, without a card: does the script itself work
    python benchmarks/card.py --pack carry/ --photos photos/          # photos to carry to a machine without a network, beside what lies there

Parts: versions; every kernel against the processor's; decoders against OpenCV, pixels and rate at 250 to 3,840 px; each network at
batches of 8 to 128, with its share of the card's peak and its cosine to FP32; the whole path with 1, 2 and 4 processes against the
processor's embeddings (cosine of 0.999 and more), twice for equal bits; the card's memory taken away; 50 entries into each lane. Each part
runs in a process of its own with a time-out, so that one that hangs or dies costs itself alone.

What bounds what: kernels and decoders are compared where they run, so their figures hold for this card. With ``--networks torch`` the networks
are PyTorch's in FP16, channels last, as CUDA graphs, behind the same interface: rates of the whole path hold for that, and TensorRT's are to be
measured where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
from common import BenchmarkError, say

from faceembed.errors import FaceEmbedError

LIMIT_BYTES = 64 << 20
"""What may be carried to a machine that is lent."""
_DRY_FACTOR = 4.0  # a processor takes longer than a card


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All parts, one after another."""
    from card_parts import PARTS

    wanted = args.parts or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        raise BenchmarkError(f"no part is called '{unknown[0]}'; there are {', '.join(PARTS)}")
    _photos(args.photos)  # said here, and not by each part
    document: dict[str, Any] = {"script": "card.py", "dry": args.dry_run, "date": time.strftime("%Y-%m-%d %H:%M")}
    document["parts"] = {}
    for name in wanted:
        limit = (PARTS[name][1] if args.timeout is None else args.timeout) * (_DRY_FACTOR if args.dry_run else 1)
        started = time.perf_counter()
        found = _apart(name, args, limit)
        document["parts"][name] = {**found, "seconds": round(time.perf_counter() - started, 1)}
        say(f"{name}: {'failed: ' + told(found) if 'error' in found else 'done'}")
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def _apart(name: str, args: argparse.Namespace, limit: float) -> dict[str, Any]:
    """One part in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="card-") as folder:
        told = Path(folder) / "part.json"
        words = [sys.executable, __file__, "--only", name, "--json", str(told), *_passed_on(args)]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _end(process)
            said, _ = process.communicate()
            return {"error": f"over its time of {limit:g} s", "said": said[-2000:]}
        finally:  # neither Ctrl-C nor the end of a part that dies reaches its workers
            _end(process)
        if process.returncode or not told.exists():
            return {"error": f"ended with code {process.returncode}", "said": said[-2000:]}
        found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        return found


def _end(process: subprocess.Popen[str]) -> None:
    """End a part with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def told(found: dict[str, Any]) -> str:
    """What became of a part, in a line: where it failed, with the last that it said."""
    if "error" not in found:
        return "done"
    last = found["said"].strip().splitlines()[-1:]
    return ": ".join([found["error"], *last])


def _passed_on(args: argparse.Namespace) -> list[str]:
    words = ["--networks", args.networks, "--decoder", args.decoder, "--count", str(args.count)]
    words += ["--photos", *map(str, args.photos)] if args.photos else []
    return [*words, "--dry-run"] if args.dry_run else words


def only(args: argparse.Namespace) -> None:
    """One part, in this process."""
    from card_parts import PARTS
    from card_path import Setup

    setup = Setup(args.dry_run, tuple(_photos(args.photos)), args.networks, args.decoder, args.count)
    found = PARTS[args.only][0](setup)
    args.json.write_text(json.dumps(found), encoding="utf-8")


def _photos(given: list[Path]) -> list[Path]:
    """Files in what was given; the sample's photos if nothing was.

    Raises:
        BenchmarkError: there are none.
    """
    if not given:
        from faceembed.engine.photos.sample import sample_photos
        from faceembed.errors import DataError

        try:
            given = [sample_photos()]
        except DataError as error:
            raise BenchmarkError(f"{error}; or give --photos") from error
    found = sorted(path for root in given for path in ([root] if root.is_file() else root.rglob("*")))
    photos = [path for path in found if path.suffix.lower() in common.PHOTO_SUFFIXES]
    if not photos:
        raise BenchmarkError(f"no photos in {given[0]}")
    return photos


def pack(args: argparse.Namespace) -> dict[str, Any]:
    """Fill a folder with what is to be carried: some of the photos given. Mixed files are made where they are needed. What lies in it already,
    as wheels may, is carried too, and counted; nothing is written where all is too much.

    Raises:
        BenchmarkError: it is too much, or photos were packed there before.
    """
    chosen = [Path(name) for name in common.sample([str(path) for path in _photos(args.photos)], args.most)]
    people = args.pack / "people"
    if people.exists():
        raise BenchmarkError(f"{people} is there already; take it away or give another folder")
    there = [path for path in args.pack.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in [*there, *chosen])
    if size > LIMIT_BYTES:
        raise BenchmarkError(
            f"{size / 2**20:.0f} MiB are too much to carry, {LIMIT_BYTES >> 20} may be; give a smaller --most"
        )
    people.mkdir(parents=True)
    for number, photo in enumerate(chosen):
        shutil.copy(photo, people / f"{number:04d}{photo.suffix}")
    return {"bytes": size, "people": len(chosen)}


def report(document: dict[str, Any]) -> str:
    """What matters, as lines."""
    parts = document.get("parts")
    if parts is None:
        return f"{document['bytes'] / 2**20:.1f} MiB, {document['people']} photos of people"
    lines = [f"{name}: {told(found)} ({found['seconds']:g} s)" for name, found in parts.items()]
    for number, found in parts.get("path", {}).get("processes", {}).items():
        lines.append(f"whole path, {number} processes: {found['photos_per_second']:,.0f} photos/s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, nargs="+", default=[], help="folders or files of people; the sample's if none"
    )
    parser.add_argument(
        "--networks", choices=("tensorrt", "torch"), default="tensorrt", help="what runs them on the card"
    )
    parser.add_argument("--decoder", choices=("nvimagecodec", "dali"), default="nvimagecodec", help="of the whole path")
    parser.add_argument("--count", type=int, default=0, help="photos through the whole path; files are repeated")
    parser.add_argument("--parts", nargs="+", help="these alone")
    parser.add_argument("--timeout", type=float, help="seconds of each part")
    parser.add_argument("--dry-run", action="store_true", help="on the processor, with little of everything")
    parser.add_argument("--json", type=Path, help="written after each part")
    parser.add_argument("--pack", type=Path, help="fill a folder with photos to carry, and end")
    parser.add_argument("--most", type=int, default=200, help="photos of people to carry")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.count = args.count or (12 if args.dry_run else 16_384)
    if args.only:
        try:
            only(args)
        except (BenchmarkError, FaceEmbedError) as error:
            raise SystemExit(f"error: {error}") from error
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the part at work ends too
    common.run_and_report(args, pack if args.pack else run, report)


if __name__ == "__main__":
    main()
