"""JPEG XL: the size at the head of its codestream (ISO/IEC 18181-1, annex D), alone or in boxes."""

from __future__ import annotations

import struct

from faceembed.engine.photos.header import Header

SIGNATURE = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def read_jpegxl(data: bytes) -> Header:
    """Size as stored; the decoder turns."""
    width, height = _size(_Bits(data, _codestream(data) + 2))
    return Header("JPEG XL", width, height, way="jpeg xl", exact=False)


def is_turned(data: bytes) -> bool:
    """Whether the decoder turns or mirrors it (the image metadata behind the size)."""
    bits = _Bits(data, _codestream(data) + 2)
    _size(bits)
    plain = bits.take(1) or not bits.take(1)
    return not plain and bits.take(3) != 0


def _size(bits: _Bits) -> tuple[int, int]:
    if bits.take(1):
        height = 8 * (bits.take(5) + 1)
        ratio = bits.take(3)
        return _width(height, ratio) if ratio else 8 * (bits.take(5) + 1), height
    height = bits.size()
    ratio = bits.take(3)
    return _width(height, ratio) if ratio else bits.size(), height


def _width(height: int, ratio: int) -> int:
    over, under = _RATIOS[ratio - 1]
    return height * over // under


def _codestream(data: bytes) -> int:
    if data.startswith(b"\xff\x0a"):
        return 0
    at = 0
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if name in (b"jxlc", b"jxlp"):
            return at + header + (4 if name == b"jxlp" else 0)
        if length < header:
            raise struct.error("no codestream")
        at += int(length)


class _Bits:
    """Bits from the lowest of each byte on."""

    def __init__(self, data: bytes, at: int) -> None:
        if at >= len(data):
            raise struct.error("cut off")
        self._value = int.from_bytes(data[at : at + 16], "little")

    def take(self, count: int) -> int:
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value

    def size(self) -> int:
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])
