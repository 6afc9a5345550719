"""Reads a picture's format, size and orientation from its first bytes, before anything is decoded.

This is what refuses decompression bombs, by their pixel count or by what they claim, picks the DCT-scaled decode, and knows which
kinds of each format are read in what way (`headers/`, a file a format). What is not read is refused here by its true name; whether
the pixels are sound is not looked at.
"""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header
from faceembed.engine.photos.headers.bmp import read_bmp
from faceembed.engine.photos.headers.jpeg import read_jpeg
from faceembed.engine.photos.headers.png import read_png
from faceembed.engine.photos.headers.tiff import read_tiff
from faceembed.engine.photos.headers.webp import read_webp
from faceembed.errors import PhotoError


def probe(data: bytes) -> Header:
    """Format, upright size and way of reading of an encoded picture.

    Raises:
        PhotoError: not a picture of a kind that is read, or cut off before its size.
    """
    if not data:
        raise PhotoError("decode", "empty file (0 bytes)")
    for magic, read in _READERS:
        if data.startswith(magic):
            try:
                header = read(data)
            except (struct.error, IndexError, OverflowError):
                raise PhotoError("decode", "cut off inside its header") from None
            if header.width <= 0 or header.height <= 0:
                raise PhotoError("decode", f"damaged header: size {header.width}x{header.height}")
            return header
    raise PhotoError("decode", f"not a JPEG, PNG, WebP, BMP or TIFF picture ({_describe(data)})")


_READERS = (
    (b"\xff\xd8\xff", read_jpeg),
    (b"\x89PNG\r\n\x1a\n", read_png),
    (b"RIFF", read_webp),
    (b"BM", read_bmp),
    (b"II*\x00", read_tiff),
    (b"MM\x00*", read_tiff),
    (b"II+\x00\x08\x00", read_tiff),
    (b"MM\x00+\x00\x08", read_tiff),
)


def _describe(data: bytes) -> str:
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "a GIF"
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if data.lstrip()[:1] == b"<":
        return "HTML, XML or SVG text"
    try:
        data[:512].decode("ascii")
        return "a text file"
    except UnicodeDecodeError:
        return f"it begins with {data[:4].hex(' ')}"
