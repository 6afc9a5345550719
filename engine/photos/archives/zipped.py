"""Files in a zip, by its central directory."""

from __future__ import annotations

import lzma
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator

from faceembed.engine.photos.archives.archive import Archive, Member, unique_name
from faceembed.errors import PhotoError

_ENCRYPTED = 1  # the bit of the general purpose flags, APPNOTE.TXT 4.4.4


class ZipArchive(Archive):
    """A zip that is kept open.

    Args:
        path: of the zip.

    Raises:
        PhotoError: not a zip, or cut off: what is in it stands at its end.
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.problems = []
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise PhotoError("list", f"not a zip, or a damaged one ({_line(error)})") from error
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            if not info.is_dir():
                self._infos[unique_name(info.filename, self._infos)] = info
        self._lock = threading.Lock()

    def members(self) -> Iterator[Member]:
        for name in sorted(self._infos, key=os.fsencode):
            yield Member(name, self._infos[name].file_size)

    def has(self, name: str) -> bool:
        return name in self._infos

    def size(self, name: str) -> int:
        return self._info(name).file_size

    def read(self, name: str, most: int = -1) -> bytes:
        info = self._info(name)
        if info.flag_bits & _ENCRYPTED:
            raise PhotoError("read", "encrypted in its zip; unpack it with its password")
        try:
            with self._lock, self._zip.open(info) as file:  # it counts its open files, and not safely
                return file.read(info.file_size if most < 0 else most)
        except (NotImplementedError, RuntimeError) as error:
            raise PhotoError("read", f"packed in a way that is not read ({_line(error)}); unpack the zip") from error
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
            raise PhotoError("read", f"damaged in its zip ({_line(error)})") from error

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._infos[name]
        except KeyError:
            raise PhotoError("read", "not in the archive") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
