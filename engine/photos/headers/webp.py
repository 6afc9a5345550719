"""WebP: the first chunk has the size, and files with an extended header may carry EXIF."""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header, upright
from faceembed.engine.photos.headers.exif import exif_orientation
from faceembed.errors import PhotoError

_HAS_EXIF = 0x08


def read_webp(data: bytes) -> Header:
    """Size and orientation."""
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        raise PhotoError("decode", "a RIFF file that is not WebP")
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return upright("WebP", width, height, exif_orientation(exif_of(data)) if data[20] & _HAS_EXIF else 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    return Header("WebP", width, height)


def exif_of(data: bytes) -> bytes:
    """The EXIF data; empty where there are none."""
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""
