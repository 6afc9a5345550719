"""What it costs to keep an index of photos that were moved or touched, beside embedding them.

    python benchmarks/moved.py DATA/lfw
    python benchmarks/moved.py FOLDER --photos 2000

The bound is reading: a moved or touched photo is read once and hashed (BLAKE3, some 10 microseconds for LFW's 14 kB), and the
index is written anew; an untouched one is looked at by the file system alone. Each step is a process of its own, and what is
compared is processor seconds, start-up included. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def embed(folder: Path, index: Path) -> dict[str, Any]:
    """One run of the command: what it did, its processor seconds and its seconds by the clock."""
    command = [sys.executable, "-m", "faceembed", "embed", str(folder), "-o", str(index), "--json", "-q"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    document = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**document, "processor_seconds": round(spent, 2), "wall_seconds": round(seconds, 1)}


def main() -> None:
    """Embed, then look again, move, touch and copy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=0, help="take the first so many; 0 for all")
    args = parser.parse_args()
    photos = sorted(args.folder.rglob("*.jpg"))[: args.photos or None]
    with tempfile.TemporaryDirectory(prefix="moved-") as name:
        place, index = Path(name) / "archive", Path(name) / "index.faiss"
        for path in photos:
            target = place / path.relative_to(args.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        steps = {"embedded": embed(place, index), "unchanged": embed(place, index)}
        shutil.move(place, elsewhere := Path(name) / "elsewhere")
        steps["moved"] = embed(elsewhere, index)
        for path in elsewhere.rglob("*.jpg"):
            os.utime(path)
        steps["touched"] = embed(elsewhere, index)
    whole = steps["embedded"]["processor_seconds"]
    print(
        f"{'step':10} {'photos':>7} {'computed':>8} {'known by bytes':>14} {'processor s':>11} {'of embedding':>12} {'clock s':>8}"
    )
    for step, found in steps.items():
        known = found["moved"] + found["touched"]
        spent = found["processor_seconds"]
        print(
            f"{step:10} {found['images']:7,} {found['embedded']:8,} {known:14,} {spent:11.2f} {spent / whole:12.3f} "
            f"{found['wall_seconds']:8.1f}"
        )
        assert step == "embedded" or found["embedded"] == 0, f"{step}: photos were computed again"
    fields = ("images", "embedded", "moved", "touched", "unread", "faces", "processor_seconds", "wall_seconds")
    print(json.dumps({step: {field: found[field] for field in fields} for step, found in steps.items()}))


if __name__ == "__main__":
    main()
