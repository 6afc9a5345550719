"""GIF: the size of its screen."""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header


def read_gif(data: bytes) -> Header:
    """Size of the first frame's screen."""
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", width, height, way="gif")
