"""A peer's recipe over a list of photos, in several processes: what every `peer_*.py` does the same way.

It knows nothing of faceembed. The list is a JSON array of paths relative to the root. The .npz holds `paths` and `embeddings` of shape
(n, d), float32, NaN where no face was found. The last line of stdout is JSON: images, faces, failed, seconds without the start-up.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

START_LIMIT_SECONDS = 120


class Recipe(Protocol):
    """One process's models."""

    def embed_file(self, path: Path) -> NDArray[np.float32] | None:
        """(d,) of one photo's face, or None where no face is found; OSError or ValueError where the file cannot be read."""


_recipe: Recipe


def _start_worker(make: Callable[[], Recipe], barrier: Barrier) -> None:
    global _recipe
    _recipe = make()
    barrier.wait(START_LIMIT_SECONDS)


def _work(path: Path) -> tuple[NDArray[np.float32] | None, bool]:
    """(embedding or None, whether the file could be read)."""
    try:
        return _recipe.embed_file(path), True
    except (OSError, ValueError):
        return None, False


def embed_files(paths: Iterable[Path], make: Callable[[], Recipe], *, dimension: int, workers: int) -> dict[str, Any]:
    """Embed photos in `workers` processes, each with models that ``make`` (picklable) opens.

    Returns:
        `embeddings` (n, dimension) float32 with NaN rows, `failed` the number of unreadable files, `seconds` of work after every
        worker had loaded its models.
    """
    files = list(paths)
    embeddings = np.full((len(files), dimension), np.nan, np.float32)
    failed = 0
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers + 1)
    with context.Pool(workers, _start_worker, (make, barrier)) as pool:
        barrier.wait(START_LIMIT_SECONDS)
        start = time.perf_counter()
        for row, (embedding, readable) in enumerate(pool.imap(_work, files, chunksize=4)):
            failed += not readable
            if embedding is not None:
                embeddings[row] = embedding
        seconds = time.perf_counter() - start
        pool.close()
        pool.join()  # a terminated worker would not be waited for, and its processor time not be counted
    return {"embeddings": embeddings, "failed": failed, "seconds": seconds}


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments of every peer."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--root", type=Path, required=True, help="folder that the paths of the list are relative to")
    arguments.add_argument("--list", type=Path, required=True, help="JSON array of paths")
    arguments.add_argument("--out", type=Path, required=True, help=".npz to write")
    arguments.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    return arguments


def run(args: argparse.Namespace, make: Callable[[], Recipe], *, dimension: int) -> None:
    """Embed what the arguments name, write the .npz, print the last line."""
    names: list[str] = json.loads(args.list.read_text(encoding="utf-8"))
    result = embed_files((args.root / name for name in names), make, dimension=dimension, workers=args.workers)
    np.savez(args.out, paths=np.array(names, dtype=str), embeddings=result["embeddings"])
    faces = int(np.isfinite(result["embeddings"][:, 0]).sum())
    summary = {"images": len(names), "faces": faces, "failed": result["failed"], "seconds": round(result["seconds"], 3)}
    print(json.dumps(summary), flush=True)
