"""The verb behind `data import-fakes`: pictures made elsewhere take their place among the fakes, with what is known of them."""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from typing import Any, Literal

from faceembed.engine.photos.failures import Failure, format_errors
from faceembed.engine.photos.photo_file import photo_file, printable
from faceembed.engine.photos.places import is_below
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.reading import read_file
from faceembed.engine.pipeline.progress import Progress
from faceembed.errors import DataError, PhotoError, UsageError
from faceembed.files import atomic_write
from faceembed.trainer.data.crop_names import safe_name
from faceembed.trainer.data.fakes.manifest import ERRORS_FILE, Fake, check_folder, read_fakes, write_fakes
from faceembed.trainer.data.fakes.settings import METHODS
from faceembed.trainer.data.people import read_people

COLUMNS = ("fake", "source_person", "source_photo", "target_person", "target_photo", "seed", "params")
"""Of the CSV; the first two are needed, any other column goes into ``params``."""


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What was imported and what the folder holds now; the fields of ``data import-fakes --json``."""

    imported: int
    """Pictures registered by this run."""
    skipped: int
    """Pictures that were there already."""
    failed: int
    """Rows of ``errors.csv``: files that are no pictures."""
    fakes: int
    """Fakes in the folder."""
    methods: dict[str, int]
    """The same by method."""
    output: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class _Row:
    path: str
    person: str
    source_photo: str = ""
    target_person: str = ""
    target_photo: str = ""
    seed: int = -1
    params: str = "{}"


def import_fakes(
    pictures: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    method: str,
    provenance: str | os.PathLike[str] | None = None,
    copy: Literal["copy", "link"] = "copy",
    progress: Callable[[Progress], None] = lambda progress: None,
) -> ImportReport:
    """Register pictures made elsewhere as fakes.

    Args:
        pictures: ``<person>/<file>``, the person being the one that each pretends to show; with ``provenance`` any folder.
        output: a folder of fakes, new or with others in it.
        method: what the pictures are called in it, as in ``arc2face``.
        provenance: CSV with the columns ``fake`` (a path below ``pictures``) and ``source_person``, and if known
            ``source_photo``, ``target_person``, ``target_photo``, ``seed`` and any others.
        copy: ``copy`` the files, or hard ``link`` them (symbolic across file systems).
        progress: called after every picture.

    Raises:
        DataError: there are no pictures, or the CSV is not such a file.
        UsageError: the method's name is empty or belongs to `data fakes`, or ``output`` is no place for fakes.
    """
    root, folder = os.path.abspath(os.fspath(pictures)), os.path.abspath(os.fspath(output))
    _check(method, root, folder)
    rows = _read_folders(root) if provenance is None else _read_csv(os.fspath(provenance), root)
    os.makedirs(folder, exist_ok=True)
    known = {row.fake: row for row in read_fakes(folder)}
    imported = skipped = 0
    failures: list[Failure] = []
    for number, row in enumerate(rows, 1):
        name = _name(method, row, root)
        reason = _problem(row.path)
        if reason:
            failures.append(Failure(photo_file(row.path), "read", reason))
        elif name in known and os.path.exists(os.path.join(folder, name)):
            skipped += 1
            known[name] = _fake(name, method, row)
        else:
            _place(row.path, os.path.join(folder, name), copy)
            known[name] = _fake(name, method, row)
            imported += 1
        progress(Progress(number, len(rows), imported + skipped, len(failures)))
    if failures:
        with atomic_write(os.path.join(folder, ERRORS_FILE), "w") as file:
            file.write(format_errors(failures))
    if not imported and not skipped:
        raise DataError(
            f"none of {len(rows):,} files in {printable(root)} is a picture; the first: {failures[0].reason}"
        )
    write_fakes(folder, known.values())
    counts = collections.Counter(row.method for row in known.values())
    return ImportReport(imported, skipped, len(failures), len(known), dict(sorted(counts.items())), folder)


def _check(method: str, root: str, folder: str) -> None:
    if not method or method != safe_name(method) or method.startswith("."):
        raise UsageError(f"--method {method!r}: expected a name of letters, digits and dashes, as in arc2face")
    if method in METHODS:
        raise UsageError(f"--method {method}: that is the name of a method of `data fakes`; choose another one")
    if not os.path.isdir(root):
        raise DataError(f"{printable(root)} is not a folder; give the folder of the pictures")
    if is_below(folder, [root]) or is_below(root, [folder]):
        raise UsageError(f"the fakes cannot go to {printable(folder)}: it and {printable(root)} lie in each other")
    check_folder(folder)


def _read_folders(root: str) -> list[_Row]:
    return [_Row(sample.path, sample.person) for sample in read_people(root, layout="folders").samples]


def _read_csv(path: str, root: str) -> list[_Row]:
    rows: list[_Row] = []
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column '{missing[0]}'; expected {', '.join(COLUMNS)}")
            for cells in reader:
                rows.append(_row(cells, root, f"{path}, line {reader.line_num}"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error})") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def _row(cells: dict[str, str], root: str, where: str) -> _Row:
    if None in cells or any(value is None for value in cells.values()):
        raise DataError(f"{where}: it has more or fewer cells than the header")
    if not cells["fake"] or not cells["source_person"]:
        raise DataError(f"{where}: 'fake' and 'source_person' must not be empty")
    try:
        seed = int(cells.get("seed") or -1)
    except ValueError:
        raise DataError(f"{where}: seed is {cells['seed']!r}, expected a whole number") from None
    others = {name: value for name, value in cells.items() if name not in COLUMNS and value}
    text = cells.get("params") or ""
    try:
        params = {**(json.loads(text) if text else {}), **others}
    except (ValueError, TypeError):
        params = {"params": text, **others}
    return _Row(
        os.path.normpath(os.path.join(root, cells["fake"])),
        cells["source_person"],
        cells.get("source_photo") or "",
        cells.get("target_person") or "",
        cells.get("target_photo") or "",
        seed,
        json.dumps(params, sort_keys=True),
    )


def _name(method: str, row: _Row, root: str) -> str:
    stem, suffix = os.path.splitext(os.path.basename(row.path))
    digest = hashlib.sha256(os.fsencode(os.path.relpath(row.path, root))).hexdigest()[:10]
    return os.path.join(method, safe_name(row.person), f"{safe_name(stem)}~{digest}{suffix.lower()}")


def _problem(path: str) -> str:
    """Why a file is no picture; empty if it is one by its header."""
    try:
        probe(read_file(path))
    except PhotoError as error:
        return error.reason
    return ""


def _place(path: str, goal: str, how: str) -> None:
    os.makedirs(os.path.dirname(goal), exist_ok=True)
    if os.path.lexists(goal):
        os.unlink(goal)
    if how == "copy":
        shutil.copyfile(path, goal)
        return
    try:
        os.link(path, goal)
    except OSError:  # another file system, or one without hard links
        os.symlink(path, goal)


def _fake(name: str, method: str, row: _Row) -> Fake:
    return Fake(
        fake=name,
        method=method,
        source_person=row.person,
        source_photo=row.source_photo,
        target_person=row.target_person,
        target_photo=row.target_photo,
        seed=row.seed,
        quality=0,
        params=row.params,
    )
