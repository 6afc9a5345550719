"""Whether each strip or tile of a TIFF unpacks to as many bytes as it stands for.

OpenCV reads 8 bits a colour through libtiff's RGBA functions and tells them not to stop at an error (`TIFFReadRGBAStrip`): what is cut off
or zeroed comes out black, or grey, without a word. So it is counted here, by compression:

    deflate         unpacked once more, with its checksum
    LZW             the code that ends a piece is at its end; without that code, bytes are counted
    PackBits        counted
    JPEG            its end marker is there

and nowhere stand more zeros in a row than an encoder writes. Uncompressed pieces that are cut off OpenCV refuses, zeros in them are black
pixels, and of CCITT's codes that are cut off nothing can be told.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.headers.tiff import File
from faceembed.engine.photos.whole import check_jpeg
from faceembed.errors import PhotoError

STRIPS, TILES = (273, 279), (324, 325)
"""Tags of where the pieces are, and of how long each is."""
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _ROWS, _PLANAR, _ACROSS, _DOWN, _SUBSAMPLING = (
    *(256, 257, 258, 262, 277),
    *(278, 284, 322, 323, 530),
)
_YCBCR, _JPEG, _JPEG_TABLES = 6, 7, 347
_CHUNK = 1 << 20
_TOO_MUCH = 64  # times what a piece stands for: the last strip may be stored as if it were whole


def layout(file: File, places: dict[int, int]) -> tuple[tuple[int, int], list[int]]:
    """How a page is cut into pieces.

    Args:
        file: the file.
        places: where the entries of the page's directory are, by tag.

    Returns:
        The tags of where the pieces are and of how long each is; and how many bytes each unpacks to.

    Raises:
        PhotoError: it claims pieces that no page has.
    """

    def one(tag: int, otherwise: int) -> int:
        return file.values(places[tag], most=1)[0] if tag in places else otherwise

    tags = TILES if TILES[0] in places else STRIPS
    width, height, samples, bits = one(_WIDTH, 1), one(_HEIGHT, 1), one(_SAMPLES, 1), one(_BITS, 1)
    across, down = (one(_ACROSS, 1), one(_DOWN, 1)) if tags == TILES else (width, min(one(_ROWS, height), height))
    if not 0 < across <= width + 4096 or not 0 < down <= height + 4096:
        raise PhotoError("decode", f"damaged TIFF: pieces of {across}x{down} pixels")
    planar = one(_PLANAR, 1) == 2 and samples > 1
    columns, rows = -(-width // across), -(-height // down)
    horizontal, vertical = 1, 1
    if one(_PHOTOMETRIC, 1) == _YCBCR and not planar:
        horizontal, vertical = file.values(places[_SUBSAMPLING], most=2) if _SUBSAMPLING in places else (2, 2)
        if horizontal not in (1, 2, 4) or vertical not in (1, 2, 4):
            raise PhotoError("decode", f"damaged TIFF: colours for every {horizontal}x{vertical} pixels")

    def size(lines: int) -> int:
        if horizontal * vertical > 1:  # a block's brightness, and two colours for all of it
            blocks = -(-across // horizontal) * -(-lines // vertical)
            return blocks * (horizontal * vertical + 2) * bits // 8
        return (across * bits * (1 if planar else samples) + 7) // 8 * lines

    last = down if tags == TILES else height - (rows - 1) * down
    plane = [size(down)] * (columns * (rows - 1)) + [size(last)] * columns
    return tags, plane * (samples if planar else 1)


def pieces(file: File, places: dict[int, int]) -> Iterator[tuple[bytes, int]]:
    """The bytes of each piece, and how many bytes it unpacks to.

    Raises:
        PhotoError: a piece lies outside of the file, or their number is not the page's.
    """
    (where, length), expected = layout(file, places)
    offsets = file.values(places[where], most=len(file.data))
    lengths = file.values(places[length], most=len(file.data))
    if len(offsets) != len(expected) or len(lengths) != len(offsets):
        raise PhotoError("decode", f"damaged TIFF: {len(offsets)} pieces where {len(expected)} are the whole page")
    for offset, size, wanted in zip(offsets, lengths, expected, strict=True):
        if offset + size > len(file.data):
            raise PhotoError("decode", "damaged or truncated TIFF")
        yield file.data[offset : offset + size], wanted


def check_length(found: int, wanted: int) -> None:
    """Refuse a piece that does not hold what it stands for.

    Raises:
        PhotoError: fewer bytes than that.
    """
    if found < wanted:
        raise PhotoError("decode", f"damaged or truncated TIFF: a piece of it unpacks to {found:,} of {wanted:,} bytes")


def check_pieces(file: File, places: dict[int, int], compression: int) -> None:
    """Refuse a page of which a piece does not unpack to what it stands for, as far as its compression tells.

    Raises:
        PhotoError: damaged or cut short.
    """
    if STRIPS[1] not in places and TILES[1] not in places:  # libtiff guesses lengths that are not given
        return
    if compression == _JPEG:
        tables = file.raw(places[_JPEG_TABLES])[2:-2] if _JPEG_TABLES in places else b""
        for piece, _ in pieces(file, places):
            check_jpeg(piece[:2] + tables + piece[2:], "TIFF")
    elif (check := _CHECKS.get(compression)) is not None:
        for piece, wanted in pieces(file, places):
            check(piece, wanted)


def check_zeros(piece: bytes, most: int) -> None:
    """Refuse a piece with so many zeros in a row, where none has them.

    Raises:
        PhotoError: with that reason.
    """
    if bytes(most) in piece:
        raise PhotoError("decode", "damaged TIFF: zeros stand where its data should be")


def _deflate(piece: bytes, wanted: int) -> None:
    found, unpacker, rest = 0, zlib.decompressobj(), piece
    try:
        while part := unpacker.decompress(rest, _CHUNK):  # to the end, where the checksum is
            found, rest = found + len(part), unpacker.unconsumed_tail
            if found > _TOO_MUCH * wanted + _CHUNK:
                raise PhotoError("decode", f"damaged TIFF: a piece of it unpacks to more than {wanted:,} bytes")
    except zlib.error as error:
        raise PhotoError("decode", f"damaged TIFF: {error}") from error
    check_length(found, wanted)
    if found > wanted and not unpacker.eof:  # what follows zeros makes no sense, but a lot of bytes
        raise PhotoError("decode", f"damaged TIFF: a piece of it unpacks to more than {wanted:,} bytes, and has no end")


def _lzw(piece: bytes, wanted: int) -> None:
    if len(piece) > 1 and piece[0] == 0 and piece[1] & 1:  # bits in the order of libtiff before 1991
        return
    check_zeros(piece, 32)  # a code for two zeros stands behind the first two
    if not _has_lzw_end(piece):
        check_length(lzw_length(piece), wanted)


def _has_lzw_end(piece: bytes) -> bool:
    """Whether code 257 is the last, before bits that fill the byte."""
    tail = int.from_bytes(piece[-3:], "big")
    return any(tail & ((1 << fill) - 1) == 0 and tail >> fill & 0x1FF == 257 for fill in range(8))


_LZW_WIDTHS = (
    (9, 254),
    (10, 512),
    (11, 1024),
    (12, 2049),
)  # bits of a code, and codes of that width behind a clear code


def lzw_length(piece: bytes) -> int:
    """How many bytes LZW codes as TIFF has them unpack to, up to where they end or make no sense (TIFF 6.0, section 13)."""
    stored = np.frombuffer(piece, np.uint8)
    at, found, most = 0, 0, sum(width * count for width, count in _LZW_WIDTHS)
    while at < 8 * len(stored):
        bits = np.unpackbits(stored[at // 8 : (at + most) // 8 + 1])[at % 8 :]
        codes, ends = _codes(bits)
        stops = np.flatnonzero((codes == 256) | (codes == 257))
        count = int(stops[0]) if len(stops) else len(codes)
        lengths, sound = _lengths(codes[:count])
        found += int(lengths.sum())
        if not sound or not len(stops) or codes[count] == 257:
            break
        at += int(ends[count])
    return found


def _codes(bits: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes from a clear code on, and where each ends."""
    codes, ends, begin = [], [], 0
    for width, count in _LZW_WIDTHS:
        count = min(count, (len(bits) - begin) // width)
        block = bits[begin : begin + count * width].reshape(count, width).astype(np.int64)
        codes.append(block @ (1 << np.arange(width - 1, -1, -1)))
        ends.append(begin + width * np.arange(1, count + 1))
        begin += count * width
    return np.concatenate(codes), np.concatenate(ends)


def _lengths(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
    """How many bytes each code stands for, and whether all of them are sound: code 258 + n is the n-th before and one byte more."""
    before = np.where(codes < 256, -1, codes - 258)
    sound = before < np.arange(len(codes))
    if not sound.all():
        before = before[: int(np.argmin(sound))]
    lengths = np.ones(len(before), np.int64)
    while (inner := before >= 0).any():  # the way to its first byte, doubled at every step
        lengths[inner] += lengths[before[inner]]
        before = np.where(inner, before[before], -1)
    return lengths, bool(sound.all())


def _packbits(piece: bytes, wanted: int) -> None:
    check_zeros(piece, 256)  # 128 at most are stored as they are, and then comes another count
    found = at = 0
    size = len(piece)
    while at < size and found < wanted:
        head = piece[at]
        if head < 128:
            found += min(head + 1, size - at - 1)
            at += head + 2
        else:
            found += 257 - head if head > 128 and at + 1 < size else 0
            at += 2 if head > 128 else 1
    check_length(found, wanted)


_CHECKS: dict[int, Callable[[bytes, int], None]] = {
    **dict.fromkeys((2, 3, 4), lambda piece, wanted: check_zeros(piece, 256)),
    5: _lzw,
    **dict.fromkeys((8, 32946), _deflate),
    32773: _packbits,
    50000: lambda piece, wanted: check_zeros(piece, 512),
}
"""By number of the compression: of a piece and how many bytes it stands for."""
