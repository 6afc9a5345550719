"""Lists of templates: which photos belong together, whom they show, and where in the photo, if the list says so.

    gallery = read_templates_of("gallery.csv", root="ijb/images")
    gallery.templates[0].subject, gallery.templates[0].photos

The tables of IJB-B and IJB-C (``TEMPLATE_ID,SUBJECT_ID,FILENAME,…,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT``, NIST's protocol files) are read as
they are. A list of people (`people_lists`) is one too: in a gallery all photos of a person are a template, among probes each photo is one.
"""

from __future__ import annotations

import dataclasses
import os

from faceembed.engine.evaluate.people_lists import read_people_list
from faceembed.engine.evaluate.tables import Row, decoded, rows
from faceembed.engine.photos.photo_file import decode_path, printable
from faceembed.errors import DataError, PairListError

IJB = ("template_id", "subject_id", "filename")
_BOX = ("face_x", "face_y", "face_width", "face_height")
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class ListedPhoto:
    """One photo of a template."""

    path: str
    box: Box | None = None
    """x, y, width, height of the face that is meant; None: the largest."""


@dataclasses.dataclass(frozen=True)
class ListedTemplate:
    """Photos that stand for somebody together."""

    name: str
    subject: str
    photos: tuple[ListedPhoto, ...]


@dataclasses.dataclass(frozen=True)
class TemplateList:
    """The templates of one list, in its order."""

    source: str
    templates: tuple[ListedTemplate, ...]
    remarks: tuple[str, ...] = ()

    @property
    def photos(self) -> list[str]:
        """Every path once."""
        return list(dict.fromkeys(photo.path for of in self.templates for photo in of.photos))


def read_templates_of(
    source: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, whole: bool
) -> TemplateList:
    """Read a list.

    Args:
        source: IJB's table, or a folder or table of people.
        root: what a table's paths are relative to; None: the table's own folder.
        whole: of a list of people, whether all photos of a person are one template, as in a gallery.

    Raises:
        DataError: it is not there, or holds nothing.
        PairListError: it cannot be read, naming file and line.
    """
    place = os.fspath(source)
    if os.path.isfile(place):
        with open(place, "rb") as file:
            text = decoded(place, file.read())
        table = rows(place, text, lambda cells: set(IJB) <= {cell.strip().lower() for cell in cells})
        if table and set(IJB) <= {cell.strip().lower() for cell in table[0].cells}:
            base = os.path.dirname(os.path.abspath(place)) if root is None else os.path.abspath(os.fspath(root))
            return _ijb(place, table, base)
    listed = read_people_list(place, root=root)
    if not whole:
        each = tuple(ListedTemplate(path, name, (ListedPhoto(path),)) for name, path in listed.photos)
        return TemplateList(place, each, listed.remarks)
    people: dict[str, list[ListedPhoto]] = {}
    for name, path in listed.photos:
        people.setdefault(name, []).append(ListedPhoto(path))
    made = tuple(ListedTemplate(name, name, tuple(photos)) for name, photos in people.items())
    return TemplateList(place, made, listed.remarks)


def _ijb(source: str, table: list[Row], base: str) -> TemplateList:
    head = [cell.strip().lower() for cell in table[0].cells]
    at = {name: head.index(name) for name in (*IJB, *_BOX) if name in head}
    found: dict[str, tuple[str, list[ListedPhoto]]] = {}
    for row in table[1:]:
        if len(row.cells) != len(head):
            raise PairListError(f"{row.where}: expected {len(head)} columns, got {len(row.cells)}")
        template, subject, name = (row.cells[at[column]].strip() for column in IJB)
        if not (template and subject and name):
            raise PairListError(f"{row.where}: a template, a subject and a file name are wanted")
        owner, photos = found.setdefault(template, (subject, []))
        if owner != subject:
            raise PairListError(
                f"{row.where}: template {template} shows subject {owner} in lines before, and {subject} here"
            )
        photos.append(ListedPhoto(os.path.join(base, decode_path(name)), _box(row, at)))
    if not found:
        raise DataError(f"{printable(source)}: no templates are in it")
    made = tuple(ListedTemplate(name, subject, tuple(photos)) for name, (subject, photos) in found.items())
    return TemplateList(source, made)


def _box(row: Row, at: dict[str, int]) -> Box | None:
    if not set(_BOX) <= at.keys():
        return None
    cells = [row.cells[at[name]].strip() for name in _BOX]
    if not any(cells):
        return None
    try:
        x, y, width, height = map(float, cells)
    except ValueError:
        raise PairListError(f"{row.where}: a face's place is four numbers, got {','.join(cells)!r}") from None
    return x, y, width, height
