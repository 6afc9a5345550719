"""The kinds of pictures that need more than one call of OpenCV: each a function from a file's bytes to 8-bit RGB.

Which file goes which way, its header says (`headers/`); `docs/formats.md` has the table, and what each library does wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos import pillow
from faceembed.engine.photos.bit_masks import read_masked
from faceembed.errors import PhotoError

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""


def opencv(data: bytes, flags: int) -> NDArray[Any] | None:
    """What OpenCV makes of a file; None where it makes nothing of it."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _grey_jpeg(data: bytes) -> Pixels | None:
    """A lossless JPEG in grey, which OpenCV reads only as grey."""
    grey = opencv(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if grey is None else np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def _colour(data: bytes) -> Pixels | None:
    """What OpenCV reads right: a lossless JPEG in colours, which cannot be reduced; a PNG without its animation; a TIFF that is rewritten."""
    pixels = opencv(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _deep_tiff(data: bytes) -> Pixels | None:
    """10 to 16 bits a colour; an alpha is left out."""
    samples = _samples(data)
    return None if samples is None else _from_deep(samples)


def _veiled_tiff(data: bytes) -> Pixels | None:
    """Colours of 8 or 16 bits which are multiplied by an alpha: they are divided by it."""
    samples = _samples(data)
    if samples is None or samples.dtype.kind != "u" or samples.ndim != 3 or samples.shape[2] != 4:
        return None
    alpha = np.maximum(samples[:, :, 3:].astype(np.float32), 1)
    return _eighth(np.minimum(samples[:, :, :3] / alpha, 1))


def _float_tiff(data: bytes) -> Pixels | None:
    """Floating point numbers from 0, black, to 1, white."""
    samples = _samples(data)
    if samples is None or samples.dtype.kind != "f":
        return None
    colours = _rgb(samples)
    outside = float(np.mean(~((colours >= -0.01) & (colours <= 1.01))))  # NaN is outside, too
    if outside > _OUTSIDE:
        raise PhotoError(
            "decode",
            f"a TIFF of floating point numbers of which {100 * outside:.0f} % lie outside of 0 to 1: what is white is not "
            "known; save it as PNG",
        )
    return _eighth(np.nan_to_num(colours, nan=0.0))


_OUTSIDE = 0.01  # of the numbers: highlights and ringing of a sharpened picture


def _samples(data: bytes) -> NDArray[Any] | None:
    """A TIFF's samples as they are, upright, the first three in the order red, green, blue."""
    samples = opencv(data, cv2.IMREAD_UNCHANGED)
    if samples is not None and samples.ndim == 3:
        samples = samples[:, :, [2, 1, 0, *range(3, samples.shape[2])]]
    return samples


def _rgb(samples: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(samples[:, :, None], 3, 2) if samples.ndim == 2 else samples[:, :, :3]


def _from_deep(samples: NDArray[Any]) -> Pixels | None:
    """16 bits to 8. Numbers that need no more than 12 are a camera's of 12 bits, which some programs store so."""
    if samples.dtype != np.uint16:
        return None
    colours = _rgb(samples)
    white = 4095 if int(colours.max()) < 4096 else 65535
    return _eighth(colours.astype(np.float32) / np.float32(white))


def _eighth(values: NDArray[Any]) -> Pixels:
    """0 to 1 as 0 to 255, what is outside of it cut off."""
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)


WAYS: dict[str, Callable[[bytes], Pixels | None]] = {
    "avif": pillow.avif,
    "bare cmyk": pillow.bare_cmyk,
    "bmp masks": read_masked,
    "deep tiff": _deep_tiff,
    "float tiff": _float_tiff,
    "gif": pillow.gif,
    "grey jpeg": _grey_jpeg,
    "heic": pillow.heic,
    "jpeg 2000": pillow.jpeg2000,
    "jpeg xl": pillow.jpegxl,
    "lab tiff": pillow.lab_tiff,
    "open tiff": _colour,
    "pillow tiff": pillow.tiff,
    "still png": _colour,
    "veiled tiff": _veiled_tiff,
    "whole jpeg": _colour,
}
"""By `Header.way`: bytes to pixels that are still to be turned; None where the file is damaged."""
