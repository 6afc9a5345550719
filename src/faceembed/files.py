"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from typing import IO, Any

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NAME_BYTES = 255  # of a name, where the file system does not say


def why_no_place(path: str | os.PathLike[str], *, longest: str = "") -> str:
    """Why nothing can be written at a path, as far as its name says; empty if it can.

    Args:
        path: of a file or folder that need not be there.
        longest: the longest ending that its name, without its own, gets for files beside it.
    """
    text = os.fspath(path)
    if _ADDRESS.match(text):
        return f"{text} is an address, not a place on this machine; write to a file or folder here and copy it there"
    folder, name = os.path.split(os.path.abspath(text))
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        most = os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        most = _NAME_BYTES
    size = max(len(os.fsencode(name)), len(os.fsencode(os.path.splitext(name)[0] + longest)))
    if size > most:
        beside = f" (with '{longest}' beside it)" if longest else ""
        return f"{name[:40]}… is too long a name: {size} bytes{beside}, and this file system takes {most}; choose a shorter one"
    return ""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file that appears under its name complete, or not at all.

    The bytes go to a temporary file in the same folder, which is flushed to disk and renamed when the block ends; if the
    block raises, it is deleted and an older file of that name stays as it was.

    Args:
        path: the file to write; its folder must exist.
        mode: ``wb``, or ``w`` for UTF-8 text with the line ends that are written. File names that are not UTF-8 keep
            their bytes.
        sync: flush it to disk. Without, a file may be empty after a power failure: for many small files that are looked
            at again.

    Raises:
        OSError: as `open`, `os.fsync` and `os.replace` raise it.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode is '{mode}'; expected 'w' or 'wb'")
    target = os.fspath(path)
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    folder, name = os.path.split(target)
    stem = os.fsencode(name)[:100].decode("utf-8", "ignore")  # a file system counts bytes, not letters
    temporary = os.path.join(folder, f".{stem}.{secrets.token_hex(4)}.tmp")
    # Not `tempfile`: its files are readable by their owner alone, and stay so under their final name.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
