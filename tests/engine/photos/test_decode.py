"""Decoding against Pillow, reductions against an averaged full decode, and bytes of every bad kind: a photo or a reason."""

from __future__ import annotations

import io
import resource
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from faceembed.engine.photos.decode import MAX_PIXELS, decode, min_face_of, reduction_for
from faceembed.engine.photos.header import Header
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.reading import read_file
from faceembed.errors import PhotoError
from tests.engine.photos.damage import photo_or_reason

LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}, "BMP": {}}
FORMATS = ("JPEG", *LOSSLESS)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **{**LOSSLESS.get(kind, {}), **options})
    return out.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> Image.Image:
    """402 x 301: neither side a multiple of anything."""
    return Image.fromarray(astronaut[:301, :402])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(picture: Image.Image, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}
    data = encoded(picture, kind, **options)
    photo = decode(data)
    np.testing.assert_array_equal(photo.pixels, by_pillow(data))
    assert (photo.width, photo.height) == ((402, 301) if orientation < 5 else (301, 402))
    assert photo.reduction == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_orientation_of_a_reduced_jpeg(picture: Image.Image, orientation: int, reduction: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    photo = decode(encoded(picture, "JPEG", exif=exif), reduction=reduction)
    upright = decode(encoded(picture, "JPEG"), reduction=reduction).pixels
    assert upright.shape == (-(-301 // reduction), -(-402 // reduction), 3)
    turn = {1: "copy", 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}
    turn |= {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
    image = Image.fromarray(upright)
    expected = image if orientation == 1 else image.transpose(Image.Transpose[turn[orientation]])
    np.testing.assert_array_equal(photo.pixels, np.asarray(expected))
    assert (photo.width, photo.height) == ((402, 301) if orientation < 5 else (301, 402))
    assert photo.reduction == reduction  # and not the ratio of the sizes, which is less at odd ones


@pytest.mark.parametrize("size", [(801, 601), (1607, 9), (16, 16), (17, 1601)])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_reduction_is_exact_at_any_size(size: tuple[int, int], reduction: int) -> None:
    photo = decode(encoded(Image.new("RGB", size), "JPEG"), reduction=reduction)
    assert photo.reduction == reduction
    assert (photo.width, photo.height) == size


def test_reduction_is_an_average(astronaut: np.ndarray) -> None:
    data = encoded(Image.fromarray(astronaut), "JPEG", quality=98)
    whole = decode(data).pixels.astype(float)
    for reduction in (2, 4, 8):
        side = 512 // reduction
        mean = whole.reshape(side, reduction, side, reduction, 3).mean((1, 3))
        assert np.abs(decode(data, reduction=reduction).pixels - mean).mean() < 1.5
        assert np.abs(decode(data, reduction=reduction).pixels - whole[::reduction, ::reduction]).mean() > 3


@pytest.mark.parametrize("kind", LOSSLESS)
def test_only_jpeg_is_reduced(picture: Image.Image, kind: str) -> None:
    photo = decode(encoded(picture, kind), reduction=4)
    assert photo.pixels.shape == (301, 402, 3)
    assert photo.reduction == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_grey_becomes_rgb(picture: Image.Image, kind: str) -> None:
    data = encoded(picture.convert("L"), kind)
    np.testing.assert_array_equal(decode(data).pixels, by_pillow(data))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["P", "1"])
def test_palette_and_bits_become_rgb(picture: Image.Image, kind: str, mode: str) -> None:
    data = encoded(picture.convert(mode), kind)
    np.testing.assert_array_equal(decode(data).pixels, by_pillow(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_transparency_is_dropped(picture: Image.Image, kind: str) -> None:
    veiled = picture.convert("RGBA")
    veiled.putalpha(Image.fromarray((np.indices((301, 402)).sum(0) % 256).astype(np.uint8)))
    np.testing.assert_array_equal(decode(encoded(veiled, kind)).pixels, np.asarray(picture))
    grey = picture.convert("LA")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG")).pixels, np.asarray(grey.convert("RGB")))
    palette = picture.convert("P")
    data = encoded(palette, "PNG", transparency=3)
    np.testing.assert_array_equal(decode(data).pixels, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_become_8(picture: Image.Image, suffix: str) -> None:
    rgb = np.asarray(picture).astype(np.uint16)
    deep = rgb * 256 + np.random.default_rng(0).integers(0, 256, rgb.shape).astype(np.uint16)
    for pixels in (deep[:, :, ::-1], deep[:, :, 1]):
        decoded = decode(cv2.imencode(suffix, pixels)[1].tobytes()).pixels
        expected = (pixels[:, :, ::-1] if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)) / 257
        assert np.abs(decoded - expected).max() <= 1


def test_cmyk_jpeg(picture: Image.Image) -> None:
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(data).pixels.astype(int) - by_pillow(data)).max() <= 2
    assert np.abs(decode(data).pixels.astype(int) - np.asarray(picture)).mean() < 5


def test_progressive_jpeg_and_all_samplings(picture: Image.Image) -> None:
    for options in ({"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}):
        data = encoded(picture, "JPEG", quality=92, **options)
        assert np.abs(decode(data).pixels.astype(int) - by_pillow(data)).max() <= 2
        assert decode(data, reduction=8).pixels.shape == (38, 51, 3)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(picture: Image.Image, compression: str) -> None:
    np.testing.assert_array_equal(decode(encoded(picture, "TIFF", compression=compression)).pixels, np.asarray(picture))


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(picture: Image.Image, kind: str) -> None:
    later = [picture.transpose(Image.Transpose.ROTATE_180), Image.new("RGB", picture.size, "red")]
    data = encoded(picture, kind, save_all=True, append_images=later)
    np.testing.assert_array_equal(decode(data).pixels, np.asarray(picture))


def test_bytes_after_the_end_do_no_harm(picture: Image.Image) -> None:
    for kind in FORMATS:
        data = encoded(picture, kind)
        np.testing.assert_array_equal(decode(data + bytes(1000)).pixels, decode(data).pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_thirty_thousand_pixels_wide(kind: str) -> None:
    wide = np.zeros((60, 30_000, 3), np.uint8)
    wide[:, 15_000:] = (200, 120, 40)
    data = encoded(Image.fromarray(wide), kind)
    photo = decode(data)
    assert photo.pixels.shape == wide.shape
    assert np.abs(photo.pixels[30, [7_000, 22_000]].astype(int) - wide[30, [7_000, 22_000]]).max() <= 3
    reduced = decode(data, reduction=reduction_for(probe(data), 0))
    assert reduced.pixels.shape[1] == (3_750 if kind == "JPEG" else 30_000)
    assert (reduced.width, reduced.height) == (30_000, 60)


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG header with almost nothing behind it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int, picture: Image.Image) -> bytes:
    data = bytearray(encoded(picture, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def test_bomb_is_refused_by_its_header(picture: Image.Image) -> None:
    for data in (png_claiming(50_000, 50_000), jpeg_claiming(50_000, 50_000, picture)):
        tracemalloc.start()
        started = time.perf_counter()
        with pytest.raises(PhotoError, match=r"50000x50000 is 2500 megapixels, over the limit of 120") as caught:
            decode(data, reduction=8)
        seconds, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.stage == "decode"
        assert peak < 1 << 20
        assert seconds < 0.5


def test_png_chunk_that_claims_gigabytes(picture: Image.Image) -> None:
    """The decoder would allocate what the chunk claims."""
    data = bytearray(encoded(picture.resize((60, 40)), "PNG"))
    at = data.index(b"IDAT")
    data[at - 4 : at] = struct.pack(">I", 0xD300_0000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PhotoError, match="damaged or truncated PNG"):
        decode(bytes(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 17  # KiB


def test_limit_on_pixels_is_exact(picture: Image.Image) -> None:
    data = encoded(picture, "PNG")
    assert decode(data, max_pixels=402 * 301).width == 402
    with pytest.raises(PhotoError, match="--max-pixels"):
        decode(data, max_pixels=402 * 301 - 1)
    with pytest.raises(PhotoError):
        decode(png_claiming(MAX_PIXELS // 1000 + 1, 1000))


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_off_anywhere_is_an_error(picture: Image.Image, kind: str) -> None:
    data = encoded(picture, kind)
    offsets = {*range(1, 64, 3), *np.linspace(64, len(data) - 16, 24, dtype=int).tolist()}
    for offset in sorted(offsets):
        with pytest.raises(PhotoError) as caught:
            decode(data[:offset])
        assert caught.value.stage == "decode"
        assert caught.value.reason
        assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"Dear all,\nthis is no picture.", "a text file"),
        (bytes(3) + b"text after zeros", "begins with 00 00 00 74"),
        (b"  <!doctype html><title>404</title>", "HTML, XML or SVG text"),
        (bytes(100), "nothing but zeros"),
        (b"GIF89a" + bytes(50), "size 0x0"),
        (b"\0\0\0\x14ftypisom" + bytes(50), r"a video or another file in boxes \(isom\), no photo"),
        (b"\0\0\0\x14ftypheic" + bytes(50), "cut off inside its header"),
        (b"\0\0\0\x14ftypcrx " + bytes(50), r"a Canon raw photo \(CR3\)"),
        (b"8BPS" + bytes(50), r"a Photoshop document \(PSD\), a kind that is not read; export it as JPEG or PNG"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), r"a Canon raw photo \(CR2\)"),
        (bytes(range(128, 256)), "begins with 80 81 82 83"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "RIFF file that is not WebP"),
        (b"\xff\xd8\xff", "cut off inside its header"),
        (b"\x89PNG\r\n\x1a\n", "cut off inside its header"),
        (b"BM", "cut off inside its header"),
        (b"II*\x00", "cut off inside its header"),
        (png_claiming(0, 10), "size 0x10"),
    ],
)
def test_what_is_no_picture_says_what_it_is(data: bytes, reason: str) -> None:
    with pytest.raises(PhotoError, match=reason) as caught:
        decode(data)
    assert caught.value.stage == "decode"


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_jpegs(picture: Image.Image, progressive: bool) -> None:
    data = encoded(picture.resize((120, 90)), "JPEG", progressive=progressive)
    rng = np.random.default_rng(5)
    sound = 0
    for number in range(300):
        damaged = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(2, len(data) if number % 2 else 700, 1 + number % 6)
        damaged[places] = rng.integers(0, 256, len(places))
        if number % 5 == 0:
            start, length = sorted(rng.integers(2, len(data), 2).tolist())
            damaged = np.delete(damaged, slice(start, length))
        sound += photo_or_reason(damaged.tobytes(), reduction=int(2 ** (number % 4)), max_pixels=4_000_000) is not None
    assert 20 < sound < 280  # both happened


@pytest.mark.parametrize("kind", LOSSLESS)
def test_damaged_pictures_of_other_formats(picture: Image.Image, kind: str) -> None:
    data = encoded(picture.resize((60, 40)), kind)
    rng = np.random.default_rng(6)
    for number in range(100):
        damaged = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(0, len(data) if number % 2 else 64, 1 + number % 4)
        damaged[places] = rng.integers(0, 256, len(places))
        photo_or_reason(damaged.tobytes())


@pytest.mark.parametrize(
    "magic", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP", b"BM", b"II*\x00"]
)
def test_any_bytes_after_a_magic_number(magic: bytes) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=300))
    def check(tail: bytes) -> None:
        photo_or_reason(magic + tail)

    check()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert photo_or_reason(data) is None


def test_unreadable_file_says_why(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.jpg", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(PhotoError, match=reason) as caught:
            read_file(str(path))
        assert caught.value.stage == "read"


@pytest.mark.parametrize(
    ("size", "min_face", "smallest", "reduction"),
    [
        ((400, 300), 0, 20, 1),
        ((800, 600), 0, 20, 1),
        ((1600, 1200), 0, 40, 2),
        ((1200, 1599), 0, 39.975, 1),
        ((3200, 3200), 0, 80, 4),
        ((6400, 4000), 0, 160, 8),
        ((30_000, 100), 0, 750, 8),
        ((6400, 4000), 20, 20, 1),
        ((6400, 4000), 45, 45, 2),
        ((400, 300), 200, 200, 8),
        ((400, 300), 8, 8, 1),
    ],
)
def test_smallest_face_and_reduction(size: tuple[int, int], min_face: int, smallest: float, reduction: int) -> None:
    assert min_face_of(*size, min_face) == pytest.approx(smallest)
    assert reduction_for(Header("JPEG", *size), min_face) == reduction
    assert reduction_for(Header("PNG", *size), min_face) == 1


def test_nothing_is_printed(picture: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV's own log of files that are cut off would bury the progress line."""
    for kind in FORMATS:
        data = encoded(picture, kind)
        assert photo_or_reason(data[: len(data) // 2]) is None
    assert capfd.readouterr() == ("", "")


def test_many_threads_at_once(picture: Image.Image) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = [encoded(picture.rotate(angle), "JPEG") for angle in range(0, 80, 10)]
    expected = [decode(data).pixels for data in files]
    one: Callable[[bytes], np.ndarray] = lambda data: decode(data).pixels
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(one, files * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(got, wanted)
