"""The names that older versions gave to an index's other files: ``people.parquet`` where it is now ``people.faiss.parquet``.

Such a name may be anybody's, so a file counts as the index's only by what is in it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def of(faiss: Path, final: Path) -> str:
    """The older name of a file, as in ``people.parquet`` of ``people.faiss.parquet``."""
    return faiss.stem + final.name[len(faiss.name) :] if final != faiss else final.name


def are_there(faiss: Path) -> bool:
    """Whether there is a finished index whose other files have such names."""
    manifest = faiss.with_suffix(".json")
    if not manifest.exists() or not faiss.exists():
        return False
    return _is_manifest(manifest) or _is_table(faiss.with_suffix(".parquet"))


def unfinished(faiss: Path) -> Path | None:
    """The folder of an unfinished run of such a name."""
    folder = faiss.with_suffix(".partial")
    return folder if _is_unfinished_run(folder) else None


def rename(faiss: Path, *, marker: str) -> None:
    """Give the index's files their new names, the description last: killed on the way, it is found as before.

    Args:
        faiss: the index.
        marker: the file in the folder of an unfinished run that says that new files were taking their places.
    """
    partial = unfinished(faiss)
    checks: dict[str, Callable[[Path], bool]] = {".partial": _is_unfinished_run}
    if are_there(faiss) or (partial and (partial / marker).exists()):
        checks |= _CHECKS
    for ending, is_ours in checks.items():
        before, after = faiss.with_suffix(ending), Path(f"{faiss}{ending}")
        if before.exists() and not after.exists() and is_ours(before):
            os.replace(before, after)


def _is_manifest(path: Path) -> bool:
    found = _json(path)
    return isinstance(found, dict) and {"format", "encoder", "dimension", "faces", "next_face_id"} <= found.keys()


def _is_somebodys(path: Path) -> bool:
    """Whether it is sound JSON of another kind; what is damaged beside a table of faces is taken for the description."""
    return _json(path) is not None


def _json(path: Path) -> object:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _is_table(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return {"face_id", "path", "landmarks", "norm"} <= set(pq.read_schema(file).names)
    except (OSError, ValueError, pa.ArrowException):
        return False


def _is_errors(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return next(csv.reader(io.StringIO(file.readline())), [])[:3] == ["path", "stage", "reason"]
    except (OSError, csv.Error):
        return False


def _is_vectors(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except OSError:
        return False


def _is_unfinished_run(folder: Path) -> bool:
    found = _json(folder / "settings.json")
    return isinstance(found, dict) and "encoder" in found


_CHECKS: dict[str, Callable[[Path], bool]] = {
    ".parquet": _is_table,
    ".errors.csv": _is_errors,
    ".vectors.npy": _is_vectors,
    ".json": lambda path: _is_manifest(path) or not _is_somebodys(path),
}
