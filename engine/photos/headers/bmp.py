"""The header of a BMP."""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header
from faceembed.errors import PhotoError

_MASKS = (3, 6)  # of the field "compression": colours lie under bit masks
_INSIDE = {4: "JPEG", 5: "PNG"}


def read_bmp(data: bytes) -> Header:
    """Size, and whether colours lie under masks."""
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    bits, compression = struct.unpack_from("<HI", data, 28) if size >= 40 else (0, 0)
    if compression in _INSIDE:
        raise PhotoError("decode", f"a BMP with a {_INSIDE[compression]} inside, a kind that is not read; convert it")
    way = "bmp masks" if compression in _MASKS and bits in (16, 32) else "plain"
    return Header("BMP", width, abs(height), way=way)  # a negative height stores the rows from the top
