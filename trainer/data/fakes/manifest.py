"""The provenance of fakes: a row each in ``fakes.parquet``, and in a journal while a run goes on.

    fake           path of the picture below the folder
    method         how it was made
    source_person  whom it pretends to show
    source_photo   the photo of that person
    target_person  the second person in it; for `selfblend` the same one; empty where there is none
    target_photo   the photo of the second person
    seed           of this fake; -1 for an imported picture
    quality        of the JPEG; 0 where the file was taken as it is
    params         what was drawn, as JSON

Paths and names are written through `engine.photos.photo_file.encode_path`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from faceembed import outputs
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.photos.rows import read_parquet
from faceembed.errors import DataError, IndexFormatError
from faceembed.files import atomic_write
from faceembed.trainer.data.people import FAKES_FILE

INFO_FILE = "fakes.json"
JOURNAL_FILE = "unfinished.jsonl"
ERRORS_FILE = "errors.csv"
FACES_FOLDER = ".faces"
"""In a folder of fakes: the faces that were found, which --fresh leaves."""

SCHEMA = pa.schema(
    [
        ("fake", pa.string()),
        ("method", pa.string()),
        ("source_person", pa.string()),
        ("source_photo", pa.string()),
        ("target_person", pa.string()),
        ("target_photo", pa.string()),
        ("seed", pa.int64()),
        ("quality", pa.int32()),
        ("params", pa.string()),
    ]
)
_NAMES = ("fake", "source_person", "source_photo", "target_person", "target_photo")


@dataclasses.dataclass(frozen=True)
class Fake:
    """One row; its fields are the columns."""

    fake: str
    method: str
    source_person: str
    source_photo: str
    target_person: str
    target_photo: str
    seed: int
    quality: int
    params: str


def read_fakes(folder: str | os.PathLike[str]) -> list[Fake]:
    """The rows of a folder of fakes, finished and not; none if there are none yet.

    Raises:
        DataError: the files are damaged.
    """
    where = os.fspath(folder)
    rows: dict[str, Fake] = {}
    path = os.path.join(where, FAKES_FILE)
    if os.path.exists(path):
        try:
            table = read_parquet(path, SCHEMA.names, advice="make the fakes again with --fresh")
        except IndexFormatError as error:
            raise DataError(str(error)) from error
        for row in table.to_pylist():
            fake = Fake(**{**row, **{name: decode_path(row[name]) for name in _NAMES}})
            rows[fake.fake] = fake
    for fake in _read_journal(os.path.join(where, JOURNAL_FILE)):
        rows[fake.fake] = fake
    return list(rows.values())


def write_fakes(folder: str | os.PathLike[str], rows: Iterable[Fake]) -> None:
    """Write ``fakes.parquet``, sorted by path, and drop the journal that it replaces."""
    where = os.fspath(folder)
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for row in sorted(rows, key=lambda row: row.fake):
        for name in SCHEMA.names:
            value = getattr(row, name)
            columns[name].append(encode_path(value) if name in _NAMES else value)
    with atomic_write(os.path.join(where, FAKES_FILE)) as file:
        pq.write_table(pa.table(columns, schema=SCHEMA), file)
    journal = os.path.join(where, JOURNAL_FILE)
    if os.path.exists(journal):
        os.unlink(journal)


class Journal:
    """The rows of a run that goes on, a line each: what was made before a run is killed is not made again."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = os.path.join(os.fspath(folder), JOURNAL_FILE)
        whole = _whole(path)
        self._file = open(path, "r+b" if whole else "wb")  # noqa: SIM115
        self._file.truncate(whole)
        self._file.seek(whole)

    def add(self, row: Fake) -> None:
        """Note a fake whose picture is written."""
        self._file.write(json.dumps(dataclasses.asdict(row)).encode("ascii") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """No more is added."""
        self._file.close()


def _whole(path: str) -> int:
    """The bytes of a journal up to its last line that ends; 0 if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0


def _read_journal(path: str) -> list[Fake]:
    try:
        with open(path, "rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
        return [Fake(**json.loads(line)) for line in lines]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise DataError(f"{printable(path)} is damaged ({error}); make the fakes again with --fresh") from error


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that is neither new or empty nor one of fakes.

    Raises:
        UsageError: it is none.
    """
    home = {FAKES_FILE: "fakes", INFO_FILE: "fake set", JOURNAL_FILE: "fakes begun"}
    outputs.check_folder(folder, {**home, ERRORS_FILE: "errors"}, home=home, own=True, beside=(FACES_FOLDER,))


def check_info(folder: str, info: dict[str, object]) -> None:
    """See that the fakes of a folder were made with the same settings; those of a new folder are written down.

    Raises:
        DataError: they were made with others.
    """
    path = os.path.join(folder, INFO_FILE)
    if not os.path.exists(path):
        with atomic_write(path, "w") as file:
            json.dump(info, file, indent=1)
            file.write("\n")
        return
    try:
        with open(path, encoding="utf-8") as file:
            stored = dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{printable(path)} is damaged ({error}); start over with --fresh") from error
    for key, value in info.items():
        if stored.get(key) != value:
            raise DataError(
                f"{printable(folder)} was made with {key} {stored.get(key)!r}, this run has {value!r}; use the same, "
                "another -o, or --fresh to start over"
            )
