"""A folder of links to the photos of each cluster, to look at with whatever shows folders.

    people/person-000003/17-IMG_2041.jpg -> /photos/2023/IMG_2041.jpg

The names say nothing to a shell or a file manager: letters, digits, ``. _ -`` and nothing in front but a number.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from faceembed.engine.index.graph import Ints
from faceembed.engine.photos.archives.names import split
from faceembed.engine.photos.left_out import LINKS
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.places import is_gone
from faceembed.errors import DataError, UsageError

MARK = LINKS
_FOLDER = re.compile(r"person-\d{6,}")
_MOST_BYTES = 150  # of a name


def check_links(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that holds something else.

    Raises:
        UsageError: it is neither new, empty, nor one that an earlier run made.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise UsageError(f"--links {place} is a file; give a folder")
    if place.is_dir() and any(place.iterdir()) and not has_links(place):
        raise UsageError(f"--links {place} holds other files; give a new or empty folder")


def has_links(folder: str | os.PathLike[str]) -> bool:
    """Whether an earlier run made this folder."""
    return (Path(folder) / MARK).is_file()


@dataclasses.dataclass(frozen=True)
class Links:
    """What `write_links` made."""

    folders: int
    links: int
    missing: list[str]
    """Photos that are not there: they get no link, which would lead nowhere."""
    inside: int = 0
    """Photos in archives, to which no link can lead."""


def write_links(
    folder: str | os.PathLike[str], paths: Sequence[str], ids: Ints, clusters: Ints, *, least_faces: int = 2
) -> Links:
    """Make the folders anew: links of an earlier run are taken away first, anything else is left.

    A photo with several faces of one person gets one link, with the number of the first.

    Args:
        folder: made if it is not there.
        paths: N absolute paths of photos.
        ids: (N,) numbers that make the links' names unique; of several faces on one photo the first one's.
        clusters: (N,) numbers.
        least_faces: smaller clusters get no folder.

    Raises:
        DataError: none of the photos is there; then links of an earlier run are left as they are.
        UsageError: as `check_links`.
        OSError: a link cannot be made.
    """
    check_links(folder)
    inside = {path for path in set(paths) if split(path) and not os.path.lexists(path)}
    missing = sorted(path for path in set(paths) - inside if is_gone(path))
    if missing and len(missing) == len(set(paths) - inside):
        raise DataError(
            f"none of the {len(missing):,} photos is where the index says, the first is {printable(missing[0])}: is a disk not mounted? "
            "If they are elsewhere now: faceembed relocate INDEX OLD NEW"
        )
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / MARK).touch()
    for old in place.iterdir():
        if old.is_dir() and not old.is_symlink() and _FOLDER.fullmatch(old.name):
            for entry in old.iterdir():
                if entry.is_symlink():
                    entry.unlink()
            with contextlib.suppress(OSError):  # somebody put a file there
                old.rmdir()
    members: dict[int, list[int]] = {}
    seen: set[tuple[int, str]] = set()
    absent = inside.union(missing)
    for row, cluster in enumerate(clusters.tolist()):
        if paths[row] not in absent and (cluster, paths[row]) not in seen:
            seen.add((cluster, paths[row]))
            members.setdefault(cluster, []).append(row)
    sizes = collections.Counter(clusters.tolist())
    chosen = {cluster: rows for cluster, rows in sorted(members.items()) if sizes[cluster] >= least_faces}
    for cluster, rows in chosen.items():
        person = place / f"person-{cluster:06d}"
        person.mkdir(exist_ok=True)
        for row in rows:
            os.symlink(paths[row], person / safe_name(paths[row], int(ids[row])))
    return Links(len(chosen), sum(map(len, chosen.values())), missing, len(inside))


def safe_name(path: str, number: int) -> str:
    """A link's name: the number, and of the file's own name what cannot surprise anybody."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    stem, suffix = (re.sub(r"[^\w.-]", "_", part.encode("utf-8", "replace").decode("utf-8")) for part in (stem, suffix))
    kept = stem.encode("utf-8")[: _MOST_BYTES - len(suffix.encode("utf-8"))].decode("utf-8", "ignore")
    return f"{number}-{kept}{suffix[:10]}"
