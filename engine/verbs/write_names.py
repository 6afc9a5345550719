"""The verb `write-names`: who is who in an index, as face regions in sidecars beside its photos."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from faceembed.engine.evaluate.known_people import read_names
from faceembed.engine.index.clusters.output import SUFFIXES, read_clusters
from faceembed.engine.index.files import IndexFiles, read_whole
from faceembed.engine.index.manifest import read_manifest
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.archives.names import SEPARATOR
from faceembed.engine.photos.photo_file import decode_path, photo_file, printable
from faceembed.engine.photos.region_writing import write_regions
from faceembed.engine.photos.regions import frame_of
from faceembed.engine.photos.turning import Region
from faceembed.errors import DataError, PhotoError

_COLUMNS = ("face_id", "path", "face", "x", "y", "w", "h", "image_width", "image_height", "size", "mtime_ns")


@dataclasses.dataclass(frozen=True)
class NamesReport:
    """What was written; the fields of ``--json``."""

    photos: int
    """Photos whose sidecars have names now."""
    named: int
    people: int
    changed: int
    """Sidecars that were written, or rid of names that are not given any more."""
    left: int
    """Photos whose sidecar was left as it is, each with a line that says why."""


def write_names(
    index: str | os.PathLike[str], names: str | os.PathLike[str], *, notice: Callable[[str], None] = lambda line: None
) -> NamesReport:
    """Write names into XMP sidecars of an index's photos.

    Args:
        index: made by `embed`.
        names: a table ``path,name[,face]`` or ``face_id,name``, or a file of `cluster` with names.
        notice: called with lines for the user.

    Raises:
        DataError: no such index, or nobody has a name.
        PairListError: the table names what is not in the index.
        IndexFormatError: a damaged index or file of clusters.
    """
    faces: pa.Table = read_whole(index, lambda files: _faces(files, notice))
    given = _names(names, faces)
    if not given:
        raise DataError(f"{printable(os.fspath(names))}: nobody in it has a name")
    rows = faces.to_pylist()
    by_photo: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_photo.setdefault(row["path"], []).append(number)
    photos, changed, left, written = 0, 0, 0, set()
    for text, numbers in by_photo.items():
        path, named = decode_path(text), [number for number in numbers if number in given]
        try:
            new = _write(path, [rows[number] for number in named], [given[number] for number in named])
        except (PhotoError, OSError) as error:
            left += 1
            notice(f"{printable(path)}: {error.reason if isinstance(error, PhotoError) else error.strerror or error}")
            continue
        changed += new
        photos += bool(named)
        written.update(named)
    return NamesReport(photos, len(written), len({given[number] for number in written}), changed, left)


def _faces(files: IndexFiles, notice: Callable[[str], None]) -> pa.Table:
    read_manifest(files, notice=notice)
    return load_faces(files).rows.select(_COLUMNS)


def _names(path: str | os.PathLike[str], faces: pa.Table) -> dict[int, str]:
    """Row of a face to its name."""
    if not os.fspath(path).endswith(SUFFIXES):
        return read_names(path, faces)
    places = {face_id: row for row, face_id in enumerate(faces.column("face_id").to_pylist())}
    found = read_clusters(path)[0].select(["face_id", "name"]).to_pylist()
    return {places[one["face_id"]]: one["name"] for one in found if one["name"] and one["face_id"] in places}


def _write(path: str, faces: list[dict[str, Any]], names: list[str]) -> bool:
    """Names of one photo.

    Raises:
        PhotoError: it, or its sidecar, is not as it must be.
    """
    if SEPARATOR in path and not os.path.exists(path):
        if names:
            raise PhotoError("sidecar", "is inside of an archive, where no sidecar can lie")
        return False
    if not names:
        return os.path.exists(path) and write_regions(path, [], sides=(1, 1), orientation=1)
    if photo_file(path).stamp != (faces[0]["size"], faces[0]["mtime_ns"]):
        raise PhotoError("sidecar", "is gone, or another photo than the index has; embed it again first")
    frame = frame_of(path)
    wide, high = float(faces[0]["image_width"]), float(faces[0]["image_height"])
    upright = frame.sides if frame.orientation < 5 else frame.sides[::-1]
    if (wide > high) != (upright[0] > upright[1]) and wide != high and upright[0] != upright[1]:
        raise PhotoError("sidecar", "lies otherwise than when it was embedded; embed it again first")
    regions = [
        Region(name, (face["x"] / wide, face["y"] / high, face["w"] / wide, face["h"] / high))
        for face, name in zip(faces, names, strict=True)
    ]
    return write_regions(path, regions, sides=frame.sides, orientation=frame.orientation)
