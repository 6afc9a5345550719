"""Small JPEGs of photos, for reports."""

from __future__ import annotations

import cv2

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.sidecar import read_photo
from faceembed.errors import PhotoError

SIDE = 128  # longer side in pixels


def thumbnail(path: str) -> bytes | None:
    """A photo as a small JPEG, upright; None if it cannot be read."""
    try:
        data = read_photo(path)
        header = probe(data)
        fits = [r for r in (1, 2, 4, 8) if max(header.width, header.height) / r >= SIDE]
        pixels = decode(data, reduction=max(fits, default=1)).pixels
    except PhotoError:
        return None
    factor = SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return encoded.tobytes()
