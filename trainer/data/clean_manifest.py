"""What cleaning says about each photo, as a table that training, and people, read.

    manifest = read_manifest("cleaned/clean.parquet")
    people = only_kept(read_people("people"), manifest)

`clean.parquet` and `clean.csv` hold the same rows: one for each photo, sorted by person and path.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import DataError, IndexFormatError
from faceembed.files import atomic_write
from faceembed.trainer.data.people import People

PARQUET, CSV = "clean.parquet", "clean.csv"
SCHEMA = pa.schema(
    [
        ("photo", pa.string()),
        ("person", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("suggested_person", pa.string()),
        ("similarity", pa.float32()),
        ("similarity_elsewhere", pa.float32()),
        ("doubt", pa.float32()),
        ("cluster", pa.int64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One photo. Similarities are cosines about the mean of all people, not the encoder's raw ones."""

    photo: str
    person: str
    kept: bool
    reason: str = ""
    """Why it is not kept, or why it could not be judged; empty for a photo that fits."""
    suggested_person: str = ""
    """Whom it clearly shows instead."""
    similarity: float = math.nan
    """To the core of its person without itself; NaN where there is none."""
    similarity_elsewhere: float = math.nan
    """To the nearest other person's core."""
    doubt: float = math.nan
    """Estimated probability that the label is wrong; NaN where it cannot be judged."""
    cluster: int = -1
    """Photos of one number look alike, whatever their folder; -1 without a face."""


def write_manifest(folder: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write both files.

    Raises:
        OSError: as writing files does.
    """
    columns = {field.name: [_cell(getattr(row, field.name)) for row in rows] for field in SCHEMA}
    table = pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
    with atomic_write(os.path.join(folder, PARQUET)) as file:
        pq.write_table(table, file)
    with atomic_write(os.path.join(folder, CSV), "w") as file:
        # Lines end as RFC 4180 says: Python quotes a lone carriage return in a name only then.
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([_text(cell) for cell in cells] for cells in zip(*columns.values(), strict=True))


def _cell(value: object) -> object:
    """As parquet takes it: paths as UTF-8, and null where there is no number."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return encode_path(value) if isinstance(value, str) else value


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else value


def read_manifest(path: str | os.PathLike[str]) -> list[Row]:
    """Read ``clean.parquet``, or that of the folder given.

    Raises:
        DataError: it is not there, or no such table.
    """
    where = os.path.join(path, PARQUET) if os.path.isdir(path) else os.fspath(path)
    if not os.path.isfile(where):
        raise DataError(f"{printable(where)} does not exist; make it with: faceembed data clean PEOPLE -o FOLDER")
    try:
        table = read_parquet(where, tuple(SCHEMA.names), advice="run data clean again")
    except IndexFormatError as error:
        raise DataError(str(error)) from error
    return [Row(**{name: _value(cell) for name, cell in row.items()}) for row in table.cast(SCHEMA).to_pylist()]


def _value(cell: Any) -> Any:
    return math.nan if cell is None else decode_path(cell) if isinstance(cell, str) else cell


def only_kept(people: People, rows: Sequence[Row]) -> People:
    """The samples that cleaning kept.

    Raises:
        DataError: photos that the manifest does not know, or nothing is left.
    """
    kept = {(row.photo, row.person): row.kept for row in rows}
    unknown = [s for s in people.samples if not s.fake and (s.path, s.person) not in kept]
    if unknown:
        raise DataError(
            f"{len(unknown):,} photos of {printable(people.source)} are not in the manifest, the first is "
            f"{printable(unknown[0].path)}; run data clean again"
        )
    left = tuple(s for s in people.samples if s.fake or kept[s.path, s.person])
    if not left:
        raise DataError(f"{printable(people.source)}: cleaning kept none of its photos")
    note = f"{len(people.samples) - len(left):,} photos of {people.source} were left out: cleaning did not keep them"
    notes = (*people.notes, note) if len(left) < len(people.samples) else people.notes
    return dataclasses.replace(people, samples=left, notes=notes)
