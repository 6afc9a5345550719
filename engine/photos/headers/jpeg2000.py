"""JPEG 2000: a codestream, alone or in boxes (ITU-T T.800, A.5.1 and I.5.3.1)."""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header


def read_jpeg2000(data: bytes) -> Header:
    """Size, from the codestream or from the box ``ihdr``."""
    if data.startswith(b"\xff\x4f"):
        right, below, left, above = struct.unpack_from(">IIII", data, 8)
        width, height = right - left, below - above
    else:
        height, width = struct.unpack_from(">II", data, _after(data, b"ihdr"))
    return Header("JPEG 2000", width, height, way="jpeg 2000")


def _after(data: bytes, name: bytes) -> int:
    """Where the body of a box begins that must be among the first."""
    at = data.find(name, 0, 4096)
    if at < 0:
        raise struct.error("no such box")
    return at + 4
