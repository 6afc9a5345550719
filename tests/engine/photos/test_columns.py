"""Columns made of bytes are what `pyarrow.array` makes, and import no pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from faceembed.engine.photos.columns import column, numbers
from faceembed.engine.photos.rows import FACE_SCHEMA

VALUES: list[tuple[Any, Any]] = [
    ([3, -1, 2**62], pa.int64()),
    (np.arange(7, dtype=np.int32)[::2], pa.int32()),
    (np.arange(6, dtype=np.float32).reshape(3, 2)[:, 1], pa.float32()),
    ([0.1, float("nan")], pa.float32()),
    (["", "a", "\u00e9\u4e2d", "x\\udc5c", "a\0b"], pa.string()),
    ([None, None], pa.float32()),
    ([], pa.string()),
    (np.zeros(0, np.float32), pa.float32()),
]


@pytest.mark.parametrize(("values", "kind"), VALUES)
def test_a_column_is_arrows_own(values: Any, kind: Any) -> None:
    made, expected = column(values, kind), pa.array(values, kind)
    made.validate(full=True)
    assert made.type == kind and made.null_count == expected.null_count
    assert repr(made.to_pylist()) == repr(expected.to_pylist())


@pytest.mark.parametrize(
    "array", [pa.array([1, 2, 3, 4]), pa.array([1.5, -2, 3, 4], pa.float32()), pa.array([], pa.int32())]
)
def test_numbers_are_what_was_put_in(array: Any) -> None:
    np.testing.assert_array_equal(numbers(array), array.to_pylist())
    np.testing.assert_array_equal(numbers(array[1:3]), array[1:3].to_pylist())
    np.testing.assert_array_equal(numbers(pa.chunked_array([array, array])), array.to_pylist() * 2)
    assert numbers(array).dtype == array.to_numpy().dtype


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [(pa.array(["a"]), TypeError, "out of string"), (pa.array([1, None]), ValueError, "1 values are missing")],
)
def test_what_is_no_column_of_numbers_is_refused(array: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbers(array)


def test_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no column of bool is made here"):
        column([True], pa.bool_())


def test_pandas_is_not_imported() -> None:
    pytest.importorskip("pandas")
    script = (
        "import sys; import numpy as np; import pyarrow as pa; from faceembed.engine.photos.columns import column, numbers; "
        "column(['a'], pa.string()); numbers(column(np.ones(3), pa.float32())); column([None], pa.int64()); print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_column_of_faces_can_be_made() -> None:
    kinds = {field.type for field in FACE_SCHEMA if not pa.types.is_fixed_size_list(field.type)}
    for kind in kinds:
        assert len(column(["1"] if kind == pa.string() else [1], kind)) == 1
