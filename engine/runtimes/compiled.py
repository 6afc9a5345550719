"""Networks as OpenVINO compiled them, kept for the next start: reading ONNX, adding the pixels' input and compiling cost four times
what taking a compiled network in costs, and without them no start needs the ``onnx`` package at all.

    <home>/compiled/<model>-<batch, or sides of the input, or any>-<first 16 of the key>.openvino

    16 bytes   MAGIC
    64 bytes   SHA-256 of the rest, in hexadecimal
     8 bytes   length of the header, little-endian
    header     JSON: everything that the networks depend on, the lengths of the parts, the sides of the input, how pixels are packed
    parts      what `CompiledModel.export_model` gave, one after another

Everything that a compiled network depends on is in its key, OpenVINO's release and the processor too, so what is out of date is not found.
A file that is damaged, or that OpenVINO does not take, counts as none and is replaced; a home that cannot be written costs the next start time, no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from faceembed.engine.models.store import home
from faceembed.engine.runtimes.packing import Packing
from faceembed.files import atomic_write

MAGIC = b"faceembed compil"
SUFFIX = ".openvino"
CONVERSION = 2  # raised whenever the same model would be turned into another graph
KEPT = 48
"""Files of this kind that are kept, the newest: each set of threads, precision and release makes new ones, and each shape that comes often."""
_DIGEST = 64
_HEADER_LIMIT = 1 << 16


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a compiled network depends on."""

    model: str
    sha256: str
    outputs: tuple[str, ...]
    precision: str
    exact_layers: int
    threads: int
    release: str
    """Of OpenVINO."""
    processor: str
    """Its name and what it can do: the same machine may be moved to another one."""
    conversion: int = CONVERSION


@dataclasses.dataclass(frozen=True)
class Kept:
    """A compiled network as it was kept."""

    parts: tuple[bytes, ...]
    sides: tuple[int, ...]
    """Of one input without its batch, in pixels and channels; 0 where any will do."""
    packing: Packing | None = None
    """How pixels are packed first; None where they are taken as they are."""


def folder() -> Path:
    """Where they lie; it need not exist yet."""
    return home() / "compiled"


def find(facts: Facts, batch: int, shape: Sequence[int] = ()) -> Kept | None:
    """A network that was compiled here before for batches of this length (0: any); None if there is none, or it is damaged.

    Args:
        facts: what it depends on.
        batch: the length.
        shape: of its whole input, where it was compiled for that alone.
    """
    try:
        data = _path(facts, batch, shape).read_bytes()
    except OSError:
        return None
    body = memoryview(data)[len(MAGIC) + _DIGEST :]
    digest = data[len(MAGIC) : len(MAGIC) + _DIGEST]
    if not data.startswith(MAGIC) or hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    try:
        length = int.from_bytes(body[:8], "little")
        header = json.loads(bytes(body[8 : 8 + min(length, _HEADER_LIMIT)]))
        if header["facts"] != _plain(facts) or header["batch"] != batch or header["shape"] != list(shape):
            return None
        parts, start = [], 8 + length
        for size in header["parts"]:
            parts.append(bytes(body[start : start + size]))
            start += size
        packing = header["packing"] and Packing(**{**header["packing"], "mean": tuple(header["packing"]["mean"])})
        return Kept(tuple(parts), tuple(header["sides"]), packing)
    except (ValueError, KeyError, TypeError):
        return None


def keep(facts: Facts, batch: int, kept: Kept, shape: Sequence[int] = ()) -> None:
    """Keep a compiled network, in place of an older one of these facts; the oldest files of all give way to it."""
    header = json.dumps(
        {
            "facts": _plain(facts),
            "batch": batch,
            "shape": list(shape),
            "parts": [len(part) for part in kept.parts],
            "sides": kept.sides,
            "packing": kept.packing and dataclasses.asdict(kept.packing),
        }
    ).encode()
    body = b"".join([len(header).to_bytes(8, "little"), header, *kept.parts])
    path = _path(facts, batch, shape)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(MAGIC + hashlib.sha256(body).hexdigest().encode())
            file.write(body)
        _tidy(path.parent)


def _tidy(where: Path) -> None:
    """Remove all but the newest files."""
    found: list[tuple[float, Path]] = []
    for path in where.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):  # another process removed it
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            path.unlink()


def _path(facts: Facts, batch: int, shape: Sequence[int] = ()) -> Path:
    key = hashlib.sha256(json.dumps([_plain(facts), batch, list(shape)], sort_keys=True).encode()).hexdigest()[:16]
    form = "x".join(map(str, shape)) or batch or "any"
    return folder() / f"{facts.model}-{form}-{key}{SUFFIX}"


def _plain(facts: Facts) -> dict[str, str | int | Sequence[str]]:
    return {**dataclasses.asdict(facts), "outputs": list(facts.outputs)}
