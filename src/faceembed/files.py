"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import IO, Any


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
    temporary = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(4)}.tmp")
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
