"""Whether a photo's own bytes say which way is up: only where they do not, what is noted beside it counts."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from faceembed.engine.photos.header import RAW
from faceembed.engine.photos.headers import heif, jpegxl
from faceembed.engine.photos.headers.exif import stated
from faceembed.engine.photos.headers.jpeg import stated_orientation
from faceembed.engine.photos.headers.png import chunks
from faceembed.engine.photos.headers.tiff import has_orientation
from faceembed.engine.photos.headers.webp import exif_of
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.raw import preview
from faceembed.errors import PhotoError

_TIFF_HEAD = re.compile(rb"II\*\0|MM\0\*")
_EXIF_BYTES = 1 << 16  # looked at from where EXIF data may begin


def says_its_orientation(data: bytes) -> bool:
    """Whether a photo says it itself, be it that it lies upright; what is damaged or no photo says nothing.

    Args:
        data: the file.
    """
    try:
        header = probe(data)
        if header.orientation != 1:
            return True
        if header.way == RAW:
            return _raw(data, header.format)
        return header.format in _SAYS and _SAYS[header.format](data)
    except (PhotoError, struct.error, IndexError):
        return False


def _png(data: bytes) -> bool:
    return any(name == b"eXIf" and stated(data[at + 8 : at + 8 + size]) for at, name, size in chunks(data))


def _boxes(data: bytes) -> bool:
    """AVIF, HEIC: by the turns that the decoder makes, or by EXIF data, which decoders pass over: who wrote them knew which way is up."""
    return heif.is_turned(data) or _exif_somewhere(data)


def _exif_somewhere(data: bytes) -> bool:
    return any(stated(data[found.start() :][:_EXIF_BYTES]) for found in _TIFF_HEAD.finditer(data))


def _raw(data: bytes, kind: str) -> bool:
    """A raw photo: by its directory where it is a kind of TIFF (LibRaw gives previews EXIF data that say 1), else by its preview."""
    return (stated(data) if data[:2] in (b"II", b"MM") else stated_orientation(preview(data, kind)[0])) > 0


_SAYS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda data: stated_orientation(data) > 0,
    "PNG": _png,
    "WebP": lambda data: stated(exif_of(data)) > 0,
    "TIFF": has_orientation,
    "AVIF": _boxes,
    "HEIC": _boxes,
    "JPEG XL": lambda data: jpegxl.is_turned(data) or _exif_somewhere(data),
}
"""By `Header.format`; BMP, GIF and JPEG 2000 have no room for it."""
