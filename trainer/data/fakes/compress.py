"""From a finished picture to the JPEG that is kept: fakes come compressed in many ways, often more than once."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from faceembed.trainer.data.fakes.warp import Pixels

_SUBSAMPLING = {"4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444}
QUALITIES = (60, 98)
_EARLIER = 0.3  # the share that was compressed once before, at another quality


def compress(pixels: Pixels, rng: np.random.Generator) -> tuple[bytes, int, dict[str, Any]]:
    """Compress a picture.

    Args:
        pixels: uint8 RGB (H, W, 3).
        rng: draws how.

    Returns:
        The file's bytes, the JPEG's quality (60 to 98), and what else was drawn.
    """
    params: dict[str, Any] = {}
    if rng.uniform() < _EARLIER:
        earlier = int(rng.integers(65, 96))
        data = np.frombuffer(_encode(pixels, earlier, "4:2:0"), np.uint8)
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
        params["earlier_quality"] = earlier
    quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
    subsampling = "4:2:0" if rng.uniform() < 0.8 else "4:4:4"
    params["subsampling"] = subsampling
    return _encode(pixels, quality, subsampling), quality, params


def _encode(pixels: Pixels, quality: int, subsampling: str) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SUBSAMPLING[subsampling]]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise OSError("the picture could not be compressed as JPEG")
    return bytes(data.tobytes())
