"""A TIFF's bytes so changed that OpenCV reads them right: another first page, strips unpacked, no alpha to multiply by.

Pixels are not touched, but pieces that are cut short are found here (`tiff_pieces`). What is packed as LZMA or Zstandard, which OpenCV's libtiff was built without, is stored in deflate's frame
(uncompressed) instead, so that libtiff goes on to undo the predictor and to turn the picture.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable

from faceembed.engine.photos.headers.tiff import File
from faceembed.engine.photos.tiff_pieces import check_length, check_pieces, layout, pieces
from faceembed.errors import PhotoError

_COMPRESSION, _EXTRA = 259, 338
_DEFLATE = 8


def rewritten(data: bytes, directory: int = 0) -> bytes:
    """The file with the page whose directory is there as its first, in a form that OpenCV reads.

    Args:
        data: a TIFF or BigTIFF whose header `read_tiff` has read.
        directory: 0 for the page that is the first already.

    Raises:
        PhotoError: damaged, or a piece of it is cut short.
    """
    file = File.of(data)
    first = file.number(file.start)
    try:
        places, _ = file.places(directory or first)
        compression = file.values(places[_COMPRESSION], most=1)[0] if _COMPRESSION in places else 1
        check_pieces(file, places, compression)
        if directory in (0, first) and compression not in _UNPACKERS and _EXTRA not in places:
            return data
        out = bytearray(data)
        struct.pack_into(file.order + file.word, out, file.start, directory or first)
        if compression in _UNPACKERS:
            _repack(file, places, out, _UNPACKERS[compression])
        if _EXTRA in places:  # "of no known use": OpenCV leaves such a channel alone
            put(file, out, places[_EXTRA], "H", [0] * len(file.values(places[_EXTRA], most=64)))
    except (struct.error, KeyError, ValueError) as error:
        raise PhotoError("decode", "damaged or truncated TIFF") from error
    return bytes(out)


def _repack(file: File, places: dict[int, int], out: bytearray, unpack: Callable[[bytes, int], bytes]) -> None:
    (where, length), _ = layout(file, places)
    begins, sizes = [], []
    for packed, wanted in pieces(file, places):
        unpacked = unpack(packed, wanted)
        check_length(len(unpacked), wanted)
        piece = zlib.compress(unpacked, 0)
        begins.append(len(out))
        sizes.append(len(piece))
        out += piece
    put(file, out, places[_COMPRESSION], "H", [_DEFLATE])
    put(file, out, places[where], file.word, begins)
    put(file, out, places[length], file.word, sizes)


def put(file: File, out: bytearray, entry: int, letter: str, values: list[int]) -> None:
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
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data, most)
    except (lzma.LZMAError, EOFError) as error:
        raise PhotoError("decode", f"damaged TIFF: LZMA: {error}") from error


def _from_zstandard(data: bytes, most: int) -> bytes:
    import pyarrow as pa  # for this alone: every start would pay a tenth of a second for it

    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read(most))
    except (OSError, pa.ArrowException) as error:
        raise PhotoError("decode", f"damaged TIFF: {str(error).splitlines()[0][:120]}") from error


_UNPACKERS: dict[int, Callable[[bytes, int], bytes]] = {34925: _from_lzma, 50000: _from_zstandard}
"""By number of the compression: bytes and how many of them are wanted at most, to bytes."""
