"""Standard output and standard error as a command needs them.

    repair()                 # once, before anything is said

- A line on stderr that cannot be said (it is closed, its disk is full, its reader has left) ends nothing: the work goes on unheard.
- A result that cannot be written to stdout is an error that names stdout, not a file of the command's.
- A descriptor that was closed (``2>&-``) is opened on /dev/null: otherwise the next file that is opened gets its number, and libraries
  that write to "stderr" write into that file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Iterable
from typing import IO, Any

from faceembed.errors import UsageError

STDOUT = "standard output"
_OF_INDEX = (".parquet", ".json", ".errors.csv", ".vectors.npy")


def check_redirections(paths: Iterable[str]) -> None:
    """Refuse a stream that a shell has redirected into a file of the command, as in ``embed … -o a.faiss --json > a.faiss.json``.

    Args:
        paths: what the command reads and writes; of an index all its files.

    Raises:
        UsageError: it is one of them. A shell has emptied it by then.
    """
    files = [path + ending for path in paths for ending in ("", *(_OF_INDEX if path.endswith(".faiss") else ()))]
    for number, name in ((1, STDOUT), (2, "standard error")):
        try:
            info = os.fstat(number)
        except OSError:  # closed
            continue
        for path in files if stat.S_ISREG(info.st_mode) else ():
            with contextlib.suppress(OSError):  # not there
                if os.path.samestat(os.stat(path), info):
                    raise UsageError(
                        f"{name} is redirected into {path}, a file of this command; redirect it into another one"
                    )


def repair() -> None:
    """Put streams of these manners in place of Python's own; of streams that somebody else put there nothing is changed."""
    closed = {number for number in (0, 1, 2) if not _is_open(number)}
    for _ in closed:  # the lowest free number each time, which is the next of these
        os.open(os.devnull, os.O_RDWR)
    if sys.stderr is sys.__stderr__ and not isinstance(_raw(sys.stderr), _Stream):
        sys.stderr = _text(_Unheard(2), sys.stderr)
    if sys.stdout is sys.__stdout__ and not isinstance(_raw(sys.stdout), _Stream):
        sys.stdout = _text(_Closed(1) if 1 in closed else _Named(1), sys.stdout)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _raw(stream: IO[str] | None) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _text(raw: _Stream, before: IO[str] | None) -> io.TextIOWrapper:
    """A text stream over ``raw``, with the encoding of the one before it. A name that the encoding lacks is no reason to fail."""
    if before is not None:
        with contextlib.suppress(OSError):  # nothing was said so far that anybody waits for
            before.flush()
    encoding = getattr(before, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=raw.isatty() or raw.lines
    )


class _Stream(io.FileIO):
    """A descriptor that is not closed with its stream."""

    lines = False
    """Whether each line is written at once, terminal or not."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)


class _Unheard(_Stream):
    """What cannot be written is dropped."""

    lines = True

    def write(self, data: Any) -> int:
        """Write, or pretend to."""
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


class _Named(_Stream):
    """An error says which stream it is about, once: what is written after it is dropped, or Python would try again at its end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._failed = False

    def write(self, data: Any) -> int:
        """Write.

        Raises:
            OSError: with `STDOUT` as the file.
        """
        if self._failed:
            return len(data)
        try:
            return super().write(data) or 0
        except OSError as error:
            self._failed = True
            raise OSError(error.errno, error.strerror, STDOUT) from error


class _Closed(_Named):
    """Standard output that was closed: what is said there is an error too."""

    def write(self, data: Any) -> int:
        """Refuse.

        Raises:
            OSError: the first time.
        """
        if self._failed:
            return len(data)
        self._failed = True
        raise OSError(errno.EBADF, "it is closed", STDOUT)
