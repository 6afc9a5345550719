"""A TIFF's bytes so changed that OpenCV reads them right: another first page, strips unpacked, no alpha to multiply by.

Pixels are not touched. What is packed as LZMA or Zstandard, which OpenCV's libtiff was built without, is stored in deflate's frame
(uncompressed) instead, so that libtiff goes on to undo the predictor and to turn the picture.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable

import pyarrow as pa

from faceembed.engine.photos.headers.tiff import File
from faceembed.errors import PhotoError

_COMPRESSION, _EXTRA = 259, 338
_DEFLATE = 8
_STRIPS, _TILES = (273, 279), (324, 325)
"""Tags of where the pieces are, and of how long each is."""


def rewritten(data: bytes, directory: int = 0) -> bytes:
    """The file with the page whose directory is there as its first, in a form that OpenCV reads.

    Args:
        data: a TIFF or BigTIFF whose header `read_tiff` has read.
        directory: 0 for the page that is the first already.

    Raises:
        PhotoError: damaged.
    """
    file = File.of(data)
    directory = directory or file.number(file.start)
    out = bytearray(data)
    struct.pack_into(file.order + file.word, out, file.start, directory)
    try:
        places, _ = file.places(directory)
        compression = file.values(places[_COMPRESSION], most=1)[0] if _COMPRESSION in places else 1
        if compression in _UNPACKERS:
            _repack(file, places, out, _UNPACKERS[compression])
        if _EXTRA in places:  # "of no known use": OpenCV leaves such a channel alone
            _put(file, out, places[_EXTRA], "H", [0] * len(file.values(places[_EXTRA], most=64)))
    except (struct.error, KeyError, ValueError) as error:
        raise PhotoError("decode", "damaged or truncated TIFF") from error
    return bytes(out)


def _repack(file: File, places: dict[int, int], out: bytearray, unpack: Callable[[bytes, int], bytes]) -> None:
    where, length = _TILES if _TILES[0] in places else _STRIPS
    offsets = file.values(places[where], most=len(file.data))
    lengths = file.values(places[length], most=len(file.data))
    most, count = _pieces(file, places, tiled=where == _TILES[0])
    if len(offsets) > count:
        raise PhotoError("decode", f"damaged TIFF: {len(offsets)} pieces where {count} are the whole page")
    begins, sizes = [], []
    for offset, size in zip(offsets, lengths, strict=True):
        if offset + size > len(file.data):
            raise PhotoError("decode", "damaged or truncated TIFF")
        piece = zlib.compress(unpack(file.data[offset : offset + size], most), 0)
        begins.append(len(out))
        sizes.append(len(piece))
        out += piece
    _put(file, out, places[_COMPRESSION], "H", [_DEFLATE])
    _put(file, out, places[where], file.word, begins)
    _put(file, out, places[length], file.word, sizes)


def _pieces(file: File, places: dict[int, int], *, tiled: bool) -> tuple[int, int]:
    """How many bytes a strip or tile holds, and how many of them there are, at most: a file that claims more unpacks to no more."""

    def one(tag: int, otherwise: int) -> int:
        return file.values(places[tag], most=1)[0] if tag in places else otherwise

    width, height, samples = one(256, 1), one(257, 1), one(277, 1)
    across, down = (one(322, 1), one(323, 1)) if tiled else (width, min(one(278, height), height))
    if not 0 < across <= width + 4096 or not 0 < down <= height + 4096:
        raise PhotoError("decode", f"damaged TIFF: pieces of {across}x{down} pixels")
    count = -(-width // across) * -(-height // down)
    planar = one(284, 1) == 2
    return (across * one(258, 1) * samples + 7) // 8 * down, count * (samples if planar else 1)


def _put(file: File, out: bytearray, entry: int, letter: str, values: list[int]) -> None:
    """Give an entry other values: in it where they fit, else behind the file."""
    data = struct.pack(f"{file.order}{len(values)}{letter}", *values)
    room = 8 if file.big else 4
    kind = {"H": 3, "I": 4, "Q": 16}[letter]
    struct.pack_into(file.order + "H" + file.word, out, entry + 2, kind, len(values))
    if len(data) > room:
        place = len(out)
        out += data
        data = struct.pack(file.order + file.word, place)
    out[entry + 4 + room : entry + 4 + 2 * room] = data.ljust(room, b"\0")


def _from_lzma(data: bytes, most: int) -> bytes:
    try:
        return lzma.LZMADecompressor().decompress(data, most)
    except (lzma.LZMAError, EOFError) as error:
        raise PhotoError("decode", f"damaged TIFF: LZMA: {error}") from error


def _from_zstandard(data: bytes, most: int) -> bytes:
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read(most))
    except (OSError, pa.ArrowException) as error:
        raise PhotoError("decode", f"damaged TIFF: {str(error).splitlines()[0][:120]}") from error


_UNPACKERS: dict[int, Callable[[bytes, int], bytes]] = {34925: _from_lzma, 50000: _from_zstandard}
"""By number of the compression: bytes and how many of them are wanted at most, to bytes."""
