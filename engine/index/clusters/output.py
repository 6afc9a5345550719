"""The file that a clustering leaves, parquet or JSON, which is also what the next run starts from.

One row a face: ``face_id``, ``path``, ``face``, ``cluster``, ``size`` (faces of that cluster), ``duplicate_of`` (the ``face_id`` of
the picture that this one repeats, or null) and what tells whether it is the same face as before: the file's ``bytes`` and
``mtime_ns``, and the box ``x y w h``; ``best`` marks the face of each cluster that is seen best, and ``name`` is whom the user
calls that cluster (files of older versions have null for both). Beside the rows: the encoder, the settings, and the next unused number.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed import outputs
from faceembed.engine.index.graph import Ints
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import IndexFormatError, UsageError
from faceembed.files import atomic_write
from faceembed.plain import to_json

FORMAT = 1
SUFFIXES = (".parquet", ".json")
_KEY = b"faceembed.clusters"
_AGAIN = "give another name, or delete it to start over"
_STAMP = ("path", "face", "bytes", "mtime_ns", "x", "y", "w", "h")
_MOVED = ("face_id", "face", "bytes", "x", "y", "w", "h")  # a photo that was moved or touched keeps its faces' ids
_LATER = ("best", "name")
SCHEMA = pa.schema(
    [
        ("face_id", pa.int64()),
        ("path", pa.string()),
        ("face", pa.int32()),
        ("cluster", pa.int64()),
        ("size", pa.int64()),
        ("duplicate_of", pa.int64()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("w", pa.float32()),
        ("h", pa.float32()),
        ("best", pa.bool_()),
        ("name", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class About:
    """What made the groups."""

    encoder: str
    encoder_sha256: str
    least: float
    next_cluster: int
    """The first number that was never given."""


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says no format, and a file that is something else.

    Raises:
        UsageError: it ends neither in ``.parquet`` nor in ``.json``, or is there and no file of clusters.
    """
    if os.path.splitext(os.fspath(path))[1] not in SUFFIXES:
        raise UsageError(
            f"{os.fspath(path)}: the clusters' file ends in .parquet or .json, as in people.clusters.parquet"
        )
    outputs.check_output(path, "clusters")


def clusters_table(
    faces: pa.Table, clusters: Ints, duplicate_of: Ints, names: Mapping[int, str] | None = None
) -> pa.Table:
    """The rows of a clustering.

    Args:
        faces: the index's table.
        clusters: (N,) number of each face's cluster.
        duplicate_of: (N,) row of the face whose picture this one repeats, -1 for none.
        names: of clusters, by number.
    """
    ids = faces.column("face_id").to_numpy()
    repeats = duplicate_of >= 0
    sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    columns = {
        **{name: faces.column(name) for name in ("face_id", "path", "face", "mtime_ns", "x", "y", "w", "h")},
        "cluster": clusters,
        "size": sizes[2][sizes[1].ravel()] if len(clusters) else clusters,
        "duplicate_of": pa.array(ids[np.maximum(duplicate_of, 0)] if len(ids) else ids, mask=~repeats),
        "bytes": faces.column("size"),
        "name": [(names or {}).get(number) for number in clusters.tolist()],
        "best": best_of(
            clusters, faces.column("score").to_numpy(), np.minimum(*(faces.column(n).to_numpy() for n in "wh"))
        ),
    }
    return pa.table([columns[name] for name in SCHEMA.names], names=SCHEMA.names).cast(SCHEMA)


def best_of(clusters: Ints, score: NDArray[np.float32], side: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) which face of each cluster is seen best: the highest score of the aligner, to two digits, then the largest, then the first.

    Of what is known of a face that score tells best which photos are recognised (`docs/guides/verify.md`).

    Args:
        clusters: (N,) number of each face's cluster.
        score: (N,) the aligner's.
        side: (N,) the shorter side of its box.
    """
    order = np.lexsort((np.arange(len(clusters)), -side, -np.round(score, 2), clusters))
    best = np.zeros(len(clusters), np.bool_)
    best[order[np.r_[True, np.diff(clusters[order]) != 0][: len(order)]]] = True
    return best


def write_clusters(path: str | os.PathLike[str], rows: pa.Table, about: About) -> None:
    """Write rows of `SCHEMA`, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    check_output(path)
    fields = {"format": FORMAT, **dataclasses.asdict(about)}
    if os.fspath(path).endswith(".json"):
        with atomic_write(path, "w") as file:
            file.write(to_json({**fields, "faces": rows.to_pylist()}, indent=1))
            file.write("\n")
        return
    with atomic_write(path) as file:
        pq.write_table(rows.replace_schema_metadata({_KEY: to_json(fields)}), file)


def read_clusters(path: str | os.PathLike[str]) -> tuple[pa.Table, About]:
    """What `write_clusters` wrote.

    Raises:
        IndexFormatError: it is damaged or something else.
    """
    try:
        rows, fields = _read_json(path) if os.fspath(path).endswith(".json") else _read_parquet(path)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return rows, About(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as error:
        raise IndexFormatError(f"{os.fspath(path)} is no file of clusters ({str(error)[:120]}); {_AGAIN}") from error


def _read_json(path: str | os.PathLike[str]) -> tuple[pa.Table, dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        fields: dict[str, Any] = json.load(file)
    return pa.Table.from_pylist(fields.pop("faces"), schema=SCHEMA), fields


def _read_parquet(path: str | os.PathLike[str]) -> tuple[pa.Table, dict[str, Any]]:
    with open(path, "rb") as file:
        there = pq.read_schema(file).names
    lacking = [name for name in _LATER if name not in there]  # in files of versions before
    rows = read_parquet(path, [name for name in SCHEMA.names if name not in lacking], advice=_AGAIN)
    for name in lacking:
        field = SCHEMA.field(name)
        rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    metadata: Mapping[bytes, bytes] = rows.schema.metadata or {}
    return rows, dict(json.loads(metadata[_KEY]))


def known_clusters(rows: pa.Table, before: pa.Table) -> Ints:
    """(N,) the cluster that each face of ``rows`` had in ``before``; -1 for faces that are new or changed."""
    clusters = before.column("cluster").to_pylist()
    numbers = dict(zip(_stamps(before, _STAMP), clusters, strict=True))
    moved = dict(zip(_stamps(before, _MOVED), clusters, strict=True))
    pairs = zip(_stamps(rows, _STAMP), _stamps(rows, _MOVED), strict=True)
    return np.array([numbers.get(here, moved.get(elsewhere, -1)) for here, elsewhere in pairs], np.int64)


def _stamps(rows: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(rows.column(name).to_pylist() for name in names), strict=True))
