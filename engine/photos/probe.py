"""Reads a picture's format and size from its first bytes, before anything is decoded.

This is what refuses decompression bombs, by their pixel count or by what they claim, and picks the DCT-scaled decode. It knows JPEG, PNG, WebP,
BMP and TIFF, and recognises common other files to say what they are; it does not check that the pixels are sound.
"""

from __future__ import annotations

import dataclasses
import re
import struct

from faceembed.errors import PhotoError


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """Format and stored size; an EXIF rotation is not yet applied."""

    format: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def probe(data: bytes) -> Header:
    """Format and size of an encoded picture.

    Raises:
        PhotoError: not a picture of a kind that is read, or cut off before its size.
    """
    check_kind(data)
    for magic, read in _READERS:
        if data.startswith(magic):
            try:
                header = read(data)
            except (struct.error, IndexError):
                raise PhotoError("decode", "cut off inside its header") from None
            if header.width <= 0 or header.height <= 0:
                raise PhotoError("decode", f"damaged header: size {header.width}x{header.height}")
            return header
    raise AssertionError("check_kind knows the same kinds")


def check_kind(head: bytes) -> None:
    """Refuse what is no picture by its first bytes.

    Args:
        head: the whole file, or some hundred bytes of its beginning.

    Raises:
        PhotoError: not a picture of a kind that is read.
    """
    if not head:
        raise PhotoError("decode", "empty file (0 bytes)")
    if not head.startswith(tuple(magic for magic, _ in _READERS)):
        raise PhotoError("decode", f"not a JPEG, PNG, WebP, BMP or TIFF picture ({_describe(head)})")


def _jpeg(data: bytes) -> Header:
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise PhotoError("decode", "damaged JPEG header")
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Header("JPEG", width, height)
        if marker in (0xD9, 0xDA):
            raise PhotoError("decode", "damaged JPEG: no frame before its data")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + max(length, 2)


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    # The decoder allocates what a chunk claims before it looks whether the file holds as much: up to 4 GB.
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise PhotoError("decode", "damaged or truncated PNG")
        if name == b"IEND":
            break
    return Header("PNG", width, height)


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        raise PhotoError("decode", "a RIFF file that is not WebP")
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    return Header("WebP", width, height)


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return Header("BMP", width, abs(height))  # a negative height stores the rows from the top


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    sizes = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            (sizes[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return Header("TIFF", sizes.get(256, 0), sizes.get(257, 0))


_READERS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
)


def _describe(data: bytes) -> str:
    if not data[:4096].strip(b"\0"):
        return "a file of zeros: it was not copied, or not written, to its end"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "a GIF"
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if data.lstrip()[:1] == b"<":
        return "HTML, XML or SVG text"
    if re.fullmatch(rb"[\t\n\f\r\x1b -~]+", data[:512]):
        return "a text file"
    return f"it begins with {data[:4].hex(' ')}"
