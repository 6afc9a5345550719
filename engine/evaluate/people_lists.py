"""Whose photos there are: a folder of people, or a table of names and paths.

    listed = read_people_list("people")              # people/<name>/<photo>, and people/<name>.jpg for somebody with one photo
    listed = read_people_list("people.csv")          # name,path
    listed.photos                                    # (name, path) of each photo

What is not known here: faces, and what the list is for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from faceembed.engine.evaluate.tables import decoded, rows
from faceembed.engine.photos.left_out import Choice
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.photo_file import decode_path, printable
from faceembed.engine.photos.places import is_photo_file
from faceembed.errors import DataError, PairListError

NAMES = ("name", "person", "subject", "identity", "label", "people")
PATHS = ("path", "photo", "file", "image", "img", "filename")


@dataclasses.dataclass(frozen=True)
class PeopleList:
    """Who is on which photo."""

    source: str
    photos: tuple[tuple[str, str], ...]
    """Name and absolute path, in the order of the list."""
    places: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of a folder: each person's folder or file."""
    empty: tuple[str, ...] = ()
    """People of whose folder no photo came."""
    remarks: tuple[str, ...] = ()
    """Lines for the user: what was left out or could not be read."""


def read_people_list(
    source: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, choice: Choice | None = None
) -> PeopleList:
    """Read a folder of people, or a table.

    Args:
        source: a folder with a folder for each person, or a photo that bears their name; or a table (commas, semicolons or tabs) with the
            columns `NAMES` and `PATHS`, or without a header name and path.
        root: what a table's paths are relative to; None: the table's own folder.
        choice: what is left out of folders and what is taken.

    Raises:
        DataError: it is not there, or nobody is in it.
        PairListError: a table that cannot be read, naming file and line.
    """
    place = os.fspath(source)
    if os.path.isdir(place):
        return _folder(place, choice)
    try:
        with open(place, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(
            f"{printable(place)}: {error.strerror or error}; give a folder of people or a table name,path"
        ) from error
    base = os.path.dirname(os.path.abspath(place)) if root is None else os.path.abspath(os.fspath(root))
    return _table(place, decoded(place, data), base)


def _folder(place: str, choice: Choice | None) -> PeopleList:
    found: list[tuple[str, str]] = []
    places: dict[str, str] = {}
    single = 0
    empty, base = [], os.path.abspath(place)
    listing = list_photos([base], choice=choice)
    for photo in listing.photos:
        first, *inner = os.path.relpath(photo.path, base).split(os.sep)
        name = first if inner else os.path.splitext(first)[0]
        where = os.path.join(base, first)
        if places.setdefault(name, where) != where:
            raise DataError(
                f"{printable(places[name])} and {printable(where)} are two people of one name, or one person in two places; "
                "rename one, or put them together"
            )
        single += not inner
        found.append((name, photo.path))
    with os.scandir(base) as entries:
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
            if entry.is_dir() and entry.name not in places and entry.path not in listing.left_out:
                empty.append(entry.name)
    if not found:
        raise DataError(
            f"{printable(place)}: nobody is in it; it wants a folder of photos for each person, as {os.path.join(printable(place), 'ann', '1.jpg')}"
        )
    remarks = listing.remarks()
    remarks += [f"{printable(path)}: {reason}" for path, reason in listing.failures]
    if single and single < len(found):
        remarks.append(f"{single:,} photos beside the folders are each taken for a person of the file's name")
    return PeopleList(place, tuple(found), places, tuple(empty), tuple(remarks))


def _table(source: str, text: str, base: str) -> PeopleList:
    def fits(cells: Sequence[str]) -> bool:
        return _header(cells) is not None or (
            len(cells) == 2 and os.path.isfile(os.path.join(base, decode_path(cells[1])))
        )

    table = rows(source, text, fits)
    if not table:
        raise DataError(f"{source}: nobody is in it; it wants rows of name,path")
    columns = _header(table[0].cells)
    if columns is None and not fits(table[0].cells):
        raise PairListError(
            f"{table[0].where}: expected the columns name,path, separated by commas, semicolons or tabs, got "
            f"{','.join(table[0].cells)[:80]!r}"
        )
    name_at, path_at = columns or (0, 1)
    width, found = len(table[0].cells), []
    for row in table[1:] if columns else table:
        if len(row.cells) != width:
            raise PairListError(
                f"{row.where}: expected {width} columns, got {len(row.cells)}; quote a file name that contains a comma"
            )
        path = decode_path(row.cells[path_at])
        if not path or "\0" in path or not row.cells[name_at].strip():
            raise PairListError(f"{row.where}: a name and a path are wanted, got {','.join(row.cells)[:80]!r}")
        found.append((row.cells[name_at], os.path.join(base, path)))
    if not found:
        raise DataError(f"{source}: nobody is in it; it wants rows of name,path")
    if not any(is_photo_file(path) for _, path in found):
        raise PairListError(
            f"{source}: none of its {len(found)} photos is there, the first is {printable(found[0][1])}; correct the list, or say with "
            "--root which folder its paths are relative to"
        )
    return PeopleList(source, tuple(found))


def _header(cells: Sequence[str]) -> tuple[int, int] | None:
    """Where name and path are, if this row is a header."""
    head = [cell.strip().lower() for cell in cells]
    name = next((head.index(word) for word in NAMES if word in head), None)
    path = next((head.index(word) for word in PATHS if word in head), None)
    return None if name is None or path is None else (name, path)
