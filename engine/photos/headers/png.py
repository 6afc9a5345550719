"""PNG: its chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from faceembed.engine.photos.header import Header, upright
from faceembed.engine.photos.headers.exif import exif_orientation
from faceembed.errors import PhotoError

_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
# Colour profiles change no pixel that we use, and libpng prints a line about each that it dislikes.
_LEFT_OUT = (*_ANIMATION, b"iCCP")


def chunks(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(offset, name, length of the body) of each chunk up to the last.

    Raises:
        PhotoError: one claims more than the file holds. The decoder allocates what a chunk claims before it looks: up to 4 GB.
    """
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if not name.isalpha():  # damaged; a file's worth of zeros would be millions of chunks
            return
        if at + 12 + length > len(data):
            raise PhotoError("decode", "damaged or truncated PNG")
        yield at, name, length
        if name == b"IEND":
            return
        at += 12 + length


def read_png(data: bytes) -> Header:
    """Size, orientation, and whether there is an animation to leave out."""
    width, height = struct.unpack_from(">II", data, 16)
    orientation, way = 1, "plain"
    for at, name, length in chunks(data):
        if name == b"eXIf":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        elif name in _ANIMATION:
            way = "still png"
    return upright("PNG", width, height, orientation, way=way)


def sound_png(data: bytes) -> bytes:
    """The same picture without animation and colour profile, once its checksums are found right.

    libpng would print a line to stderr about each that is wrong, without the file's name.

    Raises:
        PhotoError: a chunk that the picture cannot do without is damaged.
    """
    kept: list[bytes | memoryview] = [data[:8]]
    view = memoryview(data)
    name = b""
    dropped = False
    for at, name, length in chunks(data):
        whole = view[at : at + 12 + length]
        (expected,) = struct.unpack_from(">I", whole, 8 + length)
        sound = zlib.crc32(whole[4:-4]) == expected
        needed = not name[0] & 0x20
        if needed and not sound:
            raise PhotoError("decode", f"damaged PNG: the checksum of a chunk {name.decode('latin-1')!a} is wrong")
        if name in _LEFT_OUT or not sound:
            dropped = True
        else:
            kept.append(whole)
    if name != b"IEND":
        raise PhotoError("decode", "damaged or truncated PNG")
    return b"".join(kept) if dropped else data
