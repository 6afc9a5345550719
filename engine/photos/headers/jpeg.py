"""JPEG: everything up to the first scan.

The frame's marker tells the process: 0xC0 to 0xC2 are the common ones, 0xC3 is lossless, 0xC9 and 0xCA are coded arithmetically, and
0xF7 is JPEG-LS (ITU-T T.81 table B.1, T.87).
"""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header, upright
from faceembed.engine.photos.headers.exif import exif_orientation, stated
from faceembed.errors import PhotoError

_COMMON = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_LOSSLESS = 0xC3
_LS = 0xF7
_HIERARCHICAL = (0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_FRAMES = frozenset({*_COMMON, _LOSSLESS, _LS, *_HIERARCHICAL})


def read_jpeg(data: bytes) -> Header:
    """Size, orientation and process of a JPEG."""
    at, frame, orientation, adobe = 2, 0, 0, False
    while True:
        try:
            if data[at] != 0xFF:
                raise PhotoError("decode", "damaged JPEG header")
            marker = data[at + 1]
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker == 0xDA or marker == 0xD9:
                break
            if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
                at += 2
                continue
            length = data[at + 2] << 8 | data[at + 3]
        except (PhotoError, IndexError):
            if frame:
                break  # the size is known; the decoder says what is wrong behind it
            raise
        if marker in _FRAMES:
            frame = frame or at
        elif marker == 0xE1 and not orientation and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xEE:
            adobe = adobe or data[at + 4 : at + 9] == b"Adobe"
        at += 2 + (max(2, length))
    if not frame:
        raise PhotoError("decode", "damaged JPEG: no frame before its data")
    bits, height, width, components = struct.unpack_from(">BHHB", data, frame + 4)
    way = _way(data[frame + 1], bits, components, adobe)
    return upright("JPEG", width, height, orientation or 1, way=way, colours=components)


def stated_orientation(data: bytes) -> int:
    """What a JPEG's first EXIF data say of the orientation, 1 to 8; 0 where they say nothing, or there are none."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0xDA, 0xD9):
            break
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            length = data[at + 2] << 8 | data[at + 3]
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                return stated(data[at + 10 : at + 2 + length])
            at += 2 + max(2, length)
    return 0


def _way(process: int, bits: int, components: int, adobe: bool) -> str:
    """How `decode` reads such a JPEG.

    Raises:
        PhotoError: nothing at hand does.
    """
    if process == _LS:
        raise PhotoError("decode", "a JPEG-LS picture, a kind that is not read; convert it to PNG")
    if process in _HIERARCHICAL:
        raise PhotoError("decode", f"a JPEG of a kind that is not read (process {process - 0xC0}); convert it to PNG")
    if bits != 8:
        raise PhotoError("decode", f"a JPEG with {bits} bits a colour, a kind that is not read; convert it to PNG")
    if process == _LOSSLESS:
        return "grey jpeg" if components == 1 else "whole jpeg"
    return "bare cmyk" if components == 4 and not adobe else "plain"
