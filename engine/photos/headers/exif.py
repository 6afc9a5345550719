"""The orientation in EXIF data, which is a TIFF directory without pixels."""

from __future__ import annotations

import struct

_ORIENTATION = 274


def exif_orientation(exif: bytes) -> int:
    """1 to 8; 1 where there is none, or none that can be.

    Args:
        exif: from its byte order mark on; ``Exif\\0\\0`` before it does no harm.
    """
    return stated(exif) or 1


def stated(exif: bytes) -> int:
    """The same, but 0 where there is none."""
    if exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 0
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, entry + 8)
                return int(value) if 1 <= value <= 8 else 0
    except struct.error:
        pass  # cut off: what is left says nothing
    return 0
