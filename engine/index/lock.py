"""One writer of an index at a time.

The lock belongs to the process: the system drops it when the process ends, however it ends. It is `filelock`'s, which is the
system's own (flock; over NFS as far as the server gives it). Readers take none: the files of an index are exchanged as one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from faceembed.errors import IndexBusyError
from faceembed.files import atomic_write


@contextlib.contextmanager
def writing(index: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold an index for the block; nobody else can write it meanwhile.

    Args:
        index: its ``.faiss`` file, whose folder exists.
        wait_seconds: how long to wait for another process.

    Raises:
        IndexBusyError: another process, or another thread of this one, holds it.
        OSError: the folder cannot be written.
    """
    lock = FileLock(index.with_name(f".{index.name}.lock"), timeout=wait_seconds)
    holder = index.with_name(
        f".{index.name}.writer"
    )  # not in the lock's own file: closing that over NFS would drop the lock
    try:
        lock.acquire()
    except Timeout:
        if not os.path.lexists(lock.lock_file) and not holder.exists():  # nobody holds what cannot be made
            raise PermissionError(errno.EACCES, "nothing can be written there", os.fspath(index)) from None
        raise IndexBusyError(f"{index} is being written by {_describe(holder)}; wait until that has ended") from None
    except OSError as error:
        error.filename = os.fspath(index)  # nobody knows the lock's name
        raise
    try:
        try:
            with atomic_write(holder, "w", sync=False) as file:
                json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}, file)
        except OSError as error:
            error.filename = os.fspath(index)
            raise
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    """Who wrote that note."""
    try:
        note = json.loads(holder.read_text(encoding="utf-8"))
        since = time.strftime("%H:%M:%S", time.localtime(float(note["since"])))
        return f"process {int(note['pid'])} on {note['host']} (since {since})"
    except (OSError, ValueError, TypeError, KeyError):  # it took the lock just now, or lets go of it
        return "another process"
