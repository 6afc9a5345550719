"""Pictures that are in memory, as data for a page."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray


def png_source(pixels: NDArray[np.uint8]) -> str:
    """A ``data:`` address of a picture, without loss.

    Args:
        pixels: uint8 RGB (H, W, 3).
    """
    return f"data:image/png;base64,{base64.b64encode(png_bytes(pixels)).decode('ascii')}"


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of a picture, uint8 RGB (H, W, 3)."""
    import cv2

    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))
    return data.tobytes()
