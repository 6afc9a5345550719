"""The pages of a TIFF beyond the one that stands for it: ``scan.tif::2`` is the second page, by the order in the file.

A page is the same file that begins with another directory; its pixels are not touched.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

from faceembed.engine.photos.archives.archive import Archive, Member
from faceembed.engine.photos.headers.tiff import File, page_offsets
from faceembed.errors import PhotoError


class TiffPages(Archive):
    """A TIFF and where its pages begin.

    Args:
        path: of the file.

    Raises:
        PhotoError: it is damaged, so that it cannot be said how many there are.
        OSError: it cannot be read.
    """

    only_photos = True

    def __init__(self, path: str) -> None:
        self._path = path
        self.problems = []
        try:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                self._offsets = page_offsets(data)
                self._size = len(data)
        except (struct.error, ValueError, IndexError) as error:
            raise PhotoError("decode", "damaged or truncated TIFF") from error

    def members(self) -> Iterator[Member]:
        for name in self._offsets:
            yield Member(name, self._size)

    def has(self, name: str) -> bool:
        return name in self._offsets

    def size(self, name: str) -> int:
        self._offset(name)
        return self._size

    def read(self, name: str, most: int = -1) -> bytes:
        with open(self._path, "rb") as file:
            data = bytearray(file.read())
        tiff = File.of(bytes(data[:8]))
        struct.pack_into(tiff.order + tiff.word, data, tiff.start, self._offset(name))
        return bytes(data if most < 0 else data[:most])

    def _offset(self, name: str) -> int:
        try:
            return self._offsets[name]
        except KeyError:
            raise PhotoError("read", f"no page of {os.path.basename(self._path)} beside its main one") from None
