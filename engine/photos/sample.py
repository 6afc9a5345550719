"""Photos to try faceembed on: the astronaut that scikit-image ships, as she is and altered in ways that photos differ.

    folder = sample_photos()             # kept below FACEEMBED_HOME, so that an index of it can be searched
    original, altered = sample_pair()

She is one person (Eileen Collins; NASA, public domain), so nothing here tells two people apart. Only scikit-image's picture
file is used; its code is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.packages import package_file
from faceembed.engine.models.store import home, writing
from faceembed.errors import DataError, ModelError
from faceembed.files import atomic_write
from faceembed.install import pip_install

Pixels = NDArray[np.uint8]
"""(H, W, 3) BGR, as OpenCV writes it."""


def sample_photos() -> Path:
    """The folder of sample photos, written where it is not complete.

    Raises:
        DataError: scikit-image is not installed.
        ModelError: the folder cannot be written.
    """
    folder = sample_home() / "photos"
    missing = [name for name in PHOTOS if not (folder / name).exists()]
    if missing:
        picture = _astronaut()
        with writing(folder, "sample photos"):
            for name in missing:
                with atomic_write(folder / name) as file:
                    file.write(PHOTOS[name](picture))
    return folder


def sample_pair() -> tuple[Path, Path]:
    """The astronaut as she is, and an altered copy that is still her.

    Raises:
        DataError: scikit-image is not installed.
        ModelError: the photos cannot be written.
    """
    folder = sample_photos()
    return folder / "astronaut.png", folder / "dark_mirrored.jpg"


def sample_home() -> Path:
    """Where the sample photos and their index lie."""
    return home() / "sample"


def _astronaut() -> Pixels:
    try:
        path = package_file("skimage", "data/astronaut.png", extra="sample")
    except ModelError as error:
        raise DataError(
            f"the sample photos come from scikit-image, which is not installed; run: {pip_install('sample')}"
        ) from error
    return np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR))


def _jpeg(picture: Pixels, quality: int = 92) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _png(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    _, data = cv2.imencode(".png", picture)
    return data.tobytes()


def _scaled(picture: Pixels, factor: float) -> Pixels:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def _darker(picture: Pixels) -> Pixels:
    return np.asarray(picture * 0.45, np.uint8)


def _turned_by_exif(picture: Pixels) -> bytes:
    """Stored lying on its side, with EXIF orientation 6: "turn me a quarter clockwise to show me"."""
    tag = b"\x01\x12" + b"\x00\x03" + b"\x00\x00\x00\x01" + b"\x00\x06\x00\x00"  # orientation, short, one value, 6
    exif = b"Exif\x00\x00" + b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01" + tag + b"\x00\x00\x00\x00"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    data = _jpeg(cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE))
    return data[:2] + segment + data[2:]


PHOTOS: dict[str, Callable[[Pixels], bytes]] = {
    "astronaut.png": _png,
    "blurred.jpg": lambda picture: _jpeg(cv2.GaussianBlur(picture, (0, 0), 2)),
    "cropped.jpg": lambda picture: _jpeg(picture[20:240, 120:340]),
    "dark_mirrored.jpg": lambda picture: _jpeg(_darker(picture[:, ::-1])),
    "darker.jpg": lambda picture: _jpeg(_darker(picture)),
    "deep_16bit.png": lambda picture: _png(picture.astype(np.uint16) * 257),
    "grey.jpg": lambda picture: _jpeg(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)),
    "mirrored.jpg": lambda picture: _jpeg(picture[:, ::-1]),
    "quality_30.jpg": lambda picture: _jpeg(picture, 30),
    "small.jpg": lambda picture: _jpeg(_scaled(picture, 0.4)),
    "turned_by_exif.jpg": _turned_by_exif,
}
"""File name to how it is made."""
