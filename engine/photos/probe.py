"""Reads a picture's format, size and orientation from its first bytes, before anything is decoded.

This is what refuses decompression bombs, by their pixel count or by what they claim, picks the DCT-scaled decode, and knows which
kinds of each format are read in what way (`headers/`, a file a format). What is not read is refused here by its true name; whether
the pixels are sound is not looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import struct
from collections.abc import Callable

from faceembed.engine.photos.header import RAW, Header, turned, upright
from faceembed.engine.photos.headers.bmp import read_bmp
from faceembed.engine.photos.headers.gif import read_gif
from faceembed.engine.photos.headers.heif import is_heif, is_photo, read_heif
from faceembed.engine.photos.headers.jpeg import read_jpeg
from faceembed.engine.photos.headers.jpeg2000 import read_jpeg2000
from faceembed.engine.photos.headers.jpegxl import SIGNATURE, read_jpegxl
from faceembed.engine.photos.headers.png import read_png
from faceembed.engine.photos.headers.tiff import read_tiff
from faceembed.engine.photos.headers.unread import RAWS, unread_kind
from faceembed.engine.photos.headers.webp import read_webp
from faceembed.engine.photos.noted import parted
from faceembed.engine.photos.raw import preview
from faceembed.errors import PhotoError

HEAD_BYTES = 512  # that `is_picture` wants to see
READ = "JPEG, PNG, WebP, BMP, TIFF, GIF, JPEG 2000, AVIF, HEIC or JPEG XL"


def probe(data: bytes) -> Header:
    """Format, upright size and way of reading of an encoded picture.

    Raises:
        PhotoError: not a picture of a kind that is read, or cut off before its size.
    """
    data, noted = parted(data)
    if noted:
        return turned(probe(data), noted)
    header_of = _known_reader(data)
    try:
        header = header_of(data)
    except (struct.error, IndexError, OverflowError):
        raise PhotoError("decode", "cut off inside its header") from None
    if header.way == RAW and not header.exact:  # a TIFF or a file in boxes
        return _of_preview(data, header.format)
    if header.width <= 0 or header.height <= 0:
        raise PhotoError("decode", f"damaged header: size {header.width}x{header.height}")
    return header


def _of_preview(data: bytes, kind: str) -> Header:
    """What is to be known of a raw photo: the header of the picture inside."""
    inside, orientation = preview(data, kind)
    header = probe(inside)
    if orientation:
        header = upright(header.format, header.width, header.height, orientation)
    return dataclasses.replace(header, format=kind, way=RAW)


def check_kind(head: bytes) -> None:
    """Refuse what is no picture by its first bytes.

    Args:
        head: the whole file, or some thousand bytes of its beginning.

    Raises:
        PhotoError: not a picture of a kind that is read.
    """
    _known_reader(head)


def _known_reader(head: bytes) -> Callable[[bytes], Header]:
    """What reads such a picture's header; errors as for `check_kind`."""
    if not head:
        raise PhotoError("decode", "empty file (0 bytes)")
    if kind := unread_kind(head):
        if kind in RAWS:
            return functools.partial(_of_preview, kind=kind)
        raise PhotoError("decode", f"{kind}, a kind that is not read; export it as JPEG or PNG")
    for magic, read in _READERS:
        if head.startswith(magic):
            return read
    if is_heif(head):
        return read_heif
    raise PhotoError("decode", f"not a {READ} picture ({_describe(head)})")


def is_picture(head: bytes) -> bool:
    """Whether a file is a picture by its first `HEAD_BYTES`, of a kind that is read or not; a video is none."""
    if is_heif(head):
        return is_photo(head)
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):  # two letters are little: its reserved field is 0, its header of a known length
        return head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS
    return any(head.startswith(magic) for magic, _ in _READERS) or bool(unread_kind(head))


_BMP_HEADERS = {struct.pack("<I", length) for length in (12, 40, 52, 56, 64, 108, 124)}
_READERS = (
    (b"\xff\xd8\xff", read_jpeg),
    (b"\x89PNG\r\n\x1a\n", read_png),
    (b"RIFF", read_webp),
    (b"BM", read_bmp),
    (b"II*\x00", read_tiff),
    (b"MM\x00*", read_tiff),
    (b"II+\x00\x08\x00", read_tiff),
    (b"MM\x00+\x00\x08", read_tiff),
    (b"GIF87a", read_gif),
    (b"GIF89a", read_gif),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", read_jpeg2000),
    (b"\xff\x4f\xff\x51", read_jpeg2000),
    (SIGNATURE, read_jpegxl),
    (b"\xff\x0a", read_jpegxl),
)


def _describe(data: bytes) -> str:
    if data.lstrip()[:1] == b"<":
        return "HTML, XML or SVG text"
    if not data.strip(b"\0"):
        return "nothing but zeros"
    if re.fullmatch(rb"[\t\n\f\r\x1b -~]+", data[:512]):
        return "a text file"
    return f"it begins with {data[:4].hex(' ')}"
