"""Opens archives: by content, and each once for the many that ask for its photos."""

from __future__ import annotations

import functools
import os
import tarfile
import threading

from faceembed.engine.photos.archives.archive import Archive
from faceembed.engine.photos.archives.names import ENDINGS, VIDEOS
from faceembed.engine.photos.archives.parquet import ParquetArchive
from faceembed.engine.photos.archives.tar import TarArchive
from faceembed.engine.photos.archives.tiff_pages import TiffPages
from faceembed.engine.photos.archives.video import Video
from faceembed.engine.photos.archives.zipped import ZipArchive
from faceembed.errors import PhotoError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
"""Endings of archives in which no file can be reached without unpacking those before it."""
NOT_READ = "a compressed archive, which is not read in place; unpack it, or pack the photos as .tar or .zip"
_PACKED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")
"""First bytes of gzip, bzip2, xz, zstd, 7z and rar."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KEPT = 4  # archives open at a time
_LOCK = threading.Lock()


def kind_of(path: str) -> str:
    """Which kind of archive a file is by its first bytes: ``tar``, ``zip`` or ``parquet``; empty if none."""
    head = _head(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    return "tar" if _is_header(head) else ""


def open_archive(path: str) -> Archive:
    """An archive, kept for whoever asks next, as long as its file stays as it is.

    Raises:
        PhotoError: it cannot be read, is damaged, or is none.
    """
    try:
        info = os.stat(path)
        with _LOCK:  # of several threads that ask for it one reads it
            return _opened(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    except OSError as error:
        raise PhotoError("read", f"the archive cannot be read: {error.strerror or error}") from error


@functools.lru_cache(_KEPT)
def _opened(path: str, size: int, mtime_ns: int, ctime_ns: int) -> Archive:
    """The archive that a path with this stamp is."""
    kind = kind_of(path)
    if not kind and _head(path).startswith(_PACKED):
        raise PhotoError("list", NOT_READ)
    kind = kind or next((ending[1:] for ending in ENDINGS if path.lower().endswith(ending)), "")
    if kind == "zip":
        return ZipArchive(path)
    if kind == "parquet":
        return ParquetArchive(path)
    if path.lower().endswith(VIDEOS):
        return Video(path)
    if _head(path)[:4] in _TIFF:
        return TiffPages(path)
    return TarArchive(path)


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(tarfile.BLOCKSIZE)
    except OSError:
        return b""


def _is_header(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
