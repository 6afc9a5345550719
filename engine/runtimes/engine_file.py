"""Engine files: TensorRT plans behind a header that says what they are, so that an engine is never taken for another.

16 bytes   MAGIC
 8 bytes   length of the header, little-endian
header     `EngineFacts` as JSON in UTF-8
plans      one after another, in the order of `EngineFacts.networks`
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from faceembed.engine.runtimes.base import Entry
from faceembed.engine.runtimes.profile import Profile
from faceembed.errors import FaceEmbedError, ModelError
from faceembed.files import atomic_write

MAGIC = b"faceembed engine"
SUFFIX = ".engine"
CONVERSION = 2  # raised whenever the same model would be turned into another graph, or built for other shapes
_HEADER_LIMIT = 1 << 20


@dataclasses.dataclass(frozen=True)
class NetworkFacts:
    """One plan of the file."""

    name: str
    outputs: tuple[str, ...]
    entry: Entry
    profiles: tuple[Profile, ...]
    graph_sha256: str
    """Of the ONNX file that TensorRT was given."""
    plan_sha256: str
    plan_bytes: int


@dataclasses.dataclass(frozen=True)
class EngineFacts:
    """Where an engine comes from, and where it may run."""

    model: str
    model_sha256: str
    precision: str
    package: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    package_version: str
    targets: tuple[str, ...]
    batch: tuple[int, int, int]
    parity: dict[str, float]
    """What the parity gate measured; empty where it was not asked yet."""
    executed: bool
    """Whether the gate ran the engine itself, on a card; else it ran its graph in ONNX Runtime."""
    faceembed: str
    """Version that built it."""
    networks: tuple[NetworkFacts, ...]
    conversion: int = CONVERSION
    int8: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of an INT8 engine: ``layers`` in INT8 ``of`` all, the share of ``flops`` in them, the ``faces`` that its scales come from."""

    @property
    def proved(self) -> bool:
        """Whether it, or its graph, was compared with fp32. One that was not is compared by the first run, on its own photos."""
        return bool(self.parity)


def write_engine(path: str | os.PathLike[str], facts: EngineFacts, plans: Sequence[bytes]) -> None:
    """Write an engine file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    header = json.dumps(dataclasses.asdict(facts)).encode()
    with atomic_write(path) as file:
        file.write(MAGIC + len(header).to_bytes(8, "little") + header)
        for plan in plans:
            file.write(plan)


def read_facts(path: str | os.PathLike[str]) -> EngineFacts:
    """The header of an engine file; the plans are not read.

    Raises:
        ModelError: it cannot be read, or is no engine file of this version's kind.
    """
    return _read_header(path)[0]


def read_plans(path: str | os.PathLike[str]) -> tuple[EngineFacts, list[bytes]]:
    """An engine file's header and plans, verified by SHA-256.

    Raises:
        ModelError: as `read_facts`, or a plan is damaged.
    """
    facts, offset = _read_header(path)
    plans = []
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            for network in facts.networks:
                plans.append(file.read(network.plan_bytes))
    except OSError as error:
        raise ModelError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
    for network, plan in zip(facts.networks, plans, strict=True):
        if hashlib.sha256(plan).hexdigest() != network.plan_sha256:
            raise ModelError(f"{os.fspath(path)} is damaged in its network '{network.name}'; build it again")
    return facts, plans


def _read_header(path: str | os.PathLike[str]) -> tuple[EngineFacts, int]:
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            start = file.read(len(MAGIC) + 8)
            length = int.from_bytes(start[len(MAGIC) :], "little")
            if not start.startswith(MAGIC) or length > _HEADER_LIMIT:
                raise ModelError(f"{where} is no engine file of faceembed; make one with: faceembed build-engine")
            header = file.read(length)
    except OSError as error:
        raise ModelError(f"cannot read {where}: {error.strerror or error}") from error
    try:
        return _facts(json.loads(header)), len(start) + length
    except (ValueError, TypeError, KeyError, AttributeError, FaceEmbedError) as error:
        raise ModelError(f"{where} has a header that this version does not read ({error}); build it again") from error


def _facts(fields: Mapping[str, Any]) -> EngineFacts:
    values = dict(fields)
    for name in ("targets", "batch"):
        values[name] = tuple(values[name])
    values["networks"] = tuple(
        NetworkFacts(
            name=str(network["name"]),
            outputs=tuple(network["outputs"]),
            entry=cast(Entry, network["entry"]),
            profiles=tuple(
                Profile(tuple(profile["batch"]), tuple(profile["sides"])) for profile in network["profiles"]
            ),
            graph_sha256=str(network["graph_sha256"]),
            plan_sha256=str(network["plan_sha256"]),
            plan_bytes=int(network["plan_bytes"]),
        )
        for network in values["networks"]
    )
    return EngineFacts(**values)
