"""Files in a tar: WebDataset's shards, and what anybody packed. Not in a compressed one, where nothing can be reached alone."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from faceembed.engine.photos.archives.archive import Archive, Member, unique_name
from faceembed.errors import PhotoError

_PADDING_BYTES = 1 << 20  # after the end mark that are looked at: tar fills up its last record with zeros
_LINKS = 16  # that may lead to each other

Place = tuple[int, int] | str
"""Offset and size in bytes; or why it cannot be read."""


class TarArchive(Archive):
    """A tar whose headers have been read, and where in it each file lies.

    Args:
        path: of the tar.

    Raises:
        PhotoError: not a tar.
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._places: dict[str, Place] = {}
        self.problems = []
        links: dict[str, str] = {}
        with open(path, "rb") as file:
            at, why = 0, ""
            try:
                with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                    while (info := tar.next()) is not None:
                        at = tar.offset
                        vars(tar)["members"].clear()  # what is needed of them is kept here
                        if not info.isdir():
                            name = unique_name(info.name, self._places)
                            self._places[name] = _place(info)
                            if info.islnk() or info.issym():
                                folder = posixpath.dirname(name) if info.issym() else ""
                                links[name] = posixpath.normpath(posixpath.join("/", folder, info.linkname))[1:]
            except (tarfile.TarError, ValueError, EOFError, RecursionError, OverflowError) as error:
                if not at:
                    raise PhotoError("list", f"not a tar, or a damaged one ({_line(error)})") from error
                why = _line(error)
            why = why or _what_follows(file, at)
        if why:
            self.problems.append(f"damaged after {len(self._places):,} files ({why}); what comes then is not read")
        self._places |= {name: _followed(name, links, self._places) for name in links}

    def members(self) -> Iterator[Member]:
        for name in sorted(self._places, key=os.fsencode):
            place = self._places[name]
            yield Member(name, 0 if isinstance(place, str) else place[1])

    def has(self, name: str) -> bool:
        return name in self._places

    def size(self, name: str) -> int:
        return self._place_of(name)[1]

    def read(self, name: str, most: int = -1) -> bytes:
        offset, size = self._place_of(name)
        wanted = size if most < 0 else min(most, size)
        with open(self._path, "rb") as file:
            file.seek(offset)
            data = file.read(wanted)
        if len(data) < wanted:
            raise PhotoError("read", f"the archive is cut off: {len(data):,} of {size:,} bytes are there")
        return data

    def _place_of(self, name: str) -> tuple[int, int]:
        place = self._places.get(name, "not in the archive")
        if isinstance(place, str):
            raise PhotoError("read", place)
        return place


def _place(info: tarfile.TarInfo) -> Place:
    if info.issparse():
        return "a sparse file in a tar, a kind that is not read; unpack the archive"
    return (info.offset_data, info.size) if info.isfile() else "neither a file nor a link: a device or a pipe"


def _followed(name: str, links: Mapping[str, str], places: Mapping[str, Place]) -> Place:
    """Where the file lies that a link leads to."""
    target = name
    for _ in range(_LINKS):
        target = links[target]
        if target not in links:
            return places.get(target, "a link to what is not in the archive")
    return "a link that leads in a circle"


def _what_follows(file: BinaryIO, at: int) -> str:
    """What is wrong with what comes after the last header; Python's tarfile takes whatever is no header for the end."""
    length = os.fstat(file.fileno()).st_size
    if at > length:
        return f"{at - length:,} bytes are missing"
    file.seek(at)
    rest = file.read(_PADDING_BYTES)
    if not any(rest):
        return ""
    return (
        "something else follows its end: two archives in one file?" if not any(rest[:512]) else "no sound header there"
    )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
