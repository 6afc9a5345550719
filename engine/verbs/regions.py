"""The verb `regions`: names that other programs wrote into an index's photos, as a list that `cluster --names` takes."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from faceembed.engine.index.files import IndexFiles, read_whole
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.albums import read_contacts
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.photos.regions import read_regions
from faceembed.engine.photos.turning import Box
from faceembed.errors import DataError, PhotoError
from faceembed.files import atomic_write
from faceembed.outputs import check_output

LEAST = 0.2
"""Intersection over union of a region and a face from which on they are one: programs draw their boxes wider or tighter than an aligner."""
HEADER = ("path", "face", "name")


@dataclasses.dataclass(frozen=True)
class RegionReport:
    """What was found; the fields of ``--json``."""

    output: str
    photos: int
    """Photos of the index that were looked at."""
    named: int
    """Faces of the index that have a name."""
    people: int
    elsewhere: int
    """Named regions where the index has no face."""
    unread: int
    """Photos that could not be read."""
    unplaced: int
    """Names of which nobody says where they are on their photos, and which could be one of several faces, or several people's."""


def regions(
    index: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    contacts: str | os.PathLike[str] | None = None,
    notice: Callable[[str], None] = lambda line: None,
) -> RegionReport:
    """Collect the names of an index's faces from its photos' metadata and sidecars.

    Args:
        index: made by `embed`, with ``faces="all"`` where photos show several people.
        output: a table ``path,face,name``.
        contacts: Picasa's ``contacts.xml``, where its inis do not hold the names themselves.
        notice: called with lines for the user.

    Raises:
        DataError: no such index, or no name in any of its photos; then nothing is written.
        UsageError: the output is there and not ours.
    """
    check_output(output, "names", (index,))
    known = {} if contacts is None else read_contacts(contacts)

    def load(files: IndexFiles) -> list[dict[str, Any]]:
        read_manifest(files, notice=notice)
        columns = ["path", "face", "x", "y", "w", "h", "image_width", "image_height"]
        faces: list[dict[str, Any]] = load_faces(files).rows.select(columns).to_pylist()
        return faces

    by_photo: dict[str, list[dict[str, Any]]] = {}
    for row in read_whole(index, load):
        by_photo.setdefault(row["path"], []).append(row)
    rows, elsewhere, unread, unplaced = [], 0, 0, 0
    for text, faces in by_photo.items():
        path = decode_path(text)
        try:
            found = read_regions(path, known)
        except PhotoError as error:
            unread += 1
            notice(f"{printable(path)}: {error.reason}")
            continue
        for line in found.remarks:
            notice(f"{printable(path)}: {line}")
        if len(found.names) == len(faces) == 1:
            rows.append((text, faces[0]["face"], found.names[0]))
        else:
            unplaced += len(found.names)
        wide, high = faces[0]["image_width"], faces[0]["image_height"]
        places = [
            tuple(share * side for share, side in zip(of.box, (wide, high, wide, high), strict=True))
            for of in found.regions
        ]
        couples = [
            (_overlap(place, face), region, number)
            for region, place in enumerate(places)
            for number, face in enumerate(faces)
        ]
        taken: set[int] = set()
        given: set[int] = set()
        for overlap, region, number in sorted(couples, key=lambda couple: -couple[0]):
            if overlap >= LEAST and region not in taken and number not in given:
                taken.add(region)
                given.add(number)
                rows.append((text, faces[number]["face"], found.regions[region].name))
        elsewhere += len(places) - len(taken)
    if not rows:
        raise DataError(
            f"{printable(os.fspath(index))}: no face of it has a name in the metadata of its {len(by_photo):,} photos, or in sidecars "
            f"beside them ({elsewhere:,} names are elsewhere in photos, {unplaced:,} have no place, {unread:,} photos could not be read)"
        )
    with atomic_write(output, "w") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *sorted(rows)])
    return RegionReport(
        encode_path(os.fspath(output)),
        len(by_photo),
        len(rows),
        len({name for *_, name in rows}),
        elsewhere,
        unread,
        unplaced,
    )


def _overlap(place: tuple[float, ...], face: dict[str, Any]) -> float:
    """Intersection over union."""
    box: Box = (face["x"], face["y"], face["w"], face["h"])
    width = min(place[0] + place[2], box[0] + box[2]) - max(place[0], box[0])
    height = min(place[1] + place[3], box[1] + box[3]) - max(place[1], box[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(place[2] * place[3] + box[2] * box[3] - shared, 1e-9)
