"""What a photo inside of an archive is called: ``/photos/shard-000.tar::dir/17.jpg``, the archive and the name in it.

Both are the identity: sets of shards use a name again in each. A file that is really called so comes first wherever a path is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

SEPARATOR = "::"
ENDINGS = (".tar", ".zip", ".parquet")
"""Endings of archives that are looked into where a folder is walked. One that is named by itself may be called otherwise."""
TIFFS = (".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".3gp", ".mpg", ".mpeg", ".wmv")
"""Of files with pages and frames, which are looked into where that is asked for."""


def split(path: str) -> tuple[str, str] | None:
    """The archive and the name in it; None for a path that is not of that form."""
    at = path.find(SEPARATOR)
    while at > 0:
        archive = path[:at]
        if archive.lower().endswith((*ENDINGS, *TIFFS, *VIDEOS)) or os.path.isfile(archive):
            return archive, path[at + len(SEPARATOR) :]
        at = path.find(SEPARATOR, at + 1)
    return None


def joined(archive: str, name: str) -> str:
    """The path of a photo in an archive."""
    return f"{archive}{SEPARATOR}{name}"


def as_folders(path: str) -> str:
    """The path as if the archive were a folder, for patterns."""
    parts = split(path) if SEPARATOR in path else None
    return os.path.join(*parts) if parts else path


def parent(path: str) -> str:
    """The folder above a path: in an archive, and the archive itself above what lies outermost in it."""
    parts = split(path) if SEPARATOR in path else None
    if parts is None:
        return os.path.dirname(path)
    folder = os.path.dirname(parts[1])
    return joined(parts[0], folder) if folder else parts[0]


def upwards(path: str) -> Iterator[str]:
    """The folders above a path, the nearest first."""
    while (above := parent(path)) != path:
        yield above
        path = above
