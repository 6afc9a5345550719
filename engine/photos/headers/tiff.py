"""TIFF and BigTIFF: which page is the picture, what its samples are, and who reads such samples right.

The kinds were tried one by one against what went in (`docs/formats.md`, `tests/engine/photos/test_tiff.py`). OpenCV multiplies an
alpha channel into the colours, calls pages black whose compression it does not know, and gives samples of 12 bits and floats only
as they are. `rewrite` helps it where that is possible, Pillow reads some of the rest, and what neither reads right is refused by name.
"""

from __future__ import annotations

import dataclasses
import mmap
import struct
from collections.abc import Iterator

from faceembed.engine.photos.header import PLAIN, RAW, Header
from faceembed.errors import PhotoError

_PAGES = 4096  # looked at in search of one that is no preview
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _SUBDIRECTORIES, _EXTRA, _FORMAT = 274, 277, 284, 330, 338, 339
_WANTED = {
    *(_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC),
    *(_ORIENTATION, _SAMPLES, _PLANAR, _SUBDIRECTORIES, _EXTRA, _FORMAT),
}
_NO_PICTURE = 1 | 4  # NewSubfileType: a smaller copy of another page, a mask for another page
_SMALLER = 2  # SubfileType, which older writers use: a smaller copy of another page
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

_OPENCVS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946}
"""None, CCITT (three), LZW, JPEG (two), deflate (two), PackBits."""
_REPACKED = {34925, 50000}
"""LZMA and Zstandard, which `rewrite` unpacks."""
_NAMES = {
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
    **dict.fromkeys((22610, 34934), "JPEG XR"),
    **dict.fromkeys((34927, 50001), "WebP"),
    34933: "PNG",
    34887: "LERC",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34892: "lossy JPEG of a raw photo",
}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Samples of a pixel by photometric interpretation: white or black is 0, RGB, palette, CMYK, YCbCr, CIELab."""
_RAW = (32803, 34892)


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """How a file writes its numbers."""

    data: bytes | mmap.mmap
    order: str
    big: bool

    @classmethod
    def of(cls, data: bytes | mmap.mmap) -> File:
        """By its first four bytes."""
        return cls(data, "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))

    @property
    def start(self) -> int:
        """Where the offset of the first directory is."""
        return 8 if self.big else 4

    @property
    def word(self) -> str:
        """The letter of `struct` for an offset."""
        return "Q" if self.big else "I"

    def number(self, at: int) -> int:
        """An offset in the file."""
        return int(struct.unpack_from(self.order + self.word, self.data, at)[0])

    def places(self, at: int) -> tuple[dict[int, int], int]:
        """Where in the directory there each tag's entry is, and where the next directory is."""
        count_letter, count_size, entry_size = ("Q", 8, 20) if self.big else ("H", 2, 12)
        (count,) = struct.unpack_from(self.order + count_letter, self.data, at)
        first = at + count_size
        if count > 65_535:
            raise struct.error("more entries than there are tags")
        found = range(first, first + entry_size * count, entry_size)
        tags = {struct.unpack_from(self.order + "H", self.data, entry)[0]: entry for entry in found}
        return tags, self.number(first + entry_size * count)

    def entries(self, at: int) -> tuple[dict[int, tuple[int, ...]], int]:
        """The wanted tags of the directory there, and where the next one is."""
        places, following = self.places(at)
        return {tag: self.values(place, most=64) for tag, place in places.items() if tag in _WANTED}, following

    def values(self, entry: int, *, most: int) -> tuple[int, ...]:
        """The whole numbers of an entry, so many at most."""
        (kind,) = struct.unpack_from(self.order + "H", self.data, entry + 2)
        letter, count = _LETTERS.get(kind, "H"), self.number(entry + 4)
        begin = self._begin(entry, struct.calcsize("<" + letter) * count)
        return struct.unpack_from(f"{self.order}{min(count, most)}{letter}", self.data, begin)

    def raw(self, entry: int) -> bytes:
        """An entry whose numbers are bytes."""
        begin, count = self._begin(entry, self.number(entry + 4)), self.number(entry + 4)
        return self.data[begin : begin + count]

    def _begin(self, entry: int, size: int) -> int:
        """Where an entry's numbers are: in it where they fit."""
        room = 8 if self.big else 4
        return entry + 4 + room if size <= room else self.number(entry + 4 + room)


def read_tiff(data: bytes) -> Header:
    """The page that is the picture: its upright size and who reads it."""
    file = File.of(data)
    at, tags, first = _picture(file)
    width, height = tags.get(_WIDTH, (0,))[0], tags.get(_HEIGHT, (0,))[0]
    if tags.get(_PHOTOMETRIC, (1,))[0] in _RAW:
        return Header("a TIFF with a camera's raw data (DNG)", width, height, way=RAW, exact=False)
    if tags.get(_ORIENTATION, (1,))[0] in (5, 6, 7, 8):
        width, height = height, width
    return Header("TIFF", width, height, way=_way(tags), directory=0 if at == first else at)


def _picture(file: File) -> tuple[int, dict[int, tuple[int, ...]], int]:
    """Where the page is that is neither a preview nor a mask, and its tags; the first page where all are, and where that is."""
    first = file.number(file.start)
    start: dict[int, tuple[int, ...]] | None = None
    below: list[int] = []
    for at, tags in _chain(file, first):
        if start is None:
            start = tags
        if _is_picture(tags):
            return at, tags, first
        below += tags.get(_SUBDIRECTORIES, ())
    if start is None:
        raise struct.error("no page")
    for at in below:
        try:
            tags, _ = file.entries(at)
        except struct.error:
            continue
        if _is_picture(tags) and _WIDTH in tags:
            return at, tags, first
    return first, start, first


def has_orientation(data: bytes) -> bool:
    """Whether the page that is the picture says which way is up.

    Raises:
        struct.error: damaged.
    """
    _, tags, _ = _picture(File.of(data))
    return tags.get(_ORIENTATION, (0,))[0] in range(1, 9)


def page_offsets(data: bytes | mmap.mmap) -> dict[str, int]:
    """Where the pages begin that are pictures, but for the one that `read_tiff` takes, by their number in the file, from 1.

    Raises:
        struct.error: damaged.
    """
    file = File.of(data)
    main, _, first = _picture(file)
    pages = enumerate(_chain(file, first), 1)
    return {str(number): at for number, (at, tags) in pages if at != main and _is_picture(tags) and _WIDTH in tags}


def _is_picture(tags: dict[int, tuple[int, ...]]) -> bool:
    """Whether a page is neither a preview nor a mask, by either of the tags that may say so."""
    return not tags.get(_SUBFILE, (0,))[0] & _NO_PICTURE and tags.get(_OLD_SUBFILE, (0,))[0] != _SMALLER


def _chain(file: File, at: int) -> Iterator[tuple[int, dict[int, tuple[int, ...]]]]:
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _PAGES:
        seen.add(at)
        try:
            tags, following = file.entries(at)
        except struct.error:
            if len(seen) == 1:
                raise
            return
        yield at, tags
        at = following


def _way(tags: dict[int, tuple[int, ...]]) -> str:
    """How `decode` reads samples like these.

    Raises:
        PhotoError: nothing at hand reads them right.
    """
    compression, photometric = tags.get(_COMPRESSION, (1,))[0], tags.get(_PHOTOMETRIC, (1,))[0]
    samples, planar = tags.get(_SAMPLES, (1,))[0], tags.get(_PLANAR, (1,))[0] == 2
    bits, kinds = set(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (1,)))
    if compression not in _OPENCVS and compression not in _REPACKED:
        _refuse(f"compressed as {_NAMES.get(compression, f'number {compression}')}")
    if photometric not in _COLOURS:
        _refuse(f"whose colours are of a rare kind (photometric interpretation {photometric})")
    if len(bits) != 1 or len(kinds) != 1:
        _refuse("whose colours differ in their number of bits")
    depth, kind = bits.pop(), kinds.pop()
    extras = samples - _COLOURS[photometric]
    if extras < 0:
        raise PhotoError("decode", f"damaged TIFF: {samples} samples a pixel")
    multiplied = extras > 0 and tags.get(_EXTRA, (0,))[0] == 1
    if kind == 3:
        return _floats(depth, photometric, extras, multiplied, planar)
    if kind not in (1, 4):
        _refuse("with signed or complex numbers")
    way = (_bytes if depth <= 8 else _deep)(depth, photometric, extras, multiplied, planar)
    if compression in _REPACKED and way in ("pillow tiff", "lab tiff"):
        _refuse("of rare colours compressed as LZMA or Zstandard")
    return "open tiff" if way == PLAIN and compression in _REPACKED else way


def _bytes(depth: int, photometric: int, extras: int, multiplied: bool, planar: bool) -> str:
    """The way of samples of up to 8 bits."""
    if photometric == 8:
        return _unless(planar or extras > 0, "lab tiff", "with CIELab colours in an unusual layout")
    if extras == 0:
        return PLAIN
    if photometric in (0, 1):
        return _unless(extras > 1 or multiplied, PLAIN, "in grey with several extra channels")
    if photometric == 2 and extras == 1 and depth == 8:
        return "veiled tiff" if multiplied else "open tiff"
    return _unless(photometric != 2 or planar, "pillow tiff", "with extra channels")


def _deep(depth: int, photometric: int, extras: int, multiplied: bool, planar: bool) -> str:
    """The way of samples of more than 8 bits."""
    if depth not in (10, 12, 14, 16):
        _refuse(f"with {depth} bits a colour")
    if photometric == 5:
        return _unless(
            planar or depth != 16 or extras > 0, "pillow tiff", f"in CMYK of {depth} bits in an unusual layout"
        )
    if photometric in (0, 1) and (extras or photometric == 0):
        bad = depth != 16 or extras > 1 or multiplied
        return _unless(bad, PLAIN, f"in grey of {depth} bits with extra channels, or white as 0")
    if planar:
        return _unless(depth != 16 or extras > 0, PLAIN, f"of {depth} bits with its colours in planes")
    if photometric not in (1, 2) or extras > 1 or (extras and depth != 16):
        _refuse(f"of {depth} bits with extra channels or rare colours")
    return "veiled tiff" if multiplied else "deep tiff"


def _floats(depth: int, photometric: int, extras: int, multiplied: bool, planar: bool) -> str:
    """The way of floating point numbers."""
    if planar:
        _refuse(f"of {depth}-bit floating point numbers, in planes")
    bad = depth not in (32, 64) or photometric not in (1, 2) or multiplied or extras > (1 if photometric == 2 else 0)
    return _unless(bad, "float tiff", f"of {depth}-bit floating point numbers of this kind")


def _unless(bad: bool, way: str, what: str) -> str:
    if bad:
        _refuse(what)
    return way


def _refuse(what: str) -> None:
    raise PhotoError(
        "decode", f"a TIFF {what}, a kind that is not read; save it as PNG, or as TIFF with 8 bits and LZW"
    )
