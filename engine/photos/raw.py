"""The picture that a camera put into its raw file beside the sensor's numbers: a JPEG, often of the full size, upright by its EXIF.

LibRaw finds it, through rawpy. The sensor's own numbers are not developed: every program does that differently, and faces look the same.
"""

from __future__ import annotations

import io
from typing import Any

from faceembed.engine.photos.headers.jpeg import read_jpeg
from faceembed.errors import PhotoError
from faceembed.install import pip_install

_TURNS = {3: 3, 5: 8, 6: 6}
"""LibRaw's ``flip`` as an EXIF orientation."""


def preview(data: bytes, kind: str) -> tuple[bytes, int]:
    """The largest picture inside a raw file.

    Args:
        data: the raw file.
        kind: what it is, for messages.

    Returns:
        A JPEG's bytes, or those of a PNG where it is not compressed; and the EXIF orientation where the picture does not say it and the
        raw file does, else 0.

    Raises:
        PhotoError: none in it, or damaged; or rawpy is not installed.
    """
    try:
        import rawpy  # optional: raw photos
    except ImportError as error:
        raise PhotoError(
            "decode", f"{kind}, of which the preview needs one more package; run: {pip_install('raw')}"
        ) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes, thumbnail = raw.sizes, raw.extract_thumb()
    except rawpy.LibRawNoThumbnailError as error:
        raise PhotoError("decode", f"{kind} without a preview; export it as JPEG") from error
    except rawpy.LibRawError as error:
        reason = str(error).removeprefix("b'").rstrip("'")
        raise PhotoError("decode", f"{kind} that cannot be read ({reason}); export it as JPEG") from error
    turn = _TURNS.get(sizes.flip, 0)
    if thumbnail.format == rawpy.ThumbFormat.JPEG:
        found = _without_added(bytes(thumbnail.data))
        return found, turn if turn >= 5 and _says_nothing(found, sizes.raw_width >= sizes.raw_height) else 0
    if thumbnail.format != rawpy.ThumbFormat.BITMAP:
        raise PhotoError("decode", f"{kind} with a preview of a rare kind; export it as JPEG")
    return _as_png(thumbnail.data), turn


def _as_png(pixels: Any) -> bytes:
    """The file of uint8 RGB pixels (H, W, 3)."""
    import cv2  # where there is rawpy: every command imports this file, most of them long before they need OpenCV
    import numpy as np

    return cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _without_added(jpeg: bytes) -> bytes:
    """A preview without the EXIF segment that LibRaw puts before a JFIF segment, where the preview has EXIF data of its own behind.

    That one says how the picture lies; LibRaw's says how the sensor did, and turned what the camera had turned (findings/libraw-preview-exif.sh).
    """
    if jpeg[2:4] != b"\xff\xe1" or jpeg[6:10] != b"Exif":
        return jpeg
    rest = jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]
    behind = 4 + int.from_bytes(rest[4:6], "big")
    added = (
        rest[2:4] == b"\xff\xe0"
        and rest[behind : behind + 2] == b"\xff\xe1"
        and rest[behind + 4 : behind + 8] == b"Exif"
    )
    return rest if added else jpeg


def _says_nothing(jpeg: bytes, wide: bool) -> bool:
    """Whether a preview lies as the sensor does and has no orientation. LibRaw adds one where a preview has no EXIF data at all."""
    header = read_jpeg(jpeg)
    return header.orientation == 1 and (header.width >= header.height) == wide
