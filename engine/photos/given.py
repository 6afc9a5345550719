"""Photos as programs hold them: a path, a file's bytes, an open file, an array, a picture of Pillow's.

What comes out is a file's bytes, to be decoded as any file is, or upright RGB pixels.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.sidecar import read_photo
from faceembed.errors import PhotoError, UsageError

Colour = Literal["rgb", "bgr"]
Given = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[np.uint8] | Any
"""Path, file's bytes, file open for reading bytes, uint8 array (H, W, 3) or grey (H, W), or ``PIL.Image.Image``."""
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def check(photo: Given, colour: Colour | None) -> None:
    """Refuse what a program gave by mistake.

    Raises:
        UsageError: no kind of photo, an array of another shape or type, or of colours whose order was not said.
    """
    if colour not in (None, "rgb", "bgr"):
        raise UsageError(f"colour is {colour!r}; give 'rgb' or 'bgr'")
    if isinstance(photo, np.ndarray):
        _check_array(photo, colour)
    elif _is_picture(photo):
        _check_picture(photo)
    elif not isinstance(photo, str | os.PathLike | bytes | bytearray | memoryview) and not hasattr(photo, "read"):
        raise UsageError(
            f"a photo is a path, bytes, an open file, a uint8 array or a PIL image, not {type(photo).__name__}"
        )


def _check_picture(photo: Any) -> None:
    if photo.mode in _DEEP:
        raise UsageError(f"a picture of mode {photo.mode!r}: Pillow would cut its levels off; give its file instead")


def _check_array(photo: NDArray[Any], colour: Colour | None) -> None:
    if photo.dtype != np.uint8:
        raise UsageError(f"an array of {photo.dtype}; give uint8, 0 to 255")
    if photo.ndim not in (2, 3) or (photo.ndim == 3 and photo.shape[2] not in (1, 3)) or not photo.size:
        raise UsageError(f"an array of shape {photo.shape}; give (H, W, 3), or (H, W) for grey")
    if colour is None and photo.ndim == 3 and photo.shape[2] == 3:
        raise UsageError(
            "an array does not say the order of its colours, and a wrong guess costs accuracy silently; give colour='rgb', or 'bgr' "
            "for what cv2.imread gives"
        )


def read_given(photo: Given, colour: Colour | None, *, max_bytes: int) -> bytes | NDArray[np.uint8]:
    """What `check` has passed, as a file's bytes or as uint8 RGB pixels (H, W, 3).

    Args:
        photo: the photo; an open file is read from where it stands to its end.
        colour: order of an array's colours.
        max_bytes: files with more are refused.

    Raises:
        PhotoError: a file that cannot be read, or is too large.
        UsageError: a file that is open for text.
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo, colour)
    if _is_picture(photo):
        return _from_picture(photo)
    if isinstance(photo, str | os.PathLike):
        return read_photo(os.path.abspath(os.fspath(photo)), max_bytes=max_bytes)
    data = photo.read(max_bytes + 1) if hasattr(photo, "read") else bytes(photo)
    if not isinstance(data, bytes):
        raise UsageError("a file that is open for text; open it with mode 'rb'")
    if len(data) > max_bytes:
        raise PhotoError("read", f"over the limit of {max_bytes >> 20} MiB for a file (--max-bytes)")
    return data


def name_of(photo: Given, number: int) -> str:
    """What to call a photo in a message: its file's name, or its place, from 1."""
    path = photo if isinstance(photo, str | os.PathLike) else getattr(photo, "name", None)
    return printable(os.path.basename(os.fspath(path))) if isinstance(path, str | os.PathLike) else f"photo {number}"


def _is_picture(photo: Any) -> bool:
    """Whether it is a picture of Pillow's, without importing that."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(photo).__mro__)


def _from_array(photo: NDArray[np.uint8], colour: Colour | None) -> NDArray[np.uint8]:
    if photo.ndim == 2 or photo.shape[2] == 1:
        return np.repeat(photo.reshape(*photo.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(photo[:, :, ::-1] if colour == "bgr" else photo)


def _from_picture(photo: Any) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps  # optional: whoever has such a picture has Pillow

    try:
        return np.ascontiguousarray(ImageOps.exif_transpose(photo).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PhotoError("decode", f"Pillow cannot read it ({str(error).splitlines()[0][:120]})") from error
