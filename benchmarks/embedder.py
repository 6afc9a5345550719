"""Is the warm `Embedder` as quick as `embed`? In processor time, which other work on the machine changes little.

    python benchmarks/embedder.py                    # 640 photos of LFW, three rounds in turns: two minutes on one core

    arrays      `represent_all` on decoded pixels, in batches of 32, beside `embed`'s own pipeline on the same photos' files, decoding included,
                and beside that pipeline on decoded pixels
    one photo   `represent` on one array, beside the work alone: the same batch of one given to detection, alignment and encoding
    memory      Pss of this process with the models warm, after the rounds

What bounds it: the networks; `Embedder` adds threads, checks and the objects it gives back.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import cv2
import processes

from faceembed import Embedder
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings

PHOTOS, ROUNDS, SINGLE, SEED = 640, 3, 60, 7


def main() -> None:
    """Measure, print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args()
    if args.memory:
        print(memory(args.photos))
        return
    common.run_and_report(args, run, report)


def settings(faces: str) -> EmbedSettings:
    """One thread, the default precision."""
    return EmbedSettings(faces=faces, batch_size=32, runtime=RuntimeSettings(device="cpu", threads=1))


def photos(count: int) -> list[str]:
    """Paths of LFW."""
    root = common.data_root() / "lfw"
    return [str(root / name) for name in common.sample(common.list_photos(root), count, seed=SEED)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All three, in turns."""
    paths = photos(args.photos)
    arrays = [cv2.imread(path) for path in paths]
    chosen = settings("all")
    with Embedder(chosen) as embedder:
        pipeline = loading.open_pipeline(chosen, loading.resolve_models(chosen), [], notice=lambda line: None)
        files = [photo_file(path) for path in paths]
        models = embedder._models
        item = [models.take_pixels(arrays[0][:, :, ::-1].copy())]
        ways: dict[str, Callable[[], object]] = {
            "embed": lambda: sum(len(outcome.photos) for outcome in pipeline.run(files)),
            "arrays": lambda: sum(1 for _ in embedder.represent_all(arrays, colour="bgr")),
            "one photo": lambda: [embedder.represent(arrays[0], colour="bgr") for _ in range(SINGLE)],
            "work alone": lambda: [models.embed(item) for _ in range(SINGLE)],
        }
        for way in ways.values():
            way()
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                started = time.process_time()
                way()
                spent[name].append(time.process_time() - started)
    middle = {name: statistics.median(values) for name, values in spent.items()}
    command = [sys.executable, __file__, "--memory", "--photos", str(args.photos)]
    pss = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "machine": common.machine(),
        "photos": len(paths),
        "embed_ms": 1e3 * middle["embed"] / len(paths),
        "arrays_ms": 1e3 * middle["arrays"] / len(paths),
        "one_photo_ms": 1e3 * middle["one photo"] / SINGLE,
        "work_alone_ms": 1e3 * middle["work alone"] / SINGLE,
        "arrays_over_embed": middle["embed"] / middle["arrays"],
        "one_over_work": middle["one photo"] / middle["work alone"],
        "warm_mib": pss,
        "rounds": {name: [round(value, 4) for value in values] for name, values in spent.items()},
    }


def memory(count: int) -> float:
    """MiB of this process with a warm Embedder that has looked at some photos, given as paths."""
    import os

    with Embedder(settings("all")) as embedder:
        assert sum(len(seen.faces) for seen in embedder.represent_all(photos(count)))
        return round(processes.pss_bytes(os.getpid()) / common.MIB, 1)


def report(document: dict[str, Any]) -> str:
    """What was asked for beside what was found."""
    rows = [
        ("embed, files: ms of processor a photo", f"{document['embed_ms']:.2f}", ""),
        (
            "Embedder, arrays in batches of 32",
            f"{document['arrays_ms']:.2f}",
            f"{document['arrays_over_embed']:.2f} of embed's rate",
        ),
        ("one photo, the work alone", f"{document['work_alone_ms']:.2f}", ""),
        (
            "one photo, represent",
            f"{document['one_photo_ms']:.2f}",
            f"{document['one_over_work']:.2f} times the work alone",
        ),
        ("memory, warm, MiB", f"{document['warm_mib']:.0f}", ""),
    ]
    return common.table(["", "", ""], rows)


if __name__ == "__main__":
    main()
