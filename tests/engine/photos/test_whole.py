"""Pictures of which a part is missing: a reason that says so, and never black or grey for a photo. What is whole stays a photo."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.headers.tiff import File
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.rewrite import put
from faceembed.engine.photos.tiff_pieces import lzw_length, pieces
from faceembed.engine.pipeline.gpu.decoder import readable
from faceembed.errors import PhotoError
from tests.engine.photos import odd
from tests.engine.photos.odd import Array, page, tiff

SIDE = 200
ZEROS = "zeros stand where its data should be"
SHORT = r"damaged or truncated TIFF: a piece of it unpacks to [\d,]+ of [\d,]+ bytes"


@pytest.fixture(scope="module")
def portrait(astronaut: Array) -> Array:
    return np.ascontiguousarray(astronaut[20 : 20 + SIDE, 120 : 120 + SIDE])


def deflated(samples: Array, **tags: Any) -> bytes:
    return tiff(page(samples, data=zlib.compress(samples.tobytes()), t259=(8,), **tags))


def bilevel(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels).convert("1")


def heic(pixels: Array) -> bytes:
    pillow_heif: Any = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=90)
    return out.getvalue()


TIFFS: dict[str, Callable[[Array], bytes]] = {
    "LZW": lambda p: odd.encoded(p, "TIFF", compression="tiff_lzw"),
    "deflate": lambda p: odd.encoded(p, "TIFF", compression="tiff_adobe_deflate"),
    "old deflate": lambda p: odd.encoded(p, "TIFF", compression="tiff_deflate"),
    "PackBits": lambda p: odd.encoded(p, "TIFF", compression="packbits"),
    "JPEG": lambda p: odd.encoded(p, "TIFF", compression="jpeg"),
    "Zstandard": lambda p: odd.encoded(p, "TIFF", compression="zstd"),
    "LZMA": lambda p: odd.encoded(p, "TIFF", compression="lzma"),
    "deflate, one strip": deflated,
    "deflate, 16 bits": lambda p: deflated(p.astype(np.uint16) * 257),
    "deflate, alpha": lambda p: deflated(np.dstack([p, p[:, :, :1]]), t338=(2,)),
    "deflate, two extra samples": lambda p: deflated(np.dstack([p, p[:, :, :2]]), t338=(0, 0)),
    "deflate, float32": lambda p: deflated((p / 255).astype(np.float32)),
}


def with_pieces(data: bytes, change: Callable[[bytes], bytes], *, counts: bool = False) -> bytes:
    """A TIFF of whose pieces something became: other bytes in their place, or other lengths in the directory."""
    file, out = File.of(data), bytearray(data)
    places, _ = file.places(file.number(file.start))
    offsets, lengths = file.values(places[273], most=999), file.values(places[279], most=999)
    changed = [change(data[at : at + length]) for at, length in zip(offsets, lengths, strict=True)]
    if counts:
        put(file, out, places[279], "I", [len(piece) for piece in changed])
    for at, piece in zip(offsets, changed, strict=True):
        out[at : at + len(piece)] = piece
    return bytes(out)


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_tiff_whose_pieces_are_cut_short_is_damaged(portrait: Array, kind: str, share: float) -> None:
    """OpenCV shows the rest in black, or grey (`test_libraries`)."""
    whole = TIFFS[kind](portrait)
    assert decode(whole).pixels.shape == (SIDE, SIDE, 3)
    with pytest.raises(PhotoError, match=r"^damaged") as caught:
        decode(with_pieces(whole, lambda piece: piece[: int(share * len(piece))], counts=True))
    assert "no face" not in caught.value.reason


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_tiff_with_zeros_for_its_data_is_damaged(portrait: Array, kind: str, share: float) -> None:
    def zeroed(piece: bytes) -> bytes:
        return piece[: int(share * len(piece))].ljust(len(piece), b"\0")

    with pytest.raises(PhotoError, match=r"^damaged"):
        decode(with_pieces(TIFFS[kind](portrait), zeroed))


def test_reasons_of_tiffs_are_true(portrait: Array) -> None:
    def cut(kind: str) -> bytes:
        return with_pieces(TIFFS[kind](portrait), lambda piece: piece[: len(piece) // 2], counts=True)

    for kind in ("LZW", "deflate", "PackBits", "LZMA"):
        with pytest.raises(PhotoError, match=SHORT):
            decode(cut(kind))
    with pytest.raises(PhotoError, match="damaged or truncated TIFF: the data ends before the picture does"):
        decode(cut("JPEG"))
    with pytest.raises(
        PhotoError, match="LZMA: Input format not supported"
    ):  # was a picture of no bytes in an older format
        decode(tiff(page(portrait, data=bytes(3000), t259=(34925,))))
    with pytest.raises(PhotoError, match=ZEROS):
        decode(tiff(page(portrait, data=bytes(3000), t259=(5,))))
    for name in ("group3", "group4", "tiff_ccitt"):
        scan = odd.encoded(bilevel(portrait), "TIFF", compression=name)
        assert decode(scan).pixels.shape == (SIDE, SIDE, 3)
        with pytest.raises(PhotoError, match=ZEROS):
            decode(with_pieces(scan, lambda piece: bytes(len(piece))))


def test_a_tiff_without_some_of_its_pieces_is_damaged(portrait: Array) -> None:
    for compression, packed in ((8, zlib.compress(portrait.tobytes())), (34925, b"")):
        tags = page(portrait, data=packed, t259=(compression,), t278=(SIDE // 4,))
        with pytest.raises(PhotoError, match="damaged TIFF: 1 pieces where 4 are the whole page"):
            decode(tiff(tags))


PACKED: dict[str, Callable[[Array], bytes]] = {
    "JPEG": lambda p: odd.encoded(p, "JPEG", quality=97),
    "JPEG, optimised": lambda p: odd.encoded(p, "JPEG", quality=97, optimize=True),
    "JPEG, progressive": lambda p: odd.encoded(p, "JPEG", quality=97, progressive=True),
    "JPEG, restart markers": lambda p: odd.encoded(p, "JPEG", quality=97, restart_marker_rows=2),
    "JPEG, grey": lambda p: odd.encoded(p[:, :, 1], "JPEG", quality=97),
    "JPEG, CMYK": lambda p: odd.encoded(Image.fromarray(p).convert("CMYK"), "JPEG", quality=97),
    "JPEG, lossless, grey": lambda p: odd.lossless_grey_jpeg(p[:, :, 1]),
    "PNG": lambda p: odd.encoded(p, "PNG"),
    "WebP": lambda p: odd.encoded(p, "WEBP", quality=95),
    "WebP, lossless": lambda p: odd.encoded(p, "WEBP", lossless=True),
    "WebP, animated": lambda p: odd.encoded(
        p, "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(p[::-1])]
    ),
    "GIF": lambda p: odd.encoded(Image.fromarray(p).quantize(200), "GIF"),
    "JPEG 2000": lambda p: odd.encoded(p, "JPEG2000"),
    "AVIF": lambda p: odd.encoded(p, "AVIF", quality=95),
    "HEIC": heic,
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_zeros_up_to_the_end_are_damage(portrait: Array, kind: str, share: float) -> None:
    """A file of the full size whose end was never written."""
    data = PACKED[kind](portrait)
    assert decode(data).pixels.shape == (SIDE, SIDE, 3)
    with pytest.raises(PhotoError, match=r"^damaged") as caught:
        decode(data[: int(share * len(data))].ljust(len(data), b"\0"))
    assert caught.value.stage == "decode"


@pytest.mark.parametrize(
    "kind", ["JPEG", "JPEG, optimised", "JPEG, restart markers", "JPEG, grey", "JPEG, CMYK", "WebP"]
)
def test_zeros_in_the_middle_are_damage(portrait: Array, kind: str) -> None:
    data = PACKED[kind](portrait)
    at = len(data) // 2
    holed = data[:at] + bytes(1200) + data[at + 1200 :]
    with pytest.raises(PhotoError, match=f"damaged {kind.partition(',')[0]}: {ZEROS}"):
        decode(holed)
    assert readable(data, probe(data)) == ("CMYK" not in kind)
    assert not readable(holed, probe(holed))  # by a card: the same refusal


def test_zeros_elsewhere_are_no_damage(portrait: Array) -> None:
    """In a comment, in EXIF data, behind the picture; and in a JPEG of black alone whose codes are zeros."""
    data = odd.encoded(portrait, "JPEG", quality=95)
    comment = b"\xff\xfe" + (2002).to_bytes(2, "big") + bytes(2000)
    for sound in (
        data + bytes(5000),
        data[:2] + comment + data[2:],
        data + b"\0\0\0\x14ftypmp42" + bytes(900) + b"end",
    ):
        np.testing.assert_array_equal(decode(sound).pixels, decode(data).pixels)
    webp = odd.encoded(portrait, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0" + bytes(3000))
    np.testing.assert_array_equal(decode(webp).pixels, portrait)
    black = np.zeros((2000, 3000), np.uint8)
    packed = odd.encoded(black, "JPEG", optimize=True)
    assert bytes(256) in packed  # the premise
    assert not decode(packed).pixels.any()


FLAT = ("LZW", "deflate", "PackBits", "Zstandard", "LZMA", "deflate, one strip")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    kind=st.sampled_from([*FLAT, "JPEG"]),
    paint=st.sampled_from(["black", "white", "noise", "ramp", "stripes"]),
    orientation=st.integers(1, 8),
)
def test_what_is_whole_is_never_refused(size: tuple[int, int], kind: str, paint: str, orientation: int) -> None:
    """Nor is it another picture."""
    height, width = size
    rows, columns = np.indices(size)
    pixels = {
        "black": np.zeros(size),
        "white": np.full(size, 255),
        "noise": np.random.default_rng(height).integers(0, 256, size),
        "ramp": columns * 255 // max(1, width - 1),
        "stripes": rows % 7 // 3 * 255,
    }[paint].astype(np.uint8)
    pixels = np.dstack([pixels, pixels[:, ::-1], pixels[::-1]])
    options = {"tiffinfo": {274: orientation}}
    names = {"LZW": "tiff_lzw", "deflate": "tiff_adobe_deflate", "PackBits": "packbits", "Zstandard": "zstd"}
    stored = odd.oriented(pixels, orientation)
    if kind == "deflate, one strip":
        data = deflated(stored, t274=(orientation,))
    else:
        data = odd.encoded(stored, "TIFF", compression=names.get(kind, kind.lower()), **options)
    found = decode(data).pixels
    if kind == "JPEG":
        assert found.shape == pixels.shape
    else:
        np.testing.assert_array_equal(found, pixels)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(count=st.integers(1, 40_000), step=st.sampled_from([1, 3, 50, 256]), seed=st.integers(0, 99))
def test_lzw_codes_are_counted_right(count: int, step: int, seed: int) -> None:
    """Also without the code that ends them, which some writers leave out."""
    values = np.random.default_rng(seed).integers(0, step, count).astype(np.uint8)[None]
    data = odd.encoded(values, "TIFF", compression="tiff_lzw")
    file = File.of(data)
    places, _ = file.places(file.number(file.start))
    ((piece, wanted),) = pieces(file, places)
    assert lzw_length(piece) == wanted == count
    shorter = piece[: len(piece) // 2]
    assert lzw_length(shorter) <= count * 0.9 or count < 100
    bits = int.from_bytes(piece, "big")
    fill = next(fill for fill in range(8) if bits >> fill & 0x1FF == 257)
    endless = (bits >> fill + 9 << fill + 9).to_bytes(
        len(piece), "big"
    )  # and zeros, of the end code, which are a code for one zero
    assert count <= lzw_length(endless) <= count + 2
    again = with_pieces(data, lambda piece: endless)
    np.testing.assert_array_equal(decode(again).pixels[:, :, 0], values)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tags", [{"t255": (2,)}, {"t254": (0,), "t255": (2,)}, {"t254": (1,), "t255": (1,)}])
def test_a_preview_by_the_old_tag_is_not_the_photo(portrait: Array, tags: dict[str, Any], big: bool) -> None:
    """SubfileType 2; 1 is a picture of full size and 3 a page of several."""
    data = tiff(page(portrait[::8, ::8], **tags), page(portrait, t255=(1,)), big=big)
    np.testing.assert_array_equal(decode(data).pixels, portrait)
    below = tiff(page(portrait[::8, ::8], t330=[page(portrait)], **tags), big=big)
    np.testing.assert_array_equal(decode(below).pixels, portrait)
    for first in (1, 3):
        data = tiff(page(portrait, t255=(first,)), page(portrait[::-1], t255=(first,)), big=big)
        np.testing.assert_array_equal(decode(data).pixels, portrait)
    np.testing.assert_array_equal(
        decode(tiff(page(portrait, t255=(2,)), big=big)).pixels, portrait
    )  # there is no other
