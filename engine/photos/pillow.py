"""Kinds that OpenCV reads wrongly or not at all, and Pillow right. Pillow is there anyway: matplotlib needs it.

Its plugins are called by name, not through `Image.open`: nothing is guessed, and its own limit on pixels, which is global, plays no
part (`check_size` has refused what is too large). Imported at first use, for few photos need it.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import PhotoError

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""


def bare_cmyk(data: bytes) -> Pixels:
    """A JPEG with four colours and no Adobe marker, whose numbers are ink. Pillow, too, takes such for Adobe's negative."""
    from PIL.JpegImagePlugin import JpegImageFile

    image = _loaded(JpegImageFile, data, "JPEG")
    return _from_cmyk(255 - np.asarray(image, np.uint8))


def tiff(data: bytes) -> Pixels:
    """A TIFF with several extra samples, or in CMYK of 16 bits, upright."""
    from PIL.TiffImagePlugin import TiffImageFile

    image = _loaded(TiffImageFile, data, "TIFF")
    return _rgb(image)


def lab_tiff(data: bytes) -> Pixels:
    """A TIFF in CIELab, which OpenCV shows 11 levels off."""
    from PIL import ImageCms
    from PIL.TiffImagePlugin import TiffImageFile

    image = _loaded(TiffImageFile, data, "TIFF")
    if image.mode != "LAB":
        raise PhotoError("decode", f"damaged TIFF: its mode is {image.mode}")
    to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return np.asarray(ImageCms.applyTransform(image, to_srgb), np.uint8)


def _loaded(plugin: Any, data: bytes, format: str) -> Any:
    """A plugin's picture with its pixels in memory.

    Raises:
        PhotoError: damaged. Plugins raise whatever the damage leads to: their exceptions have no common base.
    """
    try:
        image = plugin(io.BytesIO(data))
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise PhotoError("decode", f"damaged {format}: {reason or type(error).__name__}") from error
    return image


def _rgb(image: Any) -> Pixels:
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    if image.mode == "CMYK":
        return _from_cmyk(np.asarray(image, np.uint8))
    pixels = np.asarray(image if image.mode in ("RGBA", "RGBX") else image.convert("RGB"), np.uint8)
    return np.ascontiguousarray(pixels[:, :, :3])


def _from_cmyk(ink: NDArray[np.uint8]) -> Pixels:
    """(H, W, 4) ink, 255 is all of it, to RGB, as Adobe's plain formula has it and OpenCV does."""
    left = 255 - ink.astype(np.uint16)
    return ((left[:, :, :3] * left[:, :, 3:] + 127) // 255).astype(np.uint8)
