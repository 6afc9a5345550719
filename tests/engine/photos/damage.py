"""Pictures with bytes changed or cut off, and what may become of them: a photo that is whole, or a reason in one line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from faceembed.engine.photos.decode import Photo, decode
from faceembed.errors import PhotoError


def damaged_copies(data: bytes, *, seed: int, count: int, head: int, cut: int) -> Iterator[bytes]:
    """Copies of a file with one to four bytes changed, in every second one among the first ``head``; each ``cut``-th is cut off, too."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        damaged = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(0, len(data) if number % 2 else min(head, len(data)), 1 + number % 4)
        damaged[places] = rng.integers(0, 256, len(places))
        end = int(len(data) * rng.random()) if number % cut == 0 else len(data)
        yield damaged[:end].tobytes()


def photo_or_reason(data: bytes, *, reduction: int = 1, max_pixels: int = 1 << 20) -> Photo | None:
    """The photo; None where a sound reason was given. Anything else fails the test."""
    try:
        photo = decode(data, reduction=reduction, max_pixels=max_pixels)
    except PhotoError as error:
        assert error.stage == "decode"
        assert error.reason
        assert "\n" not in error.reason
        return None
    assert photo.pixels.dtype == np.uint8 and photo.pixels.flags.c_contiguous
    assert photo.pixels.shape == (-(-photo.height // photo.reduction), -(-photo.width // photo.reduction), 3)
    assert photo.width * photo.height <= max_pixels
    return photo
