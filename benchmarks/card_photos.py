"""Photos for `card.py`: of every kind that a decoder may meet, and scaled to the sizes at which decoders are compared.

They are made of the first sound photo given, so that they can be made wherever the script runs, without scikit-image's sample too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import BenchmarkError
from numpy.typing import NDArray
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.errors import PhotoError

SIDES = (250, 640, 1280, 3840)


def sound(photos: Sequence[Path], most: int) -> list[NDArray[np.uint8]]:
    """RGB pixels of the first photos that can be decoded.

    Raises:
        BenchmarkError: none can.
    """
    found: list[NDArray[np.uint8]] = []
    reason = ""
    for path in photos:
        try:
            found.append(decode(path.read_bytes()).pixels)
        except PhotoError as error:
            reason = f"{path.name}: {error.reason}"
        if len(found) == most:
            break
    if not found:
        raise BenchmarkError(f"none of {len(photos)} photos can be decoded ({reason})")
    return found


def plain(photos: Sequence[Path]) -> Image.Image:
    """The first photo that can be decoded, as large as the sample's: what `mixed` is made of."""
    return Image.fromarray(sound(photos, 1)[0]).resize((512, 512))


def mixed(picture: Image.Image) -> dict[str, bytes]:
    """40 files by name: subsamplings, orientations, progressive, grey and CMYK JPEGs, other formats, and damaged ones."""
    files: dict[str, bytes] = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        files[f"turned {orientation}.jpg"] = encoded(picture, "JPEG", exif=exif, quality=90)
        files[f"turned {orientation}.png"] = encoded(picture.resize((301, 280)), "PNG", exif=exif)
    for kind in range(3):
        for quality in (60, 85, 95):
            files[f"subsampled {kind} at {quality}.jpg"] = encoded(picture, "JPEG", subsampling=kind, quality=quality)
    for number, side in enumerate((251, 333, 640, 1001)):
        files[f"odd {number}.jpg"] = encoded(picture.resize((side, side + 2 * number + 1)), "JPEG", quality=88)
    files |= {
        "progressive.jpg": encoded(picture, "JPEG", progressive=True),
        "grey.jpg": encoded(picture.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "plain.webp": encoded(picture, "WEBP"),
        "lossless.webp": encoded(picture.resize((200, 200)), "WEBP", lossless=True),
        "plain.bmp": encoded(picture.resize((200, 200)), "BMP"),
        "plain.tiff": encoded(picture.resize((200, 200)), "TIFF"),
    }
    sound = encoded(picture, "JPEG")
    table, broken = sound.index(b"\xff\xc4"), bytearray(sound)
    broken[table + 4 : table + 30] = b"\xff" * 26
    files |= {
        "no end.jpg": sound[: len(sound) // 2],
        "broken table.jpg": bytes(broken),
        "empty.jpg": b"",
        "text.jpg": b"no picture",
    }
    return files


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def at_side(sources: Sequence[NDArray[np.uint8]], side: int, count: int) -> list[bytes]:
    """JPEGs of a longer side, quality 90, subsampled as cameras do."""
    files = []
    for number in range(count):
        photo = sources[number % len(sources)]
        scale = side / max(photo.shape[:2])
        scaled = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        files.append(cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return files
