"""The verbs `export-vectors` and `import-vectors`: an index's vectors for other stores, and other stores' vectors as an index."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles, read_whole
from faceembed.engine.index.lock import writing
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.index.store import load_faces, write_index
from faceembed.engine.index.vectors import check_vectors_output, read_vectors, write_vectors
from faceembed.engine.photos.photo_file import encode_path, printable
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.errors import DataError, UsageError
from faceembed.version import __version__

_KEPT = ("encoder", "aligner", "dimension", "preprocessing", "faceembed")


@dataclasses.dataclass(frozen=True)
class VectorReport:
    """What was written; the fields of ``--json``."""

    path: str
    faces: int
    dimension: int
    encoder: str


def export_vectors(
    index: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    notice: Callable[[str], None] = lambda line: None,
) -> VectorReport:
    """Write an index's faces with their vectors, exact ones whatever kind the index is.

    Args:
        index: made by `embed`.
        output: ``.npy``, ``.parquet`` or ``.lance`` (`engine.index.vectors`).
        notice: called with lines for the user.

    Raises:
        DataError: no such index.
        IndexFormatError: it is damaged.
        UsageError: a name that says no format, or a file that is not ours.
    """
    check_vectors_output(output, (index,))

    def load(files: IndexFiles) -> tuple[FaceTable, dict[str, Any]]:
        if not files.exists():
            raise DataError(f"{files.faiss}: there is no index; make one: faceembed embed photos -o {files.faiss}")
        return load_faces(files), read_manifest(files, notice=notice)

    faces, manifest = read_whole(index, load)
    write_vectors(output, faces, {name: manifest.get(name) for name in _KEPT})
    return VectorReport(
        encode_path(os.fspath(output)), len(faces), int(manifest["dimension"]), str(manifest["encoder"]["name"])
    )


def import_vectors(
    vectors: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    paths: str | os.PathLike[str] | None = None,
    encoder: str | None = None,
    index_type: str = "flat",
    notice: Callable[[str], None] = lambda line: None,
) -> VectorReport:
    """Make an index of vectors that others computed, or that `export_vectors` wrote.

    Args:
        vectors: an ``.npy`` file (N, D), or a parquet file with a column ``vector`` and, if there, ``path`` and others of an index's table.
            Vectors of another length than 1 are brought to it; the length stays in ``norm``.
        output: the index; it must not be there.
        paths: a text file with the path of each vector's photo, one a line, where the vectors' file has none.
        encoder: what the encoder is called, where the file does not say.
        index_type: as for `embed`.
        notice: called with lines for the user.

    Raises:
        DataError: no such file, no vectors, or another number of paths.
        IndexFormatError: the file is damaged or holds no vectors of one dimension.
        UsageError: the index is there already, or nobody says which encoder made the vectors.
    """
    columns, found, about = read_vectors(vectors)
    said = about.get("encoder")
    made = dict(said) if isinstance(said, dict) else {}
    if encoder is not None:
        if made and made.get("name") != encoder:
            raise UsageError(
                f"--encoder {encoder}: {printable(os.fspath(vectors))} says that {made.get('name')} made it"
            )
        made = made or {"name": encoder, "sha256": ""}
    if not made:
        raise UsageError(
            f"{printable(os.fspath(vectors))} does not say which encoder made its vectors; give its name with --encoder"
        )
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    unit = np.asarray(found / lengths[:, None], np.float32)
    if other := int((np.abs(lengths - 1) > 1e-3).sum()) if len(lengths) else 0:
        notice(f"{other:,} of {len(found):,} vectors had another length than 1 and were brought to it; it is in 'norm'")
    rows = _rows(columns, lengths, _paths(vectors, paths, columns, len(found)))
    files = IndexFiles.of(output)
    files.faiss.parent.mkdir(parents=True, exist_ok=True)
    with writing(files.faiss):
        files = files.ready()
        if files.exists() or files.partial.exists():
            raise UsageError(f"{files.faiss} is there already; give another name, or delete it")
        manifest = {
            "encoder": {"name": str(made.get("name")), "sha256": str(made.get("sha256", ""))},
            "aligner": about.get("aligner") or {"name": "none", "sha256": ""},
            "dimension": unit.shape[1],
            "preprocessing": about.get("preprocessing", 0),
            "device": "none",
            "runtime": "none",
            "precision": "none",
            "index": index_type,
            "roots": [],
            "selections": [],
            "derived": {},
            "removed": [],
            "faces": len(unit),
            "no_face": 0,
            "failed": 0,
            "next_face_id": len(unit),
            "imported": encode_path(os.path.abspath(vectors)),
            "faceembed": __version__,
        }
        write_index(files, FaceTable(rows, unit), [], manifest, index_type, notice=notice)
    if not manifest["encoder"]["sha256"]:
        notice("photos cannot be searched for in it, as nobody can say that an encoder here is the one that made it")
    return VectorReport(encode_path(str(files.faiss)), len(unit), unit.shape[1], str(made.get("name")))


def _paths(
    vectors: str | os.PathLike[str], listed: str | os.PathLike[str] | None, columns: pa.Table | None, count: int
) -> list[str]:
    """A path for each vector, as text."""
    if listed is not None:
        try:
            lines = Path(listed).read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
        except OSError as error:
            raise DataError(f"{printable(os.fspath(listed))}: {error.strerror or error}") from error
        lines = [line.removesuffix("\r") for line in lines]
        while lines and not lines[-1]:
            lines.pop()
        if len(lines) != count:
            raise DataError(
                f"{printable(os.fspath(listed))} names {len(lines):,} photos for {count:,} vectors; give one a line"
            )
        return [encode_path(os.path.abspath(line)) for line in lines]
    if columns is not None and "path" in columns.column_names:
        found = columns.column("path").to_pylist()
        if all(isinstance(path, str) and path for path in found):
            return [str(path) for path in found]
        raise DataError(f"{printable(os.fspath(vectors))}: its column 'path' has rows without a path")
    name = encode_path(os.path.abspath(vectors))
    return [f"{name}#{number}" for number in range(count)]


def _rows(columns: pa.Table | None, lengths: NDArray[np.float64], paths: list[str]) -> pa.Table:
    """A table of faces: what the file has under an index's names, and zeros for what nobody knows."""
    count, given = len(paths), {} if columns is None else {name: columns.column(name) for name in columns.column_names}
    known: dict[str, Any] = {"face_id": np.arange(count), "path": paths, "norm": lengths.astype(np.float32)}
    if "norm" in given and np.allclose(lengths, 1, atol=1e-3):
        known["norm"] = given["norm"]  # of the embedding before it was brought to unit length
    numbers: dict[str, int] = {}
    known["face"] = []
    for path in paths:
        known["face"].append(numbers.setdefault(path, 0))
        numbers[path] += 1
    arrays = []
    for field in FACE_SCHEMA:
        values = known.get(field.name)
        if values is None and field.name in given:
            values = given[field.name]
        if values is None:
            values = [_nothing(field.name)] * count
        column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values, field.type)
        try:
            arrays.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise DataError(f"its column '{field.name}' holds {column.type}, not {field.type}") from error
    return pa.Table.from_arrays(arrays, schema=FACE_SCHEMA)


def _nothing(name: str) -> Any:
    if name in ("real", "quality", "sharpness", "yaw", "roll", "first_ms", "last_ms", "frames"):
        return None
    return "" if name == "digest" else [0.0] * 10 if name == "landmarks" else 0
