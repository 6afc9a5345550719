"""Whether a picture's packed data is there up to its end, where decoders make grey or black of what is missing, without an error.

A download that was cut off in a file of the full size, a sector that could not be read: zeros stand for the data. Where the format ends
its data with a marker, the marker is looked for; elsewhere as many zeros in a row as an encoder never writes. PNG has checksums,
`tiff_pieces` is for TIFF, the other formats' decoders see it themselves, and in a BMP zeros are black pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from faceembed.engine.photos.header import Header
from faceembed.engine.photos.headers.heif import boxes
from faceembed.errors import PhotoError

_SECTOR = bytes(512)
_RUN = bytes(256)
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a scan: neither a stuffed byte, nor a restart, nor a fill byte
_END, _SCAN, _TABLES = 0xD9, 0xDA, 0xC4
_SEQUENTIAL = (0xC0, 0xC1)


def check_whole(data: bytes, header: Header) -> None:
    """Refuse a picture whose data is not all there, as far as its format tells.

    Raises:
        PhotoError: with that reason.
    """
    if header.format == "JPEG":
        check_jpeg(data, "JPEG")
    elif header.format == "WebP":
        if any(_SECTOR in data[begin:end] for begin, end in _webp_data(data)):
            raise _holed("WebP")
    elif header.format in ("AVIF", "HEIC"):
        for _, end in boxes(data, 0, len(data), b"mdat"):
            if data[end - len(_SECTOR) : end] == _SECTOR:
                raise _holed(header.format)


def is_whole(data: bytes, header: Header) -> bool:
    """Whether `check_whole` has nothing to say."""
    try:
        check_whole(data, header)
    except PhotoError:
        return False
    return True


def check_jpeg(data: bytes, format: str) -> None:
    """Refuse a JPEG, alone or in a TIFF, that has no end marker, or zeros where its codes should be.

    Of zeros only where they are codes that nothing is encoded as: with a table whose shortest code is not that for the end of a block, they
    would be blocks full of the smallest waves (ITU-T T.81, F.1.2.2). Not looked at in progressive ones.

    Raises:
        PhotoError: with that reason.
    """
    if not data.endswith(b"\xff\xd9") and not _ends(data):
        raise PhotoError("decode", f"damaged or truncated {format}: the data ends before the picture does")
    at = data.find(_RUN)
    while at >= 0:
        for begin, end in _coded(data):
            if begin <= at and at + len(_RUN) <= end:
                raise _holed(format)
        at = data.find(_RUN, at + len(_RUN))


def _holed(format: str) -> PhotoError:
    return PhotoError("decode", f"damaged {format}: zeros stand where its data should be")


def _ends(data: bytes) -> bool:
    return any(marker == _END for marker, _, _ in _segments(data))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, and begin and end of what belongs to it; of a scan those of its codes. Up to the end marker, or as far as there are any."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, body = data[found.start() + 1], found.start() + 2
        if marker == _END:
            yield marker, body, body
            return
        if marker in (0x01, 0xD8) or body + 2 > len(data):
            at = body
            continue
        end = body + max(2, int.from_bytes(data[body : body + 2], "big"))
        if marker == _SCAN:
            following = _MARKER.search(data, end)
            at = following.start() if following else len(data)
            yield marker, body, at
        else:
            yield marker, body, end
            at = end


def _coded(data: bytes) -> Iterator[tuple[int, int]]:
    """Scans of a sequential JPEG in which zeros stand for no sound block."""
    shortest: dict[int, int] = {}  # by number of the table for waves: what its shortest code, all zeros, means
    sequential = False
    for marker, begin, end in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker != _TABLES:
            sequential = marker in _SEQUENTIAL
        elif marker == _TABLES:
            at = begin + 2
            while at + 18 <= end:
                kind, count = data[at], sum(data[at + 1 : at + 17])
                if kind >> 4 == 1 and count:
                    shortest[kind & 15] = data[at + 17]
                at += 17 + count
        elif marker == _SCAN and sequential and begin + 3 <= len(data):
            components = data[begin + 2]
            tables = [byte & 15 for byte in data[begin + 4 : begin + 4 + 2 * components : 2]]
            if any(shortest.get(table, 0) for table in tables):
                yield begin + 6 + 2 * components, end


def _webp_data(data: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of packed pixels in a WebP: of the picture, or of each frame of an animation."""
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name in (b"VP8 ", b"VP8L", b"ALPH"):
            yield at + 8, min(at + 8 + length, len(data))
        at += 24 if name == b"ANMF" else 8 + length + length % 2  # what is in a frame are chunks, too
