"""The weights in a `.safetensors` file: a length, names and shapes as JSON, then the numbers (github.com/huggingface/safetensors, its README)."""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_KINDS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "<?",
}
_MOST_HEADER = 100_000_000  # bytes; their own limit
HEAD = 9
"""Bytes that `looks_so` wants to see."""


def looks_so(head: bytes) -> bool:
    """Whether a file begins as one of these does: a length, then a JSON object."""
    return len(head) >= HEAD and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MOST_HEADER


def read(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """All tensors, under their names.

    Args:
        file: at its start.

    Raises:
        ValueError, LookupError, TypeError: damaged, or numbers of a kind that NumPy does not have (bfloat16).
    """
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    data = file.read()
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _KINDS:
            raise ValueError(f"'{name}' holds numbers of kind {entry['dtype']}")
        kind = np.dtype(_KINDS[entry["dtype"]])
        first, last = entry["data_offsets"]
        count = math.prod(entry["shape"])
        if not 0 <= first <= last <= len(data) or last - first != count * kind.itemsize:
            raise ValueError(f"'{name}' lies outside of the file")
        found[name] = np.frombuffer(data, kind, count, first).reshape(entry["shape"])
    return found
