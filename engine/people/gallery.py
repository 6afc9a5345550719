"""A gallery: people by name, each with photos of them, in one file (parquet) that says which encoder made it.

    gallery = read_gallery("staff.gallery")
    gallery.people["ann"].embeddings            # float32 (N, D)
    write_gallery("staff.gallery", gallery)

One row a photo: ``person``, the columns of an index's table, ``reason`` (why the photo cannot be used, or null) and ``embedding``.
Photos that cannot be used keep their rows, so that nobody has to guess later why somebody is not recognised.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.photos.no_text import known_kind
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.rows import FACE_SCHEMA, read_parquet
from faceembed.errors import DataError, IndexFormatError, UsageError
from faceembed.files import atomic_write
from faceembed.marks import GALLERY
from faceembed.plain import to_json

FORMAT = 1
UNKNOWN = "unknown"
"""What `identify` calls a face that is nobody's; no one may be called so."""
SENT = "upload:"
"""What the path of a photo that was sent to a server starts with; its digest follows."""
_AGAIN = "if it was a gallery, put it aside and make it again: faceembed enrol PEOPLE -o"


@dataclasses.dataclass(frozen=True)
class Photo:
    """One photo of somebody."""

    person: str
    row: dict[str, Any]
    """The columns of `FACE_SCHEMA`; without a usable face, those of its file alone are filled in."""
    embedding: NDArray[np.float32] | None
    """(D,), unit length; None where the photo cannot be used."""
    reason: str | None = None
    """Why it cannot."""

    @property
    def path(self) -> str:
        """As text (`encode_path`)."""
        return str(self.row["path"])


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody, and the photos of them that can be used."""

    name: str
    photos: tuple[Photo, ...]

    @functools.cached_property
    def usable(self) -> tuple[Photo, ...]:
        """Those with an embedding."""
        return tuple(photo for photo in self.photos if photo.embedding is not None)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """float32 (N, D) of the usable photos; N may be 0."""
        rows = [photo.embedding for photo in self.usable if photo.embedding is not None]
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    @property
    def quality(self) -> NDArray[np.float32]:
        """(N,) what weights them in a template: the aligner's score."""
        return np.array([max(float(photo.row["score"]), 1e-3) for photo in self.usable], np.float32)


@dataclasses.dataclass(frozen=True)
class Gallery:
    """People and what made their embeddings."""

    about: dict[str, Any]
    """``encoder`` and ``aligner`` (name and sha256), ``preprocessing``, ``dimension``, ``faceembed``."""
    photos: tuple[Photo, ...]

    @functools.cached_property
    def people(self) -> dict[str, Person]:
        """By name, in the order of names."""
        found: dict[str, list[Photo]] = {}
        for photo in self.photos:
            found.setdefault(photo.person, []).append(photo)
        return {name: Person(name, tuple(found[name])) for name in sorted(found)}

    def with_photos(self, photos: Iterable[Photo]) -> Gallery:
        """The same with other photos."""
        return Gallery(self.about, tuple(photos))


def good_name(name: str, where: str) -> str:
    """A person's name as it is kept: trimmed, in Unicode's composed form (NFC), so that one name has one spelling.

    Raises:
        UsageError: it shows nothing, has control characters or ends of lines, or is what strangers are called.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    if not _seen(clean).strip() or any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in clean):
        raise UsageError(f"{where}: {name!r} is no name of a person; give it letters on one line")
    if clean.casefold() == UNKNOWN:
        raise UsageError(
            f"{where}: '{printable(clean)}' is what identify calls strangers; give that person another name"
        )
    return clean


def _seen(name: str) -> str:
    """What of a name can be seen: signs of format, such as spaces without width, are not."""
    return "".join(sign for sign in name if unicodedata.category(sign) != "Cf")


def check_alike(names: Iterable[str]) -> None:
    """Refuse names that only differ in capitals, spaces or what cannot be seen: they are one person's, or nobody could tell.

    Raises:
        UsageError: naming both.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault("".join(_seen(name).casefold().split()), name)
        if other != name:
            raise UsageError(
                f"'{printable(other)}' and '{printable(name)}' are two people of one name, or one person spelt in two ways; rename one"
            )


def _schema(dimension: int) -> pa.Schema:
    columns = [field for field in FACE_SCHEMA if field.name != "face_id"]
    more = [("reason", pa.string()), ("embedding", pa.list_(pa.float32(), dimension))]
    return pa.schema([("person", pa.string()), *((field.name, field.type) for field in columns), *more])


def write_gallery(path: str | os.PathLike[str], gallery: Gallery) -> None:
    """Write it whole or not at all.

    Raises:
        OSError: it cannot be written; an older file stays as it was.
    """
    schema = _schema(int(gallery.about["dimension"]))
    rows = [
        {
            "person": photo.person,
            **{name: photo.row.get(name) for name in schema.names[1:-2]},
            "reason": photo.reason,
            "embedding": None if photo.embedding is None else photo.embedding.tolist(),
        }
        for photo in gallery.photos
    ]
    about = to_json({"format": FORMAT, **gallery.about})
    table = pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata({GALLERY: about})
    with atomic_write(path) as file:
        pq.write_table(table, file)


def read_gallery(path: str | os.PathLike[str]) -> Gallery:
    """What `write_gallery` wrote.

    Raises:
        DataError: there is no such file.
        IndexFormatError: it is no gallery, damaged, or of a format that this version does not read.
    """
    name = printable(os.fspath(path))
    if not os.path.exists(path):
        raise DataError(f"{name}: there is no such gallery; make one: faceembed enrol PEOPLE -o {name}")
    advice = f"{_AGAIN} {name}"
    with open(path, "rb") as file:
        head = file.read(512)
    if (kind := known_kind(head)) and not head.startswith(b"PAR1"):
        raise IndexFormatError(f"{name} is {kind}, and no gallery of people; make one: faceembed enrol PEOPLE -o FILE")
    table = read_parquet(path, ("person", "path", "reason", "embedding"), advice=advice)
    try:
        about = json.loads((table.schema.metadata or {})[GALLERY.encode()])
        found = int(about["format"])
        encoder, dimension = str(about["encoder"]["sha256"]), int(about["dimension"])
    except (KeyError, ValueError, TypeError) as error:
        raise IndexFormatError(f"{name} is no gallery, or a damaged one ({error}); {advice}") from error
    if found != FORMAT:
        raise IndexFormatError(f"{name} has format {found}, this version reads {FORMAT}")
    table = read_parquet(path, advice=advice, columns=_schema(dimension).names)
    if table.column("embedding").type != pa.list_(pa.float32(), dimension) or not encoder:
        raise IndexFormatError(f"{name} is damaged: its embeddings are not those of {dimension} numbers; {advice}")
    photos = []
    for row in table.to_pylist():
        person, reason, numbers = row.pop("person"), row.pop("reason"), row.pop("embedding")
        vector = None if numbers is None else np.asarray(numbers, np.float32)
        if vector is not None and not abs(float(np.linalg.norm(vector)) - 1) < 1e-3:
            raise IndexFormatError(
                f"{name} is damaged: an embedding of '{printable(person)}' is not of unit length; {advice}"
            )
        photos.append(Photo(person, row, vector, reason))
    return Gallery(about, tuple(photos))


def is_gallery(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a gallery, seen by its content."""
    try:
        with open(path, "rb") as file:
            return GALLERY.encode() in (pq.read_schema(file).metadata or {})
    except (OSError, pa.ArrowException):
        return False
