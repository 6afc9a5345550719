"""What the libraries beneath us do with sound pictures, where it is not what one would guess.

Each is why a file goes one of the ways of `engine/photos/ways.py`, or is refused, and a row of `docs/formats.md`. When a library
mends its ways its test fails here: then drop the way, and the row.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.rewrite import rewritten
from faceembed.engine.photos.ways import opencv
from tests.engine.photos import odd
from tests.engine.photos.odd import Array, page, tiff
from tests.engine.photos.test_whole import with_pieces

COLOUR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


@pytest.fixture(scope="module")
def picture(astronaut: Array) -> Array:
    return np.ascontiguousarray(astronaut[:64, 200:296])


def read(data: bytes, flags: int = COLOUR) -> Any:
    return opencv(data, flags)


def rgba(picture: Array, alpha: int) -> Array:
    return np.dstack([picture, np.full(picture.shape[:2], alpha, picture.dtype)])


def test_opencv_multiplies_alpha_in_for_tiff_alone(picture: Array) -> None:
    data = tiff(page(rgba(picture, 40), t338=(2,)))
    for flags in (COLOUR, cv2.IMREAD_UNCHANGED):
        assert np.abs(read(data, flags)[:, :, 1].astype(int) - picture[:, :, 1] * (40 / 255)).max() <= 1
    np.testing.assert_array_equal(read(odd.encoded(rgba(picture, 40), "PNG")), picture)
    deep = rgba(picture.astype(np.uint16) * 257, 9000)
    np.testing.assert_array_equal(read(tiff(page(deep, t338=(2,))), cv2.IMREAD_UNCHANGED)[:, :, 2::-1], deep[:, :, :3])


@pytest.mark.parametrize("compression", [34712, 50002, 22610, 34933])
def test_opencv_shows_black_what_it_cannot_unpack(picture: Array, compression: int) -> None:
    """JPEG 2000, JPEG XL, JPEG XR and PNG inside of a TIFF: no error, and every pixel 0."""
    pixels = read(tiff(page(picture, t259=(compression,))))
    assert pixels is not None
    assert not pixels.any()


@pytest.mark.parametrize("compression", [5, 8, 32773])
def test_opencv_shows_black_what_is_cut_off_in_8_bits(picture: Array, compression: int) -> None:
    """LZW, deflate, PackBits: libtiff is told not to stop at an error. Of 16 bits it is told otherwise."""
    names = {5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits"}
    data = with_pieces(
        odd.encoded(picture, "TIFF", compression=names[compression]),
        lambda piece: piece[: len(piece) // 2],
        counts=True,
    )
    pixels = read(data)
    assert pixels is not None
    assert 0.3 < (pixels.max(axis=(1, 2)) == 0).mean() < 0.7
    deep = zlib.compress((picture.astype(np.uint16) * 257).tobytes())
    short = tiff(page(picture.astype(np.uint16), data=deep[: len(deep) // 2], t259=(8,)))
    assert read(short, cv2.IMREAD_UNCHANGED) is None


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_decoders_make_pictures_of_zeros(picture: Array, share: float) -> None:
    """A JPEG without its end, a WebP and an AVIF of the full size whose rest was never written."""
    for kind, options in (("WEBP", {"quality": 95}), ("AVIF", {"quality": 95})):
        data = odd.encoded(picture, kind, **options)
        half = data[: int(share * len(data))].ljust(len(data), b"\0")
        with Image.open(io.BytesIO(half)) as image:
            assert np.asarray(image.convert("RGB")).shape == picture.shape
    data = odd.encoded(picture, "JPEG", quality=95)
    assert read(data[: int(0.9 * len(data))].ljust(2 * len(data), b"\0")).shape == picture.shape


def test_opencv_gives_nothing_for_zstandard_and_lzma(picture: Array) -> None:
    for compression in ("zstd", "lzma"):
        assert read(odd.encoded(picture, "TIFF", compression=compression)) is None


def test_opencv_gives_floats_and_12_bits_only_unchanged(picture: Array) -> None:
    floats = (picture / 255).astype(np.float32)
    data = tiff(page(floats))
    assert read(data) is None
    np.testing.assert_array_equal(read(data, cv2.IMREAD_UNCHANGED)[:, :, ::-1], floats)
    data = tiff(page(picture.astype(np.uint16) * 16, bits=12))
    assert read(data) is None
    np.testing.assert_array_equal(read(data, cv2.IMREAD_UNCHANGED)[:, :, ::-1], picture.astype(np.uint16) * 256)


def test_opencv_mixes_planes_unchanged(picture: Array) -> None:
    deep = picture.astype(np.uint16) * 257
    data = tiff(page(deep, planar=True))
    assert (read(data, cv2.IMREAD_UNCHANGED)[:, :, ::-1] != deep).mean() > 0.5
    np.testing.assert_array_equal(read(data), picture)


def test_opencv_gives_nothing_for_cmyk_of_16_bits_and_two_extra_samples(picture: Array) -> None:
    ink = np.asarray(Image.fromarray(picture).convert("CMYK")).astype(np.uint16) * 257
    assert read(tiff(page(ink, t262=(5,)))) is None
    assert read(tiff(page(np.dstack([picture, picture[:, :, :2]]), t338=(0, 0)))) is None


def test_opencv_takes_the_first_page_even_if_it_is_a_preview(picture: Array) -> None:
    data = tiff(page(picture[::8, ::8], t254=(1,)), page(picture))
    assert read(data).shape == (8, 12, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_opencv_turns_tiffs_though_it_is_told_not_to(picture: Array, orientation: int) -> None:
    data = tiff(page(odd.oriented(picture, orientation), t274=(orientation,)))
    for flags in (COLOUR, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION):
        pixels = read(data, flags)
        np.testing.assert_array_equal(pixels if flags == COLOUR else pixels[:, :, ::-1], picture)


def test_opencv_reads_lossless_jpegs_only_in_their_own_colours(picture: Array) -> None:
    grey = np.ascontiguousarray(picture[:, :, 1])
    data = odd.lossless_grey_jpeg(grey)
    assert read(data) is None
    np.testing.assert_array_equal(read(data, cv2.IMREAD_GRAYSCALE), grey)


def test_opencv_gives_nothing_for_12_bits_and_jpeg_ls() -> None:
    for data in (odd.JPEG_OF_12_BITS, odd.JPEG_LS):
        assert read(data, cv2.IMREAD_UNCHANGED) is None


def test_both_take_every_cmyk_jpeg_for_adobes_negative(picture: Array) -> None:
    ink = np.asarray(Image.fromarray(picture).convert("CMYK"))
    data = odd.bare_cmyk_jpeg(ink)
    assert np.abs(read(data).astype(int) - picture).mean() > 40
    assert np.abs(np.asarray(JpegImageFile(io.BytesIO(data))).astype(int) - (255 - ink)).mean() < 8


def test_opencv_shows_the_animation_instead_of_the_picture(picture: Array) -> None:
    frame = Image.new("RGB", (96, 64), "red")
    data = odd.encoded(picture, "PNG", save_all=True, default_image=True, append_images=[frame, frame.rotate(90)])
    np.testing.assert_array_equal(read(data), np.asarray(frame))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), picture)


def test_opencv_takes_no_notice_of_masks_behind_a_short_header(picture: Array) -> None:
    data = odd.bmp(picture, (0xFF, 0xFF00, 0xFF0000))
    np.testing.assert_array_equal(read(data), picture[:, :, ::-1])
    long = odd.bmp(picture, (0xFF, 0xFF00, 0xFF0000), header=108)
    np.testing.assert_array_equal(read(long), picture)


def test_opencv_reduces_other_formats_with_aliases(picture: Array) -> None:
    """Means of 2 x 2 pixels at any reduction, and sizes rounded down: why only JPEGs are reduced."""
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (67, 101, 3), np.uint8)
    quarter = read(odd.encoded(noise, "PNG"), cv2.IMREAD_REDUCED_COLOR_4)[:, :, ::-1].astype(float)
    assert quarter.shape == (16, 25, 3)
    mean = noise[:64, :100].reshape(16, 4, 25, 4, 3).mean((1, 3))
    assert np.abs(quarter - mean).mean() > 15


def test_reduced_chroma_is_off_where_it_is_halved_one_way(picture: Array) -> None:
    """libjpeg-turbo's reduced decode of 4:2:2 and 4:4:0, beside 4:2:0: what it does to an embedding is in `test_kinds`."""
    large = cv2.resize(picture, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)[:, :, ::-1]

    def worst(sampling: int) -> int:
        options = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        data = cv2.imencode(".jpg", large, options)[1].tobytes()
        whole = read(data)
        reduced = read(data, COLOUR | cv2.IMREAD_REDUCED_GRAYSCALE_8)
        mean = cv2.resize(whole, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
        return int(np.abs(reduced.astype(int) - mean).max())

    even = worst(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    assert worst(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422) > 2 * even
    assert worst(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440) > 2 * even


def test_pillow_refuses_floats_and_does_not_invert_deep_grey(picture: Array) -> None:
    with pytest.raises(SyntaxError, match="unknown pixel mode"):
        TiffImageFile(io.BytesIO(tiff(page((picture / 255).astype(np.float32)))))
    white_is_0 = TiffImageFile(io.BytesIO(tiff(page(picture[:, :, 0].astype(np.uint16) * 257, t262=(0,)))))
    np.testing.assert_array_equal(np.asarray(white_is_0), picture[:, :, 0].astype(np.uint16) * 257)  # not inverted


def test_a_tiff_is_patched_to_another_page(picture: Array) -> None:
    for big in (False, True):
        data = tiff(page(picture[::8, ::8], t254=(1,)), page(picture), big=big)
        header = probe(data)
        assert header.directory > 0
        np.testing.assert_array_equal(read(rewritten(data, header.directory)), picture)
        assert struct.unpack_from("<Q" if big else "<I", data, 8 if big else 4)[0] != header.directory


def _exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[274] = orientation
    return data


ORIENTED: dict[str, Any] = {
    "JPEG": lambda p, o: odd.encoded(p, "JPEG", quality=95, exif=_exif(o)),
    "PNG": lambda p, o: odd.encoded(p, "PNG", exif=_exif(o)),
    "WebP": lambda p, o: odd.encoded(p, "WEBP", lossless=True, exif=_exif(o)),
    "TIFF": lambda p, o: tiff(page(p, t274=(o,))),
    "AVIF": lambda p, o: odd.encoded(p, "AVIF", quality=95, exif=_exif(o)),
}
TURNS: dict[str, dict[str, bool]] = {
    # whether the decoder hands on upright pixels: OpenCV by itself, OpenCV told to ignore it, Pillow, DALI and nvImageCodec on the CPU
    "JPEG": {"OpenCV": True, "OpenCV, ignoring": False, "Pillow": False, "DALI": True, "nvImageCodec": True},
    "PNG": {"OpenCV": True, "OpenCV, ignoring": False, "Pillow": False, "DALI": True, "nvImageCodec": True},
    "WebP": {"OpenCV": True, "OpenCV, ignoring": False, "Pillow": False},
    "TIFF": {"OpenCV": True, "OpenCV, ignoring": True, "Pillow": True, "DALI": True, "nvImageCodec": True},
    "AVIF": {"OpenCV": False, "OpenCV, ignoring": False, "Pillow": False},
}


def decoders_of(backends: dict[str, Any]) -> dict[str, Any]:
    """A file's bytes to pixels, by name of the decoder."""

    def by(backend: Any) -> Any:
        def decode(data: bytes) -> Array:
            with backend.lane("decode"):
                return np.array(backend.decode([data])[0])

        return decode

    def by_pillow(data: bytes) -> Array:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    return {
        "OpenCV": lambda data: read(data, cv2.IMREAD_COLOR_RGB),
        "OpenCV, ignoring": read,
        "Pillow": by_pillow,
        **{title: by(backend) for title, backend in backends.items()},
    }


@pytest.mark.parametrize("kind", ORIENTED)
def test_who_turns_what(picture: Array, kind: str) -> None:
    """Where a square in the upper left of the upright picture lands, for orientations 2 to 8."""
    from faceembed.engine.pipeline.gpu.cpu import CpuBackend

    pytest.importorskip("nvidia.dali")
    upright = np.full((64, 96, 3), 30, np.uint8)
    upright[:16, :32] = 220
    names = {"DALI": "dali", "nvImageCodec": "nvimagecodec"}
    decoders = decoders_of({title: CpuBackend(threads=1, decoder=name) for title, name in names.items()})
    for name, turns in TURNS[kind].items():
        for orientation in range(2, 9):
            stored = odd.oriented(upright, orientation)
            pixels = decoders[name](ORIENTED[kind](stored, orientation))
            expected = upright if turns else stored
            assert pixels.shape == expected.shape, (name, orientation)
            assert np.abs(pixels.astype(int) - expected).mean() < 6, (name, orientation)


def _by_dali(data: bytes, decoder: str = "dali") -> Any:
    from faceembed.engine.pipeline.gpu.cpu import CpuBackend

    pytest.importorskip("nvidia.dali")
    backend = CpuBackend(threads=1, decoder=decoder)
    with backend.lane("decode"):
        (pixels,) = backend.decode([data])
        return None if pixels is None else np.array(pixels)


def test_dali_shows_something_else_of_planes_of_16_bits(picture: Array) -> None:
    """Without an error that a caller could see, as grey of one plane after the other; nvImageCodec by itself reads them right."""
    data = tiff(page(picture.astype(np.uint16) * 257, planar=True))
    seen = _by_dali(data)
    assert seen.shape == picture.shape and np.abs(seen.astype(int) - picture).mean() > 30
    np.testing.assert_array_equal(_by_dali(data, "nvimagecodec"), picture)


def test_dali_takes_the_numbers_of_bare_cmyk_for_ink() -> None:
    """255 - ink without Adobe's marker: OpenCV takes it for Adobe's negative, and DALI does not."""
    flat = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    ink = Image.fromarray(np.dstack([255 - flat, np.zeros((32, 32), np.uint8)]), "CMYK")
    data = odd.encoded(ink, "JPEG", quality=95)
    at = data.index(b"\xff\xee")
    bare = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert np.abs(read(bare)[16, 16].astype(int) - flat[0, 0]).max() <= 2
    for decoder in ("dali", "nvimagecodec"):
        assert _by_dali(bare, decoder)[16, 16].max() <= 2


@pytest.mark.parametrize("height", range(9, 15))
def test_dali_reads_no_lossless_webp_with_exif_behind_an_odd_chunk(height: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, 13, 3), np.uint8)
    data = odd.encoded(pixels, "WEBP", lossless=True, exif=_exif(1))
    at = data.index(b"VP8L")
    is_odd = int.from_bytes(data[at + 4 : at + 8], "little") % 2
    np.testing.assert_array_equal(read(data), pixels)
    seen = _by_dali(data)
    assert seen is None if is_odd else np.array_equal(seen, pixels)


def test_dlibs_chips_lie_up_to_a_pixel_off_the_warp_between_pixel_centres() -> None:
    """By the same five landmarks, in pixels of a chip of 150 and in the mean over it; ours is the warp.

    A ramp says by its levels from which column each pixel was taken. How far off is not the same at all scales, and our template was
    measured in such chips.
    """
    dlib = pytest.importorskip("dlib")
    mean = np.array([(0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)])
    wanted = (0.25 + mean) / 1.5 * 150
    off = []
    for scale in (1.0, 1.6, 3.0, 5.0):
        whole = np.round(wanted * scale + 30)  # its landmarks are whole pixels
        a, b = wanted - wanted.mean(0), whole - whole.mean(0)
        turn = complex((a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / (a**2).sum()
        begin = complex(*whole.mean(0)) - turn * complex(*wanted.mean(0))
        side = int(150 * scale + 80)
        levels = np.linspace(0, 250, side)
        ramp = np.repeat(np.repeat(np.round(levels).astype(np.uint8)[None], side, 0)[:, :, None], 3, 2)
        shape = dlib.full_object_detection(
            dlib.rectangle(0, 0, side - 1, side - 1), [dlib.point(*map(int, point)) for point in whole]
        )
        chip = dlib.get_face_chip(ramp, shape, size=150, padding=0.25)[:, :, 0].astype(float)
        rows, columns = np.mgrid[10:140, 10:140]
        expected = (turn * (columns + 1j * rows) + begin).real
        taken = chip[10:140, 10:140] / levels[1]
        off.append(float((taken - expected).mean()) / scale)
    assert 0.15 < max(map(abs, off)) < 1, off
    assert np.ptp(off) > 0.3, off
