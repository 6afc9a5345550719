"""AVIF and HEIC: boxes of the ISO base media file format (ISO/IEC 14496-12, 23008-12), of which the brands and sizes are read.

How the picture lies (``irot``, ``imir``) and what is cut off it (``clap``) is the decoder's business, which applies all of it. Videos and
a camera's raw files are of the same family.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from faceembed.engine.photos.header import RAW, Header
from faceembed.errors import PhotoError

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def is_heif(data: bytes) -> bool:
    """Whether such a file begins here."""
    return data[4:8] == b"ftyp"


def is_photo(data: bytes) -> bool:
    """Whether it is a photo, by its brands, and no video."""
    return bool(_brands(data) & (_AVIF | _HEIC | {b"crx "}))


def read_heif(data: bytes) -> Header:
    """Kind and size of the largest picture in the file; the decoder knows which is the one to show, and which way is up.

    Raises:
        PhotoError: a video, or a raw photo.
    """
    brands = _brands(data)
    if b"crx " in brands:
        return Header("a Canon raw photo (CR3)", 1, 1, way=RAW, exact=False)
    if not is_photo(data):
        raise PhotoError("decode", f"a video or another file in boxes ({_brand(data[8:12])}), no photo")
    sizes = list(_sizes(data))
    if not sizes:
        raise struct.error("no size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    kind = "AVIF" if brands & _AVIF else "HEIC"
    return Header(kind, width, height, way=kind.lower(), exact=False)


def _brand(name: bytes) -> str:
    return name.decode("ascii", "replace").strip()


def _brands(data: bytes) -> set[bytes]:
    length = int.from_bytes(data[:4], "big")
    if not 12 <= length <= 4096:
        return {data[8:12]}
    return {data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data)), 4))}


def is_turned(data: bytes) -> bool:
    """Whether it says that something in it is turned or mirrored as it is shown."""
    return any(True for name in (b"irot", b"imir") for _ in _properties(data, name))


def _sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Every ``ispe``."""
    for at in _properties(data, b"ispe"):
        width, height = struct.unpack_from(">II", data, at + 4)
        yield width, height


def _properties(data: bytes, name: bytes) -> Iterator[int]:
    """Where the properties of a name in meta/iprp/ipco begin."""
    for begin, end in boxes(data, 0, len(data), b"meta"):
        for properties in boxes(data, begin + 4, end, b"iprp"):
            for container in boxes(data, *properties, b"ipco"):
                for at, _ in boxes(data, *container, name):
                    yield at


def boxes(data: bytes, at: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of the bodies of the boxes of one name."""
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        length = length or end - at
        if length < header:
            raise struct.error("a box shorter than its header")
        if name == wanted:
            yield at + header, min(at + length, end)
        at += length
