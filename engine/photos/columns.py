"""Arrow columns out of NumPy's arrays and lists, made of their bytes.

`pyarrow.array` asks first whether it was given something of pandas, and imports pandas for that where it is installed: 0.34 s of processor
time at every start that writes a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_NUMBERS: dict[Any, type[np.generic]] = {
    pa.int64(): np.int64,
    pa.int32(): np.int32,
    pa.float32(): np.float32,
}


def column(values: NDArray[Any] | Sequence[Any], kind: Any) -> pa.Array:
    """A column of a table.

    Args:
        values: numbers, some of which may be None in a list, texts of valid Unicode, or nothing but None.
        kind: Arrow's type: of these numbers, ``pa.string()``, or any where all is None.

    Raises:
        TypeError: another type.
    """
    if isinstance(values, pa.Array):
        return values
    if not isinstance(values, np.ndarray) and len(values) and all(value is None for value in values):
        return pa.nulls(len(values), kind)
    if kind == pa.string():
        together = "".join(values)
        parts: Any = values if together.isascii() else [text.encode() for text in values]
        ends = np.zeros(len(values) + 1, np.int32)
        np.cumsum(list(map(len, parts)), out=ends[1:])
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(ends), pa.py_buffer(together.encode())])
    if kind not in _NUMBERS:
        raise TypeError(f"no column of {kind} is made here")
    there = None
    if not isinstance(values, np.ndarray) and None in values:
        there = pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
        values = [0 if value is None else value for value in values]
    numbers = np.ascontiguousarray(values, _NUMBERS[kind])
    return pa.Array.from_buffers(kind, len(numbers), [there, pa.py_buffer(numbers)])


def numbers(values: Any) -> NDArray[Any]:
    """The numbers of a column without gaps as a NumPy array, without a copy where it is one piece: Arrow's own way imports pandas too.

    Args:
        values: pa.Array or pa.ChunkedArray of one of the types of `column`; of lists of them, flattened already.

    Raises:
        TypeError: of another type.
        ValueError: some are missing.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if values.type not in _NUMBERS:
        raise TypeError(f"no numbers are read here out of {values.type}")
    if values.null_count:
        raise ValueError(f"{values.null_count:,} values are missing")
    data = values.buffers()[1]
    if data is None:
        return np.zeros(0, _NUMBERS[values.type])
    return np.frombuffer(data, _NUMBERS[values.type])[values.offset : values.offset + len(values)]
