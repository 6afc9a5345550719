"""A folder of links to the photos of each cluster, to look at with whatever shows folders.

    people/person-000003/17-IMG_2041.jpg -> /photos/2023/IMG_2041.jpg

The names say nothing to a shell or a file manager: letters, digits, ``. _ -`` and nothing in front but a number.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from faceembed.engine.index.graph import Ints
from faceembed.errors import UsageError

MARK = ".faceembed-links"
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
    if place.is_dir() and any(place.iterdir()) and not (place / MARK).exists():
        raise UsageError(f"--links {place} holds other files; give a new or empty folder")


def write_links(
    folder: str | os.PathLike[str], paths: Sequence[str], ids: Ints, clusters: Ints, *, least_faces: int = 2
) -> int:
    """Make the folders anew: links of an earlier run are taken away first, anything else is left.

    Args:
        folder: made if it is not there.
        paths: N absolute paths of photos.
        ids: (N,) numbers that make the links' names unique; of several faces on one photo the first one's.
        clusters: (N,) numbers.
        least_faces: smaller clusters get no folder.

    Returns:
        How many folders there are.

    Raises:
        UsageError: as `check_links`.
        OSError: a link cannot be made.
    """
    check_links(folder)
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
    for row, cluster in enumerate(clusters.tolist()):
        members.setdefault(cluster, []).append(row)
    chosen = {cluster: rows for cluster, rows in sorted(members.items()) if len(rows) >= least_faces}
    for cluster, rows in chosen.items():
        person = place / f"person-{cluster:06d}"
        person.mkdir(exist_ok=True)
        first = {
            paths[row]: row for row in reversed(rows)
        }  # a photo with several faces of one person is linked to once
        for path, row in sorted(first.items(), key=lambda found: found[1]):
            os.symlink(path, person / safe_name(path, int(ids[row])))
    return len(chosen)


def safe_name(path: str, number: int) -> str:
    """A link's name: the number, and of the file's own name what cannot surprise anybody."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    stem, suffix = (re.sub(r"[^\w.-]", "_", part.encode("utf-8", "replace").decode("utf-8")) for part in (stem, suffix))
    kept = stem.encode("utf-8")[: _MOST_BYTES - len(suffix.encode("utf-8"))].decode("utf-8", "ignore")
    return f"{number}-{kept}{suffix[:10]}"
