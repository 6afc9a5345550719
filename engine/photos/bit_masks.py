"""The pixels of a BMP whose colours lie under bit masks: OpenCV takes no notice of masks behind a header of 40 bytes."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import PhotoError

_MASKS_AT = 54  # behind a header of 40 bytes, and inside of the longer ones, which begin with the same fields


def read_masked(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a BMP with bit masks, (H, W, 3) RGB; an alpha is dropped.

    Raises:
        PhotoError: cut off, or masks that cannot be.
    """
    (begin,) = struct.unpack_from("<I", data, 10)
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    masks = struct.unpack_from("<III", data, _MASKS_AT)
    stride = (width * bits // 8 + 3) // 4 * 4
    if begin + stride * abs(height) > len(data):
        raise PhotoError("decode", "damaged or truncated BMP")
    if not all(masks) or masks[0] & masks[1] or masks[1] & masks[2] or masks[0] & masks[2]:
        raise PhotoError("decode", f"damaged BMP: colour masks {', '.join(f'{mask:#x}' for mask in masks)}")
    rows = np.frombuffer(data, np.uint8, stride * abs(height), begin).reshape(abs(height), stride)
    words = np.ascontiguousarray(rows[:, : width * bits // 8]).view(f"<u{bits // 8}").astype(np.uint32)
    planes = []
    for mask in masks:
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        values = ((words & np.uint32(mask)) >> np.uint32(shift)).astype(np.float32)
        planes.append(np.rint(values * np.float32(255 / most)).astype(np.uint8))
    pixels = np.stack(planes, axis=2)
    return np.ascontiguousarray(pixels[::-1] if height > 0 else pixels)
