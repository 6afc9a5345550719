"""A photo's file: its path, what is needed to see later whether it changed, and how a path is written and shown."""

from __future__ import annotations

import dataclasses
import os
import re

import blake3

from faceembed.engine.photos.archives.names import SEPARATOR, split
from faceembed.engine.photos.archives.opened import open_archive
from faceembed.errors import PhotoError


@dataclasses.dataclass(frozen=True, slots=True)
class PhotoFile:
    """One file to embed. ``path`` is absolute; bytes that are not UTF-8 are in it as lone surrogates (PEP 383).

    Of a photo in an archive, ``size`` is its own and the times are the archive's: where that was written, all of it is looked at.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    """When the file's name, rights or content last changed, which nobody can set back; 0 where it is not known."""
    digest: str = ""
    """`digest_of` its bytes; empty where they have not been read."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and time: a photo with another stamp is another photo."""
        return (self.size, self.mtime_ns)

    def looks_like(self, other: PhotoFile) -> bool:
        """Whether the file system says that it is still the same file, unread: size, time and, where both know it, `ctime_ns`."""
        known = self.ctime_ns and other.ctime_ns
        return self.stamp == other.stamp and (not known or self.ctime_ns == other.ctime_ns)

    def holding(self, data: bytes) -> PhotoFile:
        """The same with what its bytes say: their number and digest."""
        return PhotoFile(self.path, len(data), self.mtime_ns, self.ctime_ns, digest_of(data))


def digest_of(data: bytes) -> str:
    """The content hash of a file: BLAKE3, 128 bits, 32 hexadecimal digits. Nobody can make two photos of one digest."""
    return blake3.blake3(data).hexdigest(length=16)


def stated(path: str, info: os.stat_result, size: int | None = None) -> PhotoFile:
    """A photo with what the file system says of it; of one in an archive, its own size."""
    return PhotoFile(path, info.st_size if size is None else size, info.st_mtime_ns, info.st_ctime_ns)


def photo_file(path: str) -> PhotoFile:
    """A photo that is named instead of listed. One that is not there has no size: whoever reads it says why it cannot."""
    try:
        return stated(path, os.stat(path))
    except OSError:
        inside = split(path) if SEPARATOR in path else None
    try:
        return (
            stated(path, os.stat(inside[0]), open_archive(inside[0]).size(inside[1]))
            if inside
            else PhotoFile(path, 0, 0)
        )
    except (OSError, PhotoError):
        return PhotoFile(path, 0, 0)


# Paths in parquet, CSV and JSON must be valid UTF-8, and file names need not be. A byte XX that is not UTF-8 is written
# as the six characters \udcXX, and a backslash that would read as such an escape as \udc5c: a bijection.
_ESCAPED = re.compile(r"\\udc([0-9a-f]{2})")


def encode_path(path: str) -> str:
    """A path as valid UTF-8 text; ordinary names are unchanged. `decode_path` is its inverse."""
    if path.isascii() and "\\udc" not in path:
        return path
    return path.replace("\\udc", "\\udc5cudc").encode("utf-8", "backslashreplace").decode("utf-8")


def decode_path(text: str) -> str:
    """The path that `encode_path` wrote."""
    if "\\udc" not in text:
        return text
    return _ESCAPED.sub(lambda match: "\\" if match[1] == "5c" else chr(0xDC00 + int(match[1], 16)), text)


def printable(path: str) -> str:
    """A path for a message on one line: control characters and bytes that are not UTF-8 are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in path)
