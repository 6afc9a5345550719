"""An index's vectors as files of others, and files of others as vectors: what `export-vectors` writes and `import-vectors` reads.

    v.npy        float32 (N, D), row for row as the index's table; v.npy.json beside it says what made it
    v.parquet    the index's table and a column `vector`, float32 lists of D
    v.lance      the same as a Lance dataset (package pylance)

All vectors have unit length: the inner product is the cosine, and the squared Euclidean distance is 2 - 2 cosine.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.index.shards import FaceTable
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import DataError, IndexFormatError, UsageError
from faceembed.files import atomic_write
from faceembed.install import pip_install
from faceembed.marks import VECTORS
from faceembed.outputs import check_output
from faceembed.plain import to_json

ENDINGS = (".npy", ".parquet", ".lance")
VECTOR = "vector"
"""The column of embeddings."""


def check_vectors_output(path: str | os.PathLike[str], inputs: tuple[str | os.PathLike[str], ...] = ()) -> None:
    """Refuse a name that says no format, or whose file is somebody else's.

    Raises:
        UsageError: an ending of no kind that is written, a file that is not ours, or a Lance dataset that is there already.
    """
    name = os.fspath(path)
    if os.path.splitext(name)[1] not in ENDINGS:
        raise UsageError(f"{printable(name)}: vectors are written as {', '.join(ENDINGS)}; give such a name")
    if name.endswith(".lance"):
        if os.path.lexists(name):
            raise UsageError(f"{printable(name)} is there already; give another name, or delete it")
        _lance()
        return
    check_output(name, "vectors", inputs)
    if name.endswith(".npy"):
        check_output(f"{name}.json", "vectors' description", inputs)


def write_vectors(path: str | os.PathLike[str], faces: FaceTable, about: dict[str, Any]) -> None:
    """Write faces with their vectors.

    Args:
        path: its ending says the format.
        faces: of an index.
        about: what made them: ``encoder``, ``dimension`` and what else is known.

    Raises:
        UsageError: as `check_vectors_output`.
        OSError: it cannot be written.
    """
    check_vectors_output(path)
    name = os.fspath(path)
    described = to_json(
        {VECTORS: 1, "faces": len(faces), "normalised": True, "similarity": "cosine = inner product", **about}
    )
    if name.endswith(".npy"):
        with atomic_write(name) as file:
            np.save(file, faces.vectors)
        with atomic_write(f"{name}.json", "w") as file:
            file.write(described + "\n")
        return
    dimension = faces.vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(faces.vectors, np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, dimension)
    table = faces.rows.append_column(VECTOR, column).replace_schema_metadata({VECTORS: described})
    if name.endswith(".parquet"):
        with atomic_write(name) as file:
            pq.write_table(table, file)
        return
    _lance().write_dataset(table, name, mode="create")


def _lance() -> Any:
    try:
        import lance  # optional: Lance datasets
    except ImportError as error:
        raise UsageError(f"a .lance dataset needs the package pylance; run: {pip_install('lance')}") from error
    return lance


def read_vectors(path: str | os.PathLike[str]) -> tuple[pa.Table | None, NDArray[np.float32], dict[str, Any]]:
    """A file of vectors, ours or anybody's.

    Returns:
        The other columns of a parquet file; float32 (N, D) as they are, of whatever length; and what is said of what made them.

    Raises:
        DataError: it is not there, is of another format, or holds no vectors.
        IndexFormatError: damaged, or its numbers are no vectors of one dimension.
    """
    name = os.fspath(path)
    shown = printable(name)
    if not os.path.isfile(name):
        raise DataError(f"{shown}: there is no such file; give an .npy or .parquet file of vectors")
    if name.endswith(".npy"):
        try:
            vectors = np.load(name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IndexFormatError(f"{shown} cannot be read as .npy ({str(error).splitlines()[0][:100]})") from error
        return None, _checked(shown, vectors), _about(f"{name}.json")
    if not name.endswith(".parquet"):
        raise DataError(f"{shown}: vectors are read from .npy and .parquet files")
    table = read_parquet(name, (VECTOR,), advice=f"its vectors must be in a column '{VECTOR}'")
    with open(name, "rb") as file:
        names = pq.read_schema(file).names
    table = read_parquet(name, names, advice="write it again")
    column = table.column(VECTOR).combine_chunks()
    if not (
        pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type)
    ):
        raise IndexFormatError(f"{shown}: its column '{VECTOR}' holds {column.type}, not lists of numbers")
    if column.null_count:
        raise IndexFormatError(f"{shown}: {column.null_count} rows have no vector; leave them out")
    lengths = np.unique(np.asarray(pc.list_value_length(column))) if len(column) else np.zeros(1)
    if len(lengths) > 1:
        raise IndexFormatError(
            f"{shown}: vectors of {lengths[0]} to {lengths[-1]} numbers; all must have one dimension"
        )
    try:
        flat = np.asarray(column.flatten(), np.float32)
    except (TypeError, ValueError) as error:
        raise IndexFormatError(f"{shown}: its column '{VECTOR}' holds {column.type}, not lists of numbers") from error
    vectors = _checked(shown, flat.reshape(len(column), -1) if len(column) else np.zeros((0, 0), np.float32))
    said = (table.schema.metadata or {}).get(VECTORS.encode())
    return table.drop_columns([VECTOR]), vectors, json.loads(said) if said else {}


def _checked(shown: str, vectors: NDArray[Any]) -> NDArray[np.float32]:
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise IndexFormatError(f"{shown} holds {vectors.dtype} of shape {vectors.shape}; vectors are numbers (N, D)")
    if not len(vectors) or not vectors.shape[1]:
        raise DataError(f"{shown} holds no vectors: its shape is {vectors.shape}")
    found = np.asarray(vectors, np.float32)
    if not (sound := np.isfinite(found).all(axis=1) & (np.abs(found) > 0).any(axis=1)).all():
        first = int(np.argmin(sound))
        raise IndexFormatError(
            f"{shown}: row {first} is not finite or all zero, and {int((~sound).sum()) - 1} others; leave such rows out"
        )
    return found


def _about(path: str) -> dict[str, Any]:
    """What the file beside an array says; nothing where there is none of ours."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return found if isinstance(found, dict) and VECTORS in found else {}
    except (OSError, ValueError):
        return {}
