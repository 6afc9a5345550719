"""What every benchmark here shares: where the photos are, what machine it is, how a result is printed.

`processes` measures a program from outside. Linux only. It knows nothing about faces.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from faceembed.cores import available_cores
from faceembed.plain import to_json

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
MIB = 2**20


class BenchmarkError(Exception):
    """A benchmark that cannot go on; the message says why and what to do."""


# ---------------------------------------------------------------------------------------------------------------- photos


def data_root() -> Path:
    """The folder of `lfw/`, `people_wild/` and `lfw_pairs.txt`: FACEEMBED_DATA, else ~/.cache/faceembed/data."""
    root = Path(os.environ.get("FACEEMBED_DATA") or Path.home() / ".cache/faceembed/data")
    if not root.is_dir():
        raise BenchmarkError(f"no photos at {root}: unpack the data there, or set FACEEMBED_DATA to their folder")
    return root


def list_photos(folder: Path) -> list[str]:
    """Every photo below a folder, as sorted paths relative to it."""
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise BenchmarkError(f"no photos below {folder}")
    return found


def sample(items: Sequence[str], count: int, *, seed: int = 0) -> list[str]:
    """A sorted random sample that is the same in every run; all of them for a count of 0."""
    if count <= 0 or count >= len(items):
        return list(items)
    return sorted(random.Random(seed).sample(list(items), count))


def link_photos(root: Path, relative: Iterable[str], into: Path) -> Path:
    """A folder of hard links to some of the photos of `root`, under the same relative names.

    Hard links, so that a program that resolves links or refuses them sees ordinary files. Where `into` is on another file
    system they are symbolic links.
    """
    for name in relative:
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = (root / name).resolve()
        try:
            os.link(source, target)
        except OSError:
            target.symlink_to(source)
    return into


def warm_page_cache(root: Path, relative: Iterable[str]) -> int:
    """Read every file once, so that no program measured later waits for the disk; returns the bytes read."""
    return sum(len((root / name).read_bytes()) for name in relative)


# ------------------------------------------------------------------------------------------------------------- processes


# --------------------------------------------------------------------------------------------------------------- results


def machine() -> dict[str, Any]:
    """What a reader needs to know about the machine. A load above 0 says that others were at work on it."""
    cpu = platform.processor()
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def versions(*packages: str) -> dict[str, str | None]:
    """The installed version of each package, None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        found[package] = None
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Plain text columns: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for first, *rest in cells:
        aligned = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def say(message: str) -> None:
    """One line of progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def run_and_report(
    args: argparse.Namespace,
    run: Callable[[argparse.Namespace], dict[str, Any]],
    report: Callable[[dict[str, Any]], str],
) -> None:
    """What a script's `main` does once its arguments are read: measure, print the table, then the JSON line.

    Raises:
        SystemExit: with one line, for a `BenchmarkError`.
    """
    try:
        document = run(args)
    except BenchmarkError as error:
        raise SystemExit(f"error: {error}") from error
    print(report(document), end="\n\n")
    emit(document, args.json)


def emit(document: dict[str, Any], path: Path | None = None) -> None:
    """Print the result as the last line of stdout, and keep a readable copy in a file."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(document, indent=1) + "\n", encoding="utf-8")
    print(to_json(document), flush=True)
