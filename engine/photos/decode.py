"""From a file's bytes to upright 8-bit RGB pixels, at no more resolution than the work ahead needs.

JPEGs are decoded at 1/2, 1/4 or 1/8 by scaling the DCT, which is what makes large photos cheap. EXIF orientation is
applied to every format; grey, palette, 16-bit and CMYK pictures become RGB, transparency is dropped, and of an animation
or a multi-page TIFF the first frame is taken (OpenCV does all of these; the tests compare it with Pillow).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.probe import Header, probe
from faceembed.errors import PhotoError

MAX_PIXELS = 120_000_000  # a 108-megapixel phone passes; decoded it is 360 MB
DETECTOR_MIN_FACE = 20  # pixels of a face's side that the aligners need
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

    @property
    def reduction(self) -> float:
        """Full size over decoded size: 1, 2, 4 or 8 exactly.

        At the right and bottom a reduced pixel may stand for less than that of the photo, so this is not quite the ratio
        of the sizes, and coordinates must be scaled by this.
        """
        ratio = max(self.width / self.pixels.shape[1], self.height / self.pixels.shape[0])
        return float(next(reduction for reduction in (1, 2, 4, 8, ratio) if reduction >= ratio))


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


def min_face_of(width: int, height: int, min_face: int) -> float:
    """The smallest face looked for, as a side in pixels of the full photo.

    Args:
        width, height: the photo's full size in pixels.
        min_face: what the user asked for; 0 means 20 px in photos of up to 800 px and 1/40 of the longer side above.
    """
    return float(min_face) if min_face else max(float(DETECTOR_MIN_FACE), max(width, height) / 40)


def reduction_for(header: Header, min_face: int) -> int:
    """The largest of 1, 2, 4, 8 that leaves the smallest face wanted at least 20 px; 1 for formats other than JPEG."""
    if header.format != "JPEG":
        return 1
    allowed = min_face_of(header.width, header.height, min_face) / DETECTOR_MIN_FACE
    return max(r for r in (1, 2, 4, 8) if r <= max(allowed, 1))


def decode(data: bytes, *, reduction: int = 1, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a picture.

    Args:
        data: the file's bytes.
        reduction: 1, 2, 4 or 8: divide the size by this while decoding (JPEG only; others decode whole).
        max_pixels: refuse pictures with more pixels than this.

    Raises:
        PhotoError: not a picture, too large, cut off or damaged; or there is no memory for it.
    """
    header = probe(data)
    check_size(header, max_pixels)
    reduction = reduction if header.format == "JPEG" else 1
    scaled = {
        1: 0,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | scaled[reduction])
    except MemoryError as error:
        raise PhotoError("memory", _NO_MEMORY.format(header.width, header.height)) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise PhotoError("memory", _NO_MEMORY.format(header.width, header.height)) from error
        raise PhotoError("decode", f"damaged {header.format}: {str(error).splitlines()[0][:120]}") from error
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise PhotoError("decode", f"damaged or truncated {header.format}")
    turned = _is_turned(pixels.shape[1], pixels.shape[0], header)
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    return Photo(np.ascontiguousarray(pixels), width, height)


def _is_turned(width: int, height: int, header: Header) -> bool:
    """Whether the EXIF orientation swapped the axes of what was decoded."""
    straight = abs(width * header.height - height * header.width)
    return abs(height * header.height - width * header.width) < straight
