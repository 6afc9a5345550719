"""Which way is up, measured by a face: every format that can say it, each of the eight orientations, and where the eyes land."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from faceembed.engine.detect.kinds import open_detector
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.decode import _turned, decode
from faceembed.engine.runtimes.base import RuntimeChoice
from tests.engine.photos import odd
from tests.engine.photos.odd import page, tiff
from tests.engine.photos.test_libraries import ORIENTED, TURNS, decoders_of

Array = NDArray[np.uint8]
EYES = np.array([(204.0, 102.0), (246.5, 103.0)])  # of the astronaut, in her 512 x 512 pixels
SIZE = (480, 360)  # what is shown of her, width and height: no square, so that a quarter turn too many is seen


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[274] = orientation
    return data


def heic(pixels: Array, orientation: int) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=95, exif=exif(orientation).tobytes())
    return out.getvalue()


FORMATS: dict[str, Callable[[Array, int], bytes]] = {
    "JPEG": lambda p, o: odd.encoded(p, "JPEG", quality=95, exif=exif(o)),
    "JPEG, grey": lambda p, o: odd.encoded(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), "JPEG", quality=95, exif=exif(o)),
    "PNG": lambda p, o: odd.encoded(p, "PNG", exif=exif(o)),
    "WebP": lambda p, o: odd.encoded(p, "WEBP", quality=95, exif=exif(o)),
    "TIFF": lambda p, o: tiff(page(p, t274=(o,))),
    "TIFF, 16 bits": lambda p, o: tiff(page(p.astype(np.uint16) * 257, t274=(o,))),
    "AVIF": lambda p, o: odd.encoded(p, "AVIF", quality=95, exif=exif(o)),
    "HEIC": heic,
    "MPO": lambda p, o: odd.encoded(p, "MPO", save_all=True, quality=95, exif=exif(o)),
}


def eyes_of(photos: list[Array]) -> NDArray[np.float32]:
    """(N, 2, 2) the eyes of the one face in each photo."""
    detector = open_detector(
        resolve("faceembed-align", task="aligner"), RuntimeChoice("openvino", "cpu", "fp32", "a test"), threads=1
    )
    found = detector.detect(photos, [30.0] * len(photos), only_largest=True)
    assert found.photo.tolist() == list(range(len(photos))) and found.scores.min() > 0.85
    return found.landmarks[:, :2]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_eyes_land_where_they_are(astronaut: Any, kind: str) -> None:
    upright = np.ascontiguousarray(astronaut[: SIZE[1], : SIZE[0]])
    photos = [decode(FORMATS[kind](odd.oriented(upright, o), o)) for o in range(1, 9)]
    assert {(photo.width, photo.height) for photo in photos} == {SIZE}
    for orientation, eyes in enumerate(eyes_of([photo.pixels for photo in photos]), 1):
        assert np.abs(eyes - EYES).max() < 3.5, orientation


@pytest.mark.parametrize("kind", TURNS)
def test_where_other_decoders_put_the_eyes(astronaut: Any, kind: str) -> None:
    """OpenCV, Pillow, DALI and nvImageCodec: upright where `TURNS` says that they turn, else where the stored picture has them."""
    from faceembed.engine.pipeline.gpu.cpu import CpuBackend

    pytest.importorskip("nvidia.dali")
    names = {"DALI": "dali", "nvImageCodec": "nvimagecodec"}
    decoders = decoders_of({title: CpuBackend(threads=1, decoder=name) for title, name in names.items()})
    upright = np.ascontiguousarray(astronaut[: SIZE[1], : SIZE[0]])
    stored = {orientation: odd.oriented(upright, orientation) for orientation in range(1, 9)}
    for name, turns in TURNS[kind].items():
        shown = []
        for orientation, pixels in stored.items():
            found = decoders[name](ORIENTED[kind](pixels, orientation))
            assert found.shape == (upright if turns else pixels).shape, (name, orientation)
            shown.append(np.ascontiguousarray(found if turns else _turned(found, orientation), np.uint8))
        for orientation, eyes in enumerate(eyes_of(shown), 1):
            assert np.abs(eyes - EYES).max() < 3.5, (name, orientation)
