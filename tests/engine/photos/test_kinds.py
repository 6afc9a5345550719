"""The astronaut in every odd kind of file: her embedding, or a reason that is true. The table is that of `docs/formats.md`."""

from __future__ import annotations

import lzma
import tracemalloc
from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.probe import probe
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder, Face
from faceembed.errors import PhotoError
from tests.engine.photos import odd
from tests.engine.photos.damage import damaged_copies, photo_or_reason
from tests.engine.photos.odd import Array, page, tiff

Make = Callable[[Array], bytes]
SIDE = 256


@pytest.fixture(scope="module")
def embedder(pipeline: Pipeline) -> Embedder:
    return Embedder.of(pipeline)


def seen(embedder: Embedder, data: bytes) -> Face:
    photo = embedder.embed([embedder.take(data)])[0]
    assert photo.chosen is not None, photo.reason
    return photo.faces[photo.chosen]


def alike(a: Face, b: Face) -> float:
    return float(a.embedding @ b.embedding)


@pytest.fixture(scope="module")
def portrait(astronaut: Array) -> Array:
    """Her head and shoulders, 256 x 256."""
    return np.ascontiguousarray(astronaut[:SIDE, 96 : 96 + SIDE])


def deep(pixels: Array) -> Array:
    return pixels.astype(np.uint16) * 257


def veiled(pixels: Array, alpha: int) -> Array:
    return np.dstack([pixels, np.full(pixels.shape[:2], alpha, pixels.dtype)])


def multiplied(pixels: Array, alpha: int, white: int) -> Array:
    colours = np.rint(pixels.astype(np.float64) * alpha / white).astype(pixels.dtype)
    return veiled(colours, alpha)


def ink(pixels: Array) -> Array:
    return np.asarray(Image.fromarray(pixels).convert("CMYK"))


def zstandard(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def repacked(samples: Array, pack: Callable[[bytes], bytes], compression: int) -> dict[int, object]:
    extra = {"t338": (2,)} if samples.ndim == 3 and samples.shape[2] == 4 else {}
    return page(samples, data=pack(samples.tobytes()), t259=(compression,), **extra)


def apng(pixels: Array) -> bytes:
    red = Image.new("RGB", (SIDE, SIDE), "red")
    return odd.encoded(pixels, "PNG", save_all=True, default_image=True, append_images=[red, red.rotate(90)])


READ: dict[str, Make] = {
    "TIFF, alpha 40": lambda p: tiff(page(veiled(p, 40), t338=(2,))),
    "TIFF, alpha 0": lambda p: tiff(page(veiled(p, 0), t338=(2,))),
    "TIFF, alpha of which nothing is said": lambda p: tiff(page(veiled(p, 40))),
    "TIFF, fourth colour unspecified": lambda p: tiff(page(veiled(p, 40), t338=(0,))),
    "TIFF, colours multiplied by an alpha of 128": lambda p: tiff(page(multiplied(p, 128, 255), t338=(1,))),
    "TIFF, 16 bits, alpha 0": lambda p: tiff(page(veiled(deep(p), 0), t338=(2,))),
    "TIFF, 16 bits, colours multiplied by an alpha": lambda p: tiff(page(multiplied(deep(p), 9000, 65535), t338=(1,))),
    "TIFF, alpha in its own plane": lambda p: tiff(page(veiled(p, 40), planar=True, t338=(2,))),
    "TIFF, two extra samples": lambda p: tiff(page(np.dstack([p, p[:, :, :2]]), t338=(0, 0))),
    "TIFF, Zstandard": lambda p: odd.encoded(p, "TIFF", compression="zstd"),
    "TIFF, LZMA": lambda p: odd.encoded(p, "TIFF", compression="lzma"),
    "TIFF, Zstandard, 16 bits": lambda p: tiff(repacked(deep(p), zstandard, 50000)),
    "TIFF, Zstandard, alpha 0": lambda p: tiff(repacked(veiled(p, 0), zstandard, 50000), big=True),
    "TIFF, LZMA, float32": lambda p: tiff(repacked((p / 255).astype(np.float32), lzma.compress, 34925)),
    "TIFF, colours in planes multiplied by an alpha": lambda p: tiff(
        page(multiplied(p, 128, 255), planar=True, t338=(1,))
    ),
    "TIFF, 10 bits": lambda p: tiff(page(p.astype(np.uint16) * 4, bits=10)),
    "TIFF, 12 bits": lambda p: tiff(page(p.astype(np.uint16) * 16 + 8, bits=12)),
    "TIFF, 14 bits": lambda p: tiff(page(p.astype(np.uint16) * 64, bits=14)),
    "TIFF, 12 bits in 16": lambda p: tiff(page(p.astype(np.uint16) * 16 + 8)),
    "TIFF, 16 bits": lambda p: tiff(page(deep(p))),
    "TIFF, 16 bits, planes": lambda p: tiff(page(deep(p), planar=True)),
    "TIFF, 16 bits, big-endian": lambda p: tiff(page(deep(p).astype(">u2")), order=">"),
    "TIFF, planes": lambda p: tiff(page(p, planar=True)),
    "TIFF, CMYK": lambda p: tiff(page(ink(p), t262=(5,))),
    "TIFF, CMYK of 16 bits": lambda p: tiff(page(deep(ink(p)), t262=(5,))),
    "TIFF, float32": lambda p: tiff(page((p / 255).astype(np.float32))),
    "TIFF, float64": lambda p: tiff(page(p / 255)),
    "TIFF, float32 and alpha": lambda p: tiff(page(veiled((p / 255).astype(np.float32), 0), t338=(2,))),
    "BigTIFF": lambda p: tiff(page(p), big=True),
    "BigTIFF, big-endian": lambda p: tiff(page(p), big=True, order=">"),
    "BigTIFF, 16 bits": lambda p: tiff(page(deep(p)), big=True),
    "BigTIFF, alpha 0": lambda p: tiff(page(veiled(p, 0), t338=(2,)), big=True),
    "TIFF, preview first": lambda p: tiff(page(p[::8, ::8], t254=(1,)), page(p)),
    "BigTIFF, preview first": lambda p: tiff(page(p[::8, ::8], t254=(1,)), page(p), big=True),
    "TIFF, preview and mask first": lambda p: tiff(page(p[::8, ::8], t254=(1,)), page(p[:, :, 0], t254=(4,)), page(p)),
    "TIFF, preview whose picture is below it": lambda p: tiff(page(p[::8, ::8], t254=(1,), t330=[page(p)])),
    "TIFF, nothing but a preview": lambda p: tiff(page(p, t254=(1,))),
    "JPEG, CMYK without Adobe's marker": lambda p: odd.bare_cmyk_jpeg(ink(p)),
    "JPEG, CMYK with Adobe's marker": lambda p: odd.encoded(Image.fromarray(ink(p), "CMYK"), "JPEG", quality=95),
    "PNG, animated, with a picture of its own": apng,
    "BMP, masks, red lowest": lambda p: odd.bmp(p, (0xFF, 0xFF00, 0xFF0000)),
    "BMP, masks, red highest": lambda p: odd.bmp(p, (0xFF0000, 0xFF00, 0xFF)),
    "BMP, masks, 10 bits a colour": lambda p: odd.bmp(p, (0x3FF << 20, 0x3FF << 10, 0x3FF)),
    "BMP, masks, 5, 6 and 5 bits": lambda p: odd.bmp(p, (0xF800, 0x7E0, 0x1F), bits=16),
    "BMP, masks, rows from the top": lambda p: odd.bmp(p, (0xFF, 0xFF00, 0xFF0000), from_the_top=True),
    "BMP, masks in a header of 108 bytes": lambda p: odd.bmp(p, (0xFF, 0xFF00, 0xFF0000), header=108),
    "BMP, masks in a header of 124 bytes": lambda p: odd.bmp(p, (0x3FF, 0x3FF << 10, 0x3FF << 20), header=124),
}


@pytest.mark.parametrize("kind", READ)
def test_embedding_is_hers(embedder: Embedder, portrait: Array, kind: str) -> None:
    expected = seen(embedder, odd.encoded(portrait, "PNG"))
    assert alike(expected, seen(embedder, READ[kind](portrait))) >= 0.999


def test_grey_lossless_jpeg(embedder: Embedder, portrait: Array) -> None:
    grey = portrait.mean(axis=2).astype(np.uint8)
    np.testing.assert_array_equal(decode(odd.lossless_grey_jpeg(grey)).pixels, np.repeat(grey[:, :, None], 3, 2))
    expected = seen(embedder, odd.encoded(grey, "PNG"))
    assert alike(expected, seen(embedder, odd.lossless_grey_jpeg(grey))) >= 0.999


def unread(compression: int) -> Make:
    return lambda p: tiff(page(p, data=b"not looked at", t259=(compression,)))


REFUSED: dict[str, tuple[Make, str]] = {
    "TIFF, JPEG 2000": (unread(34712), "a TIFF compressed as JPEG 2000, a kind that is not read; save it as PNG"),
    "TIFF, JPEG XL": (unread(50002), "a TIFF compressed as JPEG XL"),
    "TIFF, JPEG XR": (unread(22610), "a TIFF compressed as JPEG XR"),
    "TIFF, PNG": (unread(34933), "a TIFF compressed as PNG"),
    "TIFF, WebP": (unread(50001), "a TIFF compressed as WebP"),
    "TIFF, some number": (unread(4711), "a TIFF compressed as number 4711"),
    "TIFF, signed": (lambda p: tiff(page(p.astype(np.int16))), "a TIFF with signed or complex numbers"),
    "TIFF, 32 bits": (lambda p: tiff(page(p.astype(np.uint32))), "a TIFF with 32 bits a colour"),
    "TIFF, float16": (lambda p: tiff(page(p.astype(np.float16))), "a TIFF of 16-bit floating point numbers"),
    "TIFF, float32 in planes": (
        lambda p: tiff(page(p.astype(np.float32), planar=True)),
        "a TIFF of 32-bit floating point numbers, in planes",
    ),
    "TIFF, float32 to 255": (
        lambda p: tiff(page(p.astype(np.float32))),
        "a TIFF of floating point numbers of which 9. % lie outside of 0 to 1",
    ),
    "TIFF, raw": (lambda p: tiff(page(p[:, :, 0], t262=(32803,))), "a TIFF with a camera's raw data"),
    "TIFF, bits that differ": (lambda p: tiff(page(p, t258=(5, 6, 5))), "a TIFF whose colours differ"),
    "JPEG-LS": (lambda p: odd.JPEG_LS, "a JPEG-LS picture, a kind that is not read"),
    "JPEG of 12 bits": (lambda p: odd.JPEG_OF_12_BITS, "a JPEG with 12 bits a colour, a kind that is not read"),
}


def test_damaged_png_says_which_chunk_and_prints_nothing(portrait: Array, capfd: pytest.CaptureFixture[str]) -> None:
    data = odd.encoded(portrait, "PNG", icc_profile=bytes(200))  # no profile at all: libpng would warn
    np.testing.assert_array_equal(decode(data).pixels, portrait)
    at = data.index(b"iCCP")
    np.testing.assert_array_equal(decode(data[: at + 9] + b"\x7f" + data[at + 10 :]).pixels, portrait)
    rng = np.random.default_rng(9)
    at = data.index(b"IDAT")
    for place in rng.integers(at + 4, len(data) - 20, 30).tolist():
        with pytest.raises(PhotoError, match=r"damaged PNG: the checksum of a chunk 'IDAT' is wrong|truncated PNG"):
            decode(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
    with pytest.raises(PhotoError, match="damaged PNG: the checksum"):
        decode(data[: len(data) // 2] + bytes(len(data)))
    with pytest.raises(PhotoError, match="damaged or truncated PNG"):
        decode(data[:-12] + bytes(50_000_000))  # millions of chunks of nothing, were they looked at
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", REFUSED)
def test_reason_is_true(portrait: Array, kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(PhotoError, match=reason) as caught:
        decode(make(portrait))
    assert caught.value.stage == "decode"
    assert "damaged" not in caught.value.reason


def test_a_bomb_packed_as_zstandard_unpacks_to_no_more_than_its_page(portrait: Array) -> None:
    bomb = zstandard(bytes(1 << 26))
    tracemalloc.start()
    decode(tiff(page(portrait, data=bomb, t259=(50000,))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22
    pieces = page(portrait, t259=(50000,)) | {273: [bomb] * 9}
    with pytest.raises(PhotoError, match="damaged TIFF: 9 pieces where 1 are the whole page"):
        decode(tiff(pieces))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["plain", "alpha", "16 bits", "float32", "zstd"])
def test_orientation_of_a_tiff_is_applied_once(portrait: Array, kind: str, orientation: int) -> None:
    picture = portrait[:151, :200]
    stored = odd.oriented(picture, orientation)
    samples = {
        "plain": stored,
        "zstd": stored,
        "alpha": veiled(stored, 40),
        "16 bits": deep(stored),
        "float32": (stored / 255).astype(np.float32),
    }[kind]
    data = tiff(page(samples, t274=(orientation,), **({"t338": (2,)} if kind == "alpha" else {})))
    if kind == "zstd":
        data = odd.encoded(stored, "TIFF", compression="zstd", tiffinfo={274: orientation})
    photo = decode(data)
    np.testing.assert_array_equal(photo.pixels, picture)
    assert (photo.width, photo.height) == (probe(data).width, probe(data).height) == (200, 151)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.tuples(*[st.integers(80, 420)] * 2), st.integers(1, 8), st.sampled_from([1, 2, 4, 8]))
@example((402, 401), 6, 8)
@example((201, 202), 3, 8)
def test_coordinates_of_a_reduced_jpeg(size: tuple[int, int], orientation: int, reduction: int) -> None:
    """A white square lies where it lay, whatever the orientation and however little the sides are multiples of the reduction."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2 // 16 * 16, width // 2 // 16 * 16
    picture[top : top + 24, left : left + 32] = 255
    exif = Image.Exif()
    exif[274] = orientation
    data = odd.encoded(odd.oriented(picture, orientation), "JPEG", quality=95, exif=exif)
    photo = decode(data, reduction=reduction)
    assert (photo.width, photo.height, photo.reduction) == (width, height, reduction)
    found = np.array(centre(photo.pixels)) * reduction - photo.offset
    # Not quite: light that a block of the DCT swings by where the square only touches it.
    np.testing.assert_allclose(found, centre(picture), atol=0.06 + 0.06 * reduction)
    np.testing.assert_allclose(photo.decoded(found), centre(photo.pixels), atol=1e-6)


def centre(pixels: Array) -> list[float]:
    """Where the light lies, x and y in continuous pixels."""
    light = pixels[:, :, 1].astype(np.float64)
    rows, columns = np.indices(light.shape) + 0.5
    return [float((axis * light).sum() / light.sum()) for axis in (columns, rows)]


def test_landmarks_do_not_depend_on_orientation(embedder: Embedder, astronaut: Array) -> None:
    """900 px of her on a canvas of 6,401: decoded at 1/8, found there, and looked at again where her chip is cut."""
    large = cv2.resize(astronaut, (900, 900), interpolation=cv2.INTER_LANCZOS4)
    expected = seen(embedder, odd.encoded(astronaut, "PNG"))
    canvas = np.full((6401, 6401, 3), 128, np.uint8)
    canvas[2000:2900, 3000:3900] = large
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[274] = orientation
        face = seen(embedder, odd.encoded(odd.oriented(canvas, orientation), "JPEG", quality=95, exif=exif))
        place = expected.landmarks * (900 / 512) + np.array([3000, 2000])
        assert np.abs((face.landmarks - place).mean(axis=0)).max() < 0.5, orientation
        assert np.abs(face.landmarks - place).max() < 2.5, orientation
        assert alike(face, expected) >= 0.999, orientation


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_reduced_colours_are_near_enough(embedder: Embedder, portrait: Array, sampling: str) -> None:
    """libjpeg's reduced decode is 4 to 12 levels off in places where chroma is halved in one direction alone."""
    flag = int(getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}"))
    large = cv2.resize(portrait, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)[:, :, ::-1]
    options = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, flag]
    data = cv2.imencode(".jpg", large, options)[1].tobytes()
    mean = cv2.resize(decode(data).pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    reduced = decode(data, reduction=8).pixels
    assert alike(*(seen(embedder, odd.encoded(pixels, "PNG")) for pixels in (mean, reduced))) >= 0.999


@pytest.mark.parametrize("kind", [kind for kind in READ if "with Adobe" not in kind])  # an ordinary JPEG: `test_decode`
def test_damage_gives_a_photo_or_a_reason(astronaut: Array, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    side = slice(60, 60 + 64)
    small = np.ascontiguousarray(astronaut[side, 190 : 190 + 64])
    data = READ[kind](small) if "animated" not in kind else apng(np.ascontiguousarray(astronaut[:SIDE, :SIDE]))
    for damaged in damaged_copies(data, seed=7, count=40, head=400, cut=4):
        photo_or_reason(damaged)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
