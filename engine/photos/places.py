"""Where paths are: under which name, below which folder, and whether anything is there at all."""

from __future__ import annotations

import os
from collections.abc import Sequence

from faceembed.engine.photos.archives.names import SEPARATOR, joined, split
from faceembed.engine.photos.archives.opened import open_archive
from faceembed.errors import PhotoError


def real_place(path: str) -> str:
    """The path of a root without links, so that a folder has one name however it is reached."""
    inside = split(path) if SEPARATOR in path and not os.path.lexists(path) else None
    return joined(os.path.realpath(inside[0]), inside[1]) if inside else os.path.realpath(path)


def as_listed(path: str, roots: Sequence[str]) -> str:
    """The path under which an index knows a photo below one of the roots that it was made of."""
    root = max((root for root in roots if is_below(path, [root])), key=len, default="")
    return real_place(root) + path[len(root.rstrip(os.sep)) :] if root else path


def is_gone(path: str) -> bool:
    """Whether there is no such file any more; one that cannot be looked at is not gone."""
    if os.access(path, os.F_OK):  # half of what `os.stat` takes
        return False
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        inside = split(path) if SEPARATOR in path else None
        return inside is None or _is_gone_from(*inside)
    except OSError:
        return False
    return False


def is_photo_file(path: str) -> bool:
    """Whether there is a file of that path, or one in an archive."""
    return os.path.isfile(path) or (SEPARATOR in path and split(path) is not None and not is_gone(path))


def _is_gone_from(archive: str, name: str) -> bool:
    """Whether an archive has no such photo any more: what one holds that cannot be read is not gone."""
    if is_gone(archive):
        return True
    try:
        opened = open_archive(archive)
        return not opened.has(name) and not opened.problems
    except PhotoError:
        return False


def is_below(path: str, roots: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``roots`` or lies below one."""
    return any(path == root or path.startswith((root.rstrip(os.sep) + os.sep, root + SEPARATOR)) for root in roots)
