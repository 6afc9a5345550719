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
from faceembed.install import pip_install

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


def gif(data: bytes) -> Pixels:
    """A GIF's first frame."""
    from PIL.GifImagePlugin import GifImageFile

    return _rgb(_loaded(GifImageFile, data, "GIF"))


def jpeg2000(data: bytes) -> Pixels:
    """A JPEG 2000, in boxes or a bare codestream."""
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

    return _rgb(_loaded(Jpeg2KImageFile, data, "JPEG 2000"))


def avif(data: bytes) -> Pixels:
    """An AVIF's first frame, upright by its ``irot`` and ``imir``, which Pillow hands on as an orientation."""
    from PIL.AvifImagePlugin import AvifImageFile
    from PIL.ImageOps import exif_transpose

    return _rgb(exif_transpose(_loaded(AvifImageFile, data, "AVIF")))


def heic(data: bytes) -> Pixels:
    """A HEIC's primary picture, which libheif makes upright; the EXIF orientation, which is kept, must not be applied again.

    Raises:
        PhotoError: damaged; or pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise _missing("HEIC", "heif") from error
    return _rgb(_loaded(lambda file: pillow_heif.open_heif(file).to_pillow(), data, "HEIC"))


def jpegxl(data: bytes) -> Pixels:
    """A JPEG XL, which libjxl makes upright.

    Raises:
        PhotoError: damaged; or pillow-jxl-plugin is not installed.
    """
    try:
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile
    except ImportError as error:
        raise _missing("JPEG XL", "jxl") from error
    return _rgb(_loaded(JXLImageFile, data, "JPEG XL"))


def _missing(format: str, extra: str) -> PhotoError:
    return PhotoError("decode", f"a {format} picture, which needs one more package; run: {pip_install(extra)}")


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
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.float32)
        return np.repeat(np.rint(deep / 257).astype(np.uint8)[:, :, None], 3, 2)
    pixels = np.asarray(image if image.mode in ("RGBA", "RGBX") else image.convert("RGB"), np.uint8)
    return np.ascontiguousarray(pixels[:, :, :3])


def _from_cmyk(ink: NDArray[np.uint8]) -> Pixels:
    """(H, W, 4) ink, 255 is all of it, to RGB, as Adobe's plain formula has it and OpenCV does."""
    left = 255 - ink.astype(np.uint16)
    return ((left[:, :, :3] * left[:, :, 3:] + 127) // 255).astype(np.uint8)
