"""Raw photos by the preview inside: made DNGs, in all four orientations of a camera."""

from __future__ import annotations

import builtins
import io
import re
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder
from faceembed.errors import PhotoError
from faceembed.install import pip_install
from tests.engine.photos import odd
from tests.engine.photos.damage import damaged_copies, photo_or_reason
from tests.engine.photos.odd import Array

pytest.importorskip("rawpy")
tifffile: Any = pytest.importorskip("tifffile")


def dng(preview: Array, jpeg: bytes | None, orientation: int = 1) -> bytes:
    """A DNG as cameras write it (without an orientation where that is 0): a preview, as a JPEG or as it is, and the sensor's numbers in a directory below it."""
    out = io.BytesIO()
    tags: list[Any] = [(271, "s", 0, "Test"), (272, "s", 0, "Camera")]
    tags += [(274, "H", 1, orientation)] if orientation else []
    tags += [(50706, "B", 4, bytes([1, 4, 0, 0])), (50708, "s", 0, "Test Camera")]
    sensor = np.zeros((192, 256), np.uint16)
    with tifffile.TiffWriter(out, byteorder="<") as file:
        extra = [(*tag, True) for tag in tags]
        file.write(
            preview,
            photometric="rgb",
            subfiletype=1,
            subifds=1,
            extratags=extra,
            metadata=None,
            rowsperstrip=len(preview),
        )
        pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes([0, 1, 1, 2]), True)]
        file.write(sensor, photometric=32803, subfiletype=0, extratags=pattern, metadata=None)
    data = bytearray(out.getvalue())
    if jpeg is None:
        return bytes(data)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    begin = 0
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (259, 262):
            struct.pack_into("<H", data, entry + 8, {259: 7, 262: 6}[tag])
        elif tag == 273:
            (begin,) = struct.unpack_from("<I", data, entry + 8)
        elif tag == 279:
            struct.pack_into("<I", data, entry + 8, len(jpeg))
    data[begin : begin + len(jpeg)] = jpeg
    return bytes(data)


@pytest.fixture(scope="module")
def portrait(astronaut: Array) -> Array:
    return np.ascontiguousarray(astronaut[:248, 96:352])


def with_exif(pixels: Array, orientation: int | None) -> bytes:
    exif = Image.Exif()
    exif[271] = "Test"
    if orientation is not None:
        exif[274] = orientation
    data = odd.encoded(pixels, "JPEG", quality=95, exif=exif)
    return data[:2] + data[20:]  # EXIF first, as cameras write it: before a JFIF segment LibRaw adds one of its own


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg that says it", "bitmap"])
def test_preview_is_upright(portrait: Array, kind: str, orientation: int) -> None:
    stored = odd.oriented(portrait, orientation)
    jpeg = {"jpeg": odd.encoded(stored, "JPEG", quality=95), "jpeg that says it": with_exif(stored, orientation)}.get(
        kind
    )
    data = dng(stored, jpeg, orientation)
    photo = decode(data)
    assert (photo.width, photo.height) == (256, 248) == (probe(data).width, probe(data).height)
    assert np.abs(photo.pixels.astype(int) - portrait).mean() < 4
    half = decode(data, reduction=2)
    assert half.pixels.shape[:2] == ((124, 128) if jpeg else (248, 256))


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_preview_that_does_not_say_how_it_lies(portrait: Array, orientation: int) -> None:
    """EXIF data without an orientation: the raw file's holds, where the preview lies as the sensor does."""
    stored = odd.oriented(np.ascontiguousarray(portrait[:, :190]), orientation)  # wide, as the sensor
    turned = decode(dng(stored, with_exif(stored, None), orientation))
    assert (turned.width, turned.height) == (190, 248)
    upright = np.ascontiguousarray(portrait[:, :190])  # a preview that its camera has turned
    assert decode(dng(upright, with_exif(upright, 1), orientation)).pixels.shape == upright.shape


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_preview_of_two_minds_is_believed_itself(portrait: Array, orientation: int) -> None:
    """JFIF, then EXIF that says "upright": LibRaw puts EXIF data with the sensor's turn before both."""
    upright = np.ascontiguousarray(portrait[:, :190])
    jpeg = with_exif(upright, 1)
    jpeg = jpeg[:2] + bytes.fromhex("ffe000104a46494600010100000100010000") + jpeg[2:]
    photo = decode(dng(upright, jpeg, orientation))
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 4


def test_embedding_is_hers(pipeline: Pipeline, portrait: Array) -> None:
    """Through the server's way, too."""
    embedder = Embedder.of(pipeline)
    files = [odd.encoded(portrait, "PNG"), dng(portrait, odd.encoded(portrait, "JPEG", quality=97))]
    a, b = (photo.faces[photo.chosen or 0] for photo in embedder.embed([embedder.take(data) for data in files]))
    assert float(a.embedding @ b.embedding) >= 0.999


def test_none_inside(portrait: Array) -> None:
    out = io.BytesIO()
    extra = [(50706, "B", 4, bytes([1, 4, 0, 0]), True), (50708, "s", 0, "Test", True)]
    pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes([0, 1, 1, 2]), True)]
    tifffile.imwrite(out, np.zeros((64, 64), np.uint16), photometric=32803, extratags=extra + pattern, metadata=None)
    with pytest.raises(PhotoError, match=r"raw data \(DNG\) without a preview"):
        decode(out.getvalue())


def test_damage_gives_a_photo_or_a_reason(portrait: Array, capfd: pytest.CaptureFixture[str]) -> None:
    data = dng(portrait[60:124, 90:154], None)
    for damaged in damaged_copies(data, seed=8, count=30, head=400, cut=3):
        photo_or_reason(damaged)
    assert capfd.readouterr() == ("", "")


def test_without_the_package(portrait: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "rawpy", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PhotoError, match=rf"raw data \(DNG\).*{re.escape(pip_install('raw'))}$"):
        probe(dng(portrait, None))
