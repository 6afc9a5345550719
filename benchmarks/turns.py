"""Two programs over the same photos, in turns: what a comparison with any peer does the same way.

Both are whole processes, measured from outside from start to exit (processes.py). A round is one run of each, in an order that
alternates; ratios are taken within a round, and the median of the rounds is quoted, so a slow minute of the machine hurts both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import processes
from common import MIB, say
from numpy.typing import NDArray
from processes import Measured

from faceembed.engine.evaluate.metrics import wilson_interval

HERE = Path(__file__).resolve().parent
RATIOS = ("rate", "rate_without_start", "cpu_per_photo", "peak_memory", "detection_rate")
"""What is compared in every round, as ours over the peer's; `rate*` and `detection_rate` are better above 1, the rest below."""


def run_peer(
    script: str, root: Path, names: Sequence[str], scratch: Path, *, workers: int, options: Sequence[str] = ()
) -> tuple[Measured, dict[str, Any]]:
    """One run of a peer, `peer_*.py`; also {photo name: raw embedding} of the photos with a face."""
    listing, out = scratch / "peer.json", scratch / "peer.npz"
    listing.write_text(json.dumps(list(names)), encoding="utf-8")
    command: list[str | Path] = [sys.executable, HERE / script, "--root", root, "--list", listing]
    return processes.measure([*command, "--out", out, "--workers", str(workers), *options]), load_peer(out)


def load_peer(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as data:
        rows = zip(data["paths"].tolist(), data["embeddings"], strict=True)
        return {name: row for name, row in rows if np.isfinite(row[0])}


def run_ours(folder: Path, scratch: Path, *, command: str) -> tuple[Measured, dict[str, Any]]:
    """One run of `faceembed embed`, from nothing; also {photo name: embedding} of the photos with a face."""
    with tempfile.TemporaryDirectory(dir=scratch) as fresh:
        index = Path(fresh) / "index.faiss"
        measured = processes.measure(processes.embed_command(command, folder, index))
        return measured, load_index(index, folder)


def load_index(index: Path, folder: Path) -> dict[str, NDArray[np.float32]]:
    """The vector of each photo's largest face, by the photo's path relative to the embedded folder."""
    import faiss
    import pyarrow.parquet

    vectors = faiss.read_index(str(index))
    rows = pyarrow.parquet.read_table(index.with_suffix(".faiss.parquet")).to_pylist()
    largest: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = os.path.relpath(folder / row["path"], folder)  # an absolute path replaces the folder it is joined to
        if name not in largest or row["w"] * row["h"] > largest[name]["w"] * largest[name]["h"]:
            largest[name] = row
    return {name: vectors.reconstruct(int(row["face_id"])) for name, row in largest.items()}


def side(measured: Measured, faces_in: int, photos: int) -> dict[str, float]:
    """One run as figures. `seconds` without start-up is the program's own word."""
    own = float(measured.json()["seconds"])
    return {
        "seconds": round(measured.seconds, 3),
        "rate": photos / measured.seconds,
        "rate_without_start": photos / own if own > 0 else float("nan"),
        "cpu_per_photo": measured.cpu_seconds / photos,
        "peak_memory": measured.peak_pss_bytes,
        "max_rss": measured.max_rss_bytes,
        "detection_rate": faces_in / photos,
    }


def measure_set(
    script: str, root: Path, names: Sequence[str], args: Any, scratch: Path, options: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All rounds over one set of photos, as ``args`` says (times, rounds, workers, embed_command): [{"peer": figures, "ours": figures}]."""
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=scratch) as links:
        folder = Path(links)
        for number in range(args.times):
            common.link_photos(root, names, folder / str(number))
        names = [f"{number}/{name}" for number in range(args.times) for name in names]
        common.warm_page_cache(folder, names)
        for number in range(args.rounds):
            order = ("peer", "ours") if number % 2 == 0 else ("ours", "peer")
            figures: dict[str, Any] = {}
            for who in order:
                if who == "peer":
                    measured, found = run_peer(script, folder, names, scratch, workers=args.workers, options=options)
                else:
                    measured, found = run_ours(folder, scratch, command=args.embed_command)
                figures[who] = side(measured, len(found), len(names))
                say(f"  round {number + 1}/{args.rounds} {who}: {figures[who]['rate']:.1f} photos/s")
            rounds.append(figures)
    return rounds


def summarise(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each side, and the median, lowest and highest of the ratios taken within each round."""
    summary: dict[str, Any] = {}
    for who in ("peer", "ours"):
        summary[who] = {key: statistics.median(r[who][key] for r in rounds) for key in rounds[0][who]}
    summary["ratio"] = {}
    for key in RATIOS:
        ratios = [r["ours"][key] / r["peer"][key] for r in rounds if r["peer"][key]]
        if ratios:
            summary["ratio"][key] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return summary


def set_table(name: str, entry: dict[str, Any]) -> str:
    """A set's summary, for people."""
    peer, ours, photos = entry["peer"], entry["ours"], entry["photos"]
    shown = {
        "rate": ("photos/s, whole process", "{:.1f}", 1.0),
        "rate_without_start": ("photos/s, without start-up", "{:.1f}", 1.0),
        "cpu_per_photo": ("processor ms a photo", "{:.1f}", 1e3),
        "peak_memory": ("peak memory (sum of PSS), MiB", "{:.0f}", 1 / MIB),
        "detection_rate": ("photos with a face found, %", "{:.2f}", 100.0),
    }
    rows = []
    for key, (label, form, scale) in shown.items():
        ratio = entry["ratio"].get(key)
        spread = f"{ratio['median']:.2f}  ({ratio['low']:.2f}-{ratio['high']:.2f})" if ratio else "-"
        rows.append((label, form.format(peer[key] * scale), form.format(ours[key] * scale), spread))
    low, high = wilson_interval(round(ours["detection_rate"] * photos), photos)
    title = (
        f"{name}: {photos} photos, {len(entry['rounds'])} rounds; ours finds {100 * low:.2f}-{100 * high:.2f} % (95 %)"
    )
    return title + "\n" + common.table(("", "peer", "ours", "ours/peer (range)"), rows)


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a comparison: `sets` as a list; ends the program where there is nothing to run."""
    args = parser.parse_args(arguments)
    args.sets = [name for name in args.sets.split(",") if name]
    if args.rounds < 1 or args.workers < 1 or args.times < 1:
        parser.error("--rounds, --workers and --times must be 1 or more")
    return args
