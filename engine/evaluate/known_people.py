"""What people write down of who is who in an index: pairs that must or cannot be one person, and names.

    links = read_constraints("c.csv", faces)        # path_a,path_b,link[,face_a,face_b], or face_id_a,face_id_b,link
    names = read_names("names.csv", faces)          # path,name[,face], or face_id,name

Paths are relative to the file. A path stands for its photo's largest face, unless a column says which.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from faceembed.engine.evaluate.tables import Row, decoded, rows
from faceembed.engine.index.clusters.constraints import Constraints
from faceembed.engine.people.gallery import good_name
from faceembed.engine.photos.photo_file import decode_path, printable
from faceembed.errors import DataError, PairListError

LINKS = {
    "must": True,
    "same": True,
    "1": True,
    "yes": True,
    "cannot": False,
    "different": False,
    "0": False,
    "no": False,
}


def read_constraints(path: str | os.PathLike[str], faces: pa.Table) -> Constraints:
    """Pairs of faces that must or cannot be one person.

    Args:
        path: a table with the columns ``path_a``, ``path_b`` and ``link`` (must or cannot) and, if wanted, ``face_a``, ``face_b``; or
            ``face_id_a``, ``face_id_b`` and ``link``.
        faces: the index's.

    Raises:
        PairListError: it cannot be read, or names what is not in the index, with file and line.
    """
    table, columns = _table(path, (("path_a", "path_b", "link"), ("face_id_a", "face_id_b", "link")))
    where = _Places(path, faces)
    pairs: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for row in table:
        kind = LINKS.get(row.cells[columns["link"]].strip().lower())
        if kind is None:
            raise PairListError(f"{row.where}: bad link {row.cells[columns['link']]!r}; expected must or cannot")
        a, b = (where.row(row, columns, side) for side in ("_a", "_b"))
        if a == b:
            raise PairListError(f"{row.where}: both are one face")
        pairs[kind].append((a, b))
    must, cannot = (np.array(pairs[kind], np.int64).reshape(-1, 2) for kind in (True, False))
    return Constraints(must, cannot)


def read_names(path: str | os.PathLike[str], faces: pa.Table) -> dict[int, str]:
    """Row of a face to its person's name.

    Args:
        path: a table with the columns ``path`` and ``name`` and, if wanted, ``face``; or ``face_id`` and ``name``.
        faces: the index's.

    Raises:
        PairListError: it cannot be read, names what is not in the index, or calls one face by two names.
        UsageError: a name that is none.
    """
    table, columns = _table(path, (("path", "name"), ("face_id", "name")))
    where = _Places(path, faces)
    found: dict[int, str] = {}
    for row in table:
        name, at = good_name(row.cells[columns["name"]], row.where), where.row(row, columns, "")
        if found.setdefault(at, name) != name:
            raise PairListError(f"{row.where}: '{printable(name)}' was '{printable(found[at])}' in a line before")
    return found


def links_of(names: dict[int, str]) -> Constraints:
    """Faces of one name are one person, those of two are not."""
    people: dict[str, list[int]] = {}
    for row, name in names.items():
        people.setdefault(name, []).append(row)
    must = [(of[0], other) for of in people.values() for other in of[1:]]
    firsts = [of[0] for of in people.values()]
    cannot = [(a, b) for number, a in enumerate(firsts) for b in firsts[number + 1 :]]
    return Constraints(np.array(must, np.int64).reshape(-1, 2), np.array(cannot, np.int64).reshape(-1, 2))


def _table(path: str | os.PathLike[str], kinds: Sequence[tuple[str, ...]]) -> tuple[list[Row], dict[str, int]]:
    name = printable(os.fspath(path))
    try:
        with open(path, "rb") as file:
            text = decoded(name, file.read())
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or error}") from error
    known = [set(kind) for kind in kinds]
    table = rows(name, text, lambda cells: any(kind <= {cell.strip().lower() for cell in cells} for kind in known))
    head = [cell.strip().lower() for cell in table[0].cells] if table else []
    if not any(kind <= set(head) for kind in known):
        wanted = " or ".join(",".join(kind) for kind in kinds)
        raise PairListError(f"{name}: its first line must have the columns {wanted}, got {','.join(head)[:80]!r}")
    for row in table[1:]:
        if len(row.cells) != len(head):
            raise PairListError(f"{row.where}: expected {len(head)} columns, got {len(row.cells)}")
    return table[1:], {column: head.index(column) for column in head}


class _Places:
    """Rows of an index's faces by what a table calls them."""

    def __init__(self, path: str | os.PathLike[str], faces: pa.Table) -> None:
        self._base = os.path.dirname(os.path.abspath(path))
        paths = [decode_path(text) for text in faces.column("path").to_pylist()]
        self._by_photo = {key: row for row, key in enumerate(zip(paths, faces.column("face").to_pylist(), strict=True))}
        self._by_id = {face_id: row for row, face_id in enumerate(faces.column("face_id").to_pylist())}

    def row(self, row: Row, columns: dict[str, int], side: str) -> int:
        if f"face_id{side}" in columns:
            cell = row.cells[columns[f"face_id{side}"]].strip()
            found = self._by_id.get(int(cell)) if cell.isascii() and cell.isdigit() else None
            if found is None:
                raise PairListError(f"{row.where}: there is no face_id {cell!r} in the index")
            return found
        cell = row.cells[columns[f"face{side}"]].strip() if f"face{side}" in columns else ""
        if cell and not (cell.isascii() and cell.isdigit()):
            raise PairListError(f"{row.where}: bad face {cell!r}; expected its number in the photo, 0 for the largest")
        path = os.path.normpath(os.path.join(self._base, decode_path(row.cells[columns[f"path{side}"]])))
        found = self._by_photo.get((path, int(cell or 0)), self._by_photo.get((os.path.realpath(path), int(cell or 0))))
        if found is None:
            raise PairListError(f"{row.where}: the index has no face {cell or 0} of {printable(path)}")
        return found
