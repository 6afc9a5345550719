"""From a file's bytes to upright 8-bit RGB pixels, at no more resolution than the work ahead needs.

JPEGs are decoded at 1/2, 1/4 or 1/8 by scaling the DCT, which is what makes large photos cheap. EXIF orientation is
read with the header and applied here to every format; grey, palette, deeper than 8 bits and CMYK become RGB, transparency is
dropped, and of an animation or a TIFF of several pages the first that is the picture is taken. OpenCV does most of it, `ways` what
OpenCV does wrongly; `docs/formats.md` has the table.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.header import PLAIN, RAW, Header, upright
from faceembed.engine.photos.headers.png import sound_png
from faceembed.engine.photos.heard import Hearing
from faceembed.engine.photos.noted import parted
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.raw import preview
from faceembed.engine.photos.rewrite import rewritten
from faceembed.engine.photos.ways import WAYS, opencv
from faceembed.engine.photos.whole import check_whole
from faceembed.errors import PhotoError

MAX_PIXELS = 120_000_000  # a 108-megapixel phone passes; decoded it is 360 MB
DETECTOR_MIN_FACE = 20  # pixels of a face's side that the aligners need
EVERY_FACE = 40  # pixels of the smallest face looked for in large photos where every face is wanted
_NO_MEMORY = "out of memory: {}x{} pixels do not fit into what is left; --max-pixels refuses such photos at once"

# OpenCV prints every damaged file to stderr; ours become rows of the errors file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclasses.dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo.

    ``pixels`` is uint8 RGB (H, W, 3), upright; ``width`` and ``height`` are the full upright size, of which the pixels
    may be a reduction.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    reduction: int = 1
    """How many pixels of the photo a decoded one stands for, in each direction: 1, 2, 4 or 8. Not the ratio of the sizes: where a
    side is no multiple of it, the last pixels as stored stand for less."""
    offset: tuple[int, int] = (0, 0)
    """How far left of and above the photo the decoded pixels begin, in its pixels: where the photo was turned after decoding, the
    pixels that stand for less come first. So ``full = decoded * reduction - offset``, in continuous coordinates."""

    said: str = ""
    """What a library printed of damage that it got over; empty as a rule."""

    def decoded(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points (..., 2), x and y in continuous pixels of the full photo, in those of `pixels`."""
        return (np.asarray(points, np.float64) + self.offset) / self.reduction


def check_size(header: Header, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse decompression bombs.

    Raises:
        PhotoError: more than ``max_pixels`` pixels.
    """
    if header.pixels > max_pixels:
        raise PhotoError(
            "decode",
            f"{header.width}x{header.height} is {header.pixels / 1e6:.0f} megapixels, over the limit of "
            f"{max_pixels / 1e6:.0f} (--max-pixels)",
        )


def min_face_of(width: int, height: int, min_face: int, *, every: bool = False) -> float:
    """The smallest face looked for, as a side in pixels of the full photo.

    Args:
        width, height: the photo's full size in pixels.
        min_face: what the user asked for; 0 means 20 px in photos of up to 800 px and 1/40 of the longer side above.
        every: whether all faces are wanted: then 0 means `EVERY_FACE` at most.
    """
    side = float(min_face) if min_face else max(float(DETECTOR_MIN_FACE), max(width, height) / 40)
    return min(side, float(EVERY_FACE)) if every and not min_face else side


def reduction_for(header: Header, min_face: int, *, every: bool = False) -> int:
    """The largest of 1, 2, 4, 8 that leaves the smallest face wanted at least 20 px; 1 where decoding cannot reduce."""
    if not _is_reducible(header):
        return 1
    allowed = min_face_of(header.width, header.height, min_face, every=every) / DETECTOR_MIN_FACE
    return 1 if allowed < 2 else 2 if allowed < 4 else 4 if allowed < 8 else 8


def decode(data: bytes, *, reduction: int = 1, max_pixels: int = MAX_PIXELS, header: Header | None = None) -> Photo:
    """Decode a picture.

    Args:
        data: the file's bytes.
        reduction: 1, 2, 4 or 8: divide the size by this while decoding (common JPEGs only; others decode whole).
        max_pixels: refuse pictures with more pixels than this.
        header: what `probe` said of them, where it was asked already.

    Raises:
        PhotoError: not a picture, of a kind that is not read, too large, cut off or damaged; or there is no memory for it.
    """
    header = header or probe(data)
    data, noted = parted(data)
    check_size(header, max_pixels)
    if header.way == RAW:
        inside, orientation = preview(data, header.format)
        stored_as = probe(inside)
        orientation = noted or orientation
        if orientation:
            stored_as = upright(stored_as.format, stored_as.width, stored_as.height, orientation, stored_as.way)
        return decode(inside, reduction=reduction, max_pixels=max_pixels, header=stored_as)
    reduction = reduction if _is_reducible(header) else 1
    hearing = Hearing()
    try:
        check_whole(data, header)
        if header.format == "PNG":
            data = sound_png(data)
        if header.format == "TIFF":
            data = rewritten(data, header.directory)
        with hearing:
            stored = opencv(data, _FLAGS[reduction]) if header.way == PLAIN else WAYS[header.way](data)
    except MemoryError as error:
        raise PhotoError("memory", _NO_MEMORY.format(header.width, header.height)) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise PhotoError("memory", _NO_MEMORY.format(header.width, header.height)) from error
        raise PhotoError("decode", f"damaged {header.format}: {str(error).splitlines()[0][:120]}") from error
    if stored is None or stored.dtype != np.uint8 or stored.ndim != 3:
        raise PhotoError("decode", f"damaged or truncated {header.format}" + (hearing.said and f": {hearing.said}"))
    pixels = np.asarray(_turned(stored, header.orientation), np.uint8)
    width, height = (header.width, header.height) if header.exact else (pixels.shape[1], pixels.shape[0])
    if width * height > max_pixels:  # a header that was not exact
        check_size(Header(header.format, width, height), max_pixels)
    if pixels.shape[:2] != (-(-height // reduction), -(-width // reduction)):
        found = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise PhotoError("decode", f"damaged {header.format}: {found} pixels where its header says {width}x{height}")
    right, below = header.orientation in _FROM_THE_RIGHT, header.orientation in _FROM_BELOW
    offset = (-width % reduction if right else 0, -height % reduction if below else 0)
    return Photo(np.ascontiguousarray(pixels), width, height, reduction, offset, hearing.said)


_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# EXIF 2.32, table 6: orientations in which the upright picture's columns, or rows, run against those that are stored.
_FROM_THE_RIGHT = (2, 3, 6, 7)
_FROM_BELOW = (3, 4, 7, 8)


def _is_reducible(header: Header) -> bool:
    return (header.format == "JPEG" and header.way == PLAIN) or header.way == RAW  # of a JPEG inside, as a rule


def _turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels made upright."""
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    right, below = orientation in _FROM_THE_RIGHT, orientation in _FROM_BELOW
    return cv2.flip(pixels, -1 if right and below else int(right)) if right or below else pixels
