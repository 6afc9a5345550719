"""Where paths are: under which name, below which folder, and whether anything is there at all."""

from __future__ import annotations

import os
from collections.abc import Sequence


def real_place(path: str) -> str:
    """The path of a root without links, so that a folder has one name however it is reached."""
    return os.path.realpath(path)


def as_listed(path: str, roots: Sequence[str]) -> str:
    """The path under which an index knows a photo below one of the roots that it was made of."""
    root = max((root for root in roots if is_below(path, [root])), key=len, default="")
    return real_place(root) + path[len(root.rstrip(os.sep)) :] if root else path


def is_gone(path: str) -> bool:
    """Whether there is no such file any more; one that cannot be looked at is not gone."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_below(path: str, roots: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``roots`` or lies below one."""
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
