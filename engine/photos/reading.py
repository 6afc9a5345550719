"""A photo's bytes: no more than were asked for, no longer than a moment's wait, and nothing that has no end.

    data = read_file("a.jpg")                 # bytes, or a PhotoError with stage ``read``
    data = read_file("/dev/fd/63")            # a pipe, as in: verify <(cat a.jpg) b.jpg
    data = read_file("photos.zip::a.jpg")     # a photo in an archive

A file that is larger than the limit, a device, a pipe into which nobody writes: each is a bad photo, found out before memory is taken
or time passes. Of a large file the first bytes are looked at before the rest is read.
"""

from __future__ import annotations

import os
import select
import stat
import time

from faceembed.engine.photos.archives.names import SEPARATOR, split
from faceembed.engine.photos.archives.opened import open_archive
from faceembed.engine.photos.probe import check_kind
from faceembed.errors import PhotoError

MAX_BYTES = 400 << 20  # of a file: 120 megapixels, not compressed, are 343 MiB
PIPE_SILENCE_SECONDS = 10.0  # that a pipe may say nothing
PIPE_SECONDS = 60.0  # until a pipe's photo must be there
_LARGE_BYTES = 8 << 20  # from here on the head is looked at before the rest is read
_HEAD_BYTES = 4096
_CHUNK_BYTES = 1 << 20
# Without waiting: a pipe that nobody writes to would be waited for as it is opened. Regular files are read as ever.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_file(path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A photo's bytes.

    Args:
        path: a file, a pipe, or a photo in an archive (`archives`).
        max_bytes: refuse what is larger.

    Raises:
        PhotoError: it cannot be read, is too large, is no photo by its first bytes (large files alone), is a device or a folder, is a pipe
            that stays silent, or there is no memory for it.
    """
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            return _read(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
        if gone and SEPARATOR in path and (inside := split(path)) and os.path.exists(inside[0]):
            return _read_inside(*inside, max_bytes)
        raise PhotoError("read", error.strerror or str(error)) from error
    except MemoryError as error:
        raise PhotoError(
            "memory", "out of memory: its bytes do not fit into what is left; --max-bytes refuses such files at once"
        ) from error


def _read_inside(path: str, name: str, max_bytes: int) -> bytes:
    try:
        archive = open_archive(path)
        size = archive.size(name)
        check_bytes(size, max_bytes)
        if size >= _LARGE_BYTES:
            check_kind(archive.read(name, _HEAD_BYTES))
        return archive.read(name)
    except OSError as error:
        raise PhotoError("read", error.strerror or str(error)) from error
    except MemoryError as error:
        raise PhotoError(
            "memory", "out of memory: its bytes do not fit into what is left; --max-bytes refuses such files at once"
        ) from error


def check_bytes(size: int, max_bytes: int = MAX_BYTES) -> None:
    """Refuse files that are too large to be read.

    Raises:
        PhotoError: more than ``max_bytes``.
    """
    if size > max_bytes:
        raise PhotoError("read", f"{_size(size)}, over the limit of {_size(max_bytes)} for a file (--max-bytes)")


def _read(descriptor: int, max_bytes: int) -> bytes:
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        if stat.S_ISFIFO(info.st_mode) or stat.S_ISSOCK(info.st_mode):
            return _read_pipe(descriptor, max_bytes)
        if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            raise PhotoError("read", "a device, not a file or a pipe")
    check_bytes(info.st_size, max_bytes)
    if info.st_size < _LARGE_BYTES:
        data = os.read(descriptor, info.st_size + 1)  # Python takes memory for all that is asked for, whatever comes
        if len(data) == info.st_size:
            return data
        os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        if info.st_size >= _LARGE_BYTES:
            check_kind(file.read(_HEAD_BYTES))
            file.seek(0)
        data = file.read(info.st_size + 1)
        if len(data) > info.st_size:
            data += file.read(max_bytes + 1 - len(data))
    check_bytes(len(data), max_bytes)  # it has grown, or does not say its size, as files in /proc
    return data


def _read_pipe(descriptor: int, max_bytes: int) -> bytes:
    """All of a pipe; it may be slow, but must neither be silent for long nor go on for ever."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    parts: list[bytes] = []
    size, end = 0, time.monotonic() + PIPE_SECONDS
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise PhotoError("read", f"a pipe without an end: {_size(size)} came in {PIPE_SECONDS:g} seconds")
        if not poll.poll(1000 * min(PIPE_SILENCE_SECONDS, left)):
            if left > PIPE_SILENCE_SECONDS:
                raise PhotoError("read", f"a pipe into which nobody wrote for {PIPE_SILENCE_SECONDS:g} seconds")
            continue
        part = os.read(descriptor, _CHUNK_BYTES)
        if not part:
            return b"".join(parts)
        size += len(part)
        parts.append(part)
        if size > max_bytes:
            raise PhotoError("read", f"a pipe with more than {_size(max_bytes)}, the limit for a file (--max-bytes)")


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"
