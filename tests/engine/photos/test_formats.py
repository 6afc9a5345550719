"""GIF, JPEG 2000, AVIF, HEIC, JPEG XL and MPO: the picture, the right way up, under any name; and what is a photo by its content."""

from __future__ import annotations

import builtins
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.photos.probe import is_picture, probe
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder
from faceembed.errors import PhotoError
from faceembed.install import pip_install
from tests.engine.photos import odd
from tests.engine.photos.damage import damaged_copies, photo_or_reason
from tests.engine.photos.odd import Array

pillow_heif: Any = pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[274] = orientation
    return data


def heic(pixels: Array, **options: Any) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=95, **options)
    return out.getvalue()


def jxl(pixels: Array) -> bytes:
    import pillow_jxl  # noqa: F401 - teaches Pillow to write it

    return odd.encoded(pixels, "JXL", lossless=True)


def mpo(pixels: Array) -> bytes:
    other = Image.fromarray(pixels[:, ::-1])
    return odd.encoded(pixels, "MPO", save_all=True, append_images=[other], quality=95)


MAKE: dict[str, Callable[[Array], bytes]] = {
    "AVIF": lambda p: odd.encoded(p, "AVIF", quality=95),
    "AVIF with alpha": lambda p: odd.encoded(np.dstack([p, p[:, :, 0]]), "AVIF", quality=95),
    "HEIC": heic,
    "JPEG 2000": lambda p: odd.encoded(p, "JPEG2000"),
    "JPEG 2000, codestream": lambda p: odd.encoded(p, "JPEG2000", no_jp2=True),
    "JPEG XL": jxl,
    "MPO": mpo,
}


@pytest.fixture(scope="module")
def portrait(astronaut: Array) -> Array:
    return np.ascontiguousarray(astronaut[:249, 96:353])


@pytest.mark.parametrize("kind", MAKE)
def test_embedding_is_hers(pipeline: Pipeline, portrait: Array, kind: str) -> None:
    embedder = Embedder.of(pipeline)
    files = [odd.encoded(portrait, "PNG"), MAKE[kind](portrait)]
    a, b = (photo.faces[photo.chosen or 0] for photo in embedder.embed([embedder.take(data) for data in files]))
    assert float(a.embedding @ b.embedding) >= 0.999
    photo = decode(files[1])
    assert (photo.width, photo.height) == (257, 249)
    stored = probe(files[1])
    assert 257 * 249 <= stored.pixels <= 258 * 250  # a HEIC's is of even sides, and cropped by the decoder


def test_first_frame_of_a_gif(portrait: Array) -> None:
    palette = Image.fromarray(portrait).quantize(200)
    later = palette.transpose(Image.Transpose.ROTATE_180)
    for options in ({}, {"transparency": 7}):
        data = odd.encoded(palette, "GIF", save_all=True, append_images=[later], **options)
        np.testing.assert_array_equal(decode(data).pixels, np.asarray(palette.convert("RGB")))


def test_16_bits_of_jpeg_2000(portrait: Array) -> None:
    grey = portrait[:, :, 1]
    data = odd.encoded(Image.fromarray(grey.astype(np.uint16) * 257), "JPEG2000")
    np.testing.assert_array_equal(decode(data).pixels, np.repeat(grey[:, :, None], 3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_orientation_is_applied_once(portrait: Array, kind: str, orientation: int) -> None:
    """Encoders turn an EXIF orientation into ``irot`` and ``imir``, and some keep the tag beside them."""
    stored = odd.oriented(portrait, orientation)
    if kind == "AVIF":
        data = odd.encoded(stored, "AVIF", quality=95, exif=exif(orientation))
    else:
        data = heic(stored, exif=exif(orientation).tobytes())
    photo = decode(data)
    assert (photo.width, photo.height) == (257, 249)
    assert np.abs(photo.pixels.astype(int) - portrait).mean() < 4
    assert np.abs(photo.pixels.astype(int) - portrait[::-1, ::-1]).mean() > 20


@pytest.mark.parametrize("kind", MAKE)
def test_damage_gives_a_photo_or_a_reason(portrait: Array, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = MAKE[kind](np.ascontiguousarray(portrait[60:124, 90:154]))
    for damaged in damaged_copies(data, seed=8, count=30, head=300, cut=3):
        photo_or_reason(damaged)
    if kind != "MPO":  # libjpeg's own lines: `docs/formats.md`
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", MAKE)
def test_too_many_pixels_are_refused_by_the_header(portrait: Array, kind: str) -> None:
    with pytest.raises(PhotoError, match=r"25[78]x2(49|50) is 0 megapixels, over the limit of 0"):
        decode(MAKE[kind](portrait), max_pixels=257 * 249 - 1)


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("HEIC", "pillow_heif", "heif"), ("JPEG XL", "pillow_jxl", "jxl")]
)
def test_missing_package_is_named(
    portrait: Array, kind: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = MAKE[kind](portrait)
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args)

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        PhotoError, match=rf"a {kind} picture, which needs one more package; run: {re.escape(pip_install(extra))}"
    ):
        decode(data)


def test_photos_are_found_by_content(tmp_path: Path, portrait: Array) -> None:
    pictures = {
        "from a phone.dat": MAKE["HEIC"](portrait),
        "IMG_0001": odd.encoded(portrait, "JPEG"),
        "scan.jp2": MAKE["JPEG 2000"](portrait),
        "upper.JXL": MAKE["JPEG XL"](portrait),
        "document.psd": b"8BPS" + bytes(60),
        "bitmap": odd.encoded(portrait, "BMP"),
        "wrong.txt": odd.encoded(portrait, "PNG"),
        "damaged.jpg": b"",
    }
    others = {
        "film.mp4": b"\0\0\0\x14ftypisom" + bytes(60),
        "BMW.txt": b"BMW is a company, and this is a text",
        "sound.wav": b"RIFF\0\0\0\0WAVEfmt ",
        "empty": b"",
        "notes.txt": b"Dear all,",
    }
    for name, data in {**pictures, **others}.items():
        (tmp_path / name).write_bytes(data)
        assert is_picture(data[:512]) == (name in pictures and bool(data))
    listing = list_photos([tmp_path])
    assert {Path(photo.path).name for photo in listing.photos} == set(pictures)
    assert listing.ignored == {".mp4": 1, ".txt": 2, ".wav": 1, "(none)": 1}
