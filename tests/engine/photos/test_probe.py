"""Sizes read from headers against Pillow, for every format and mode that Pillow writes."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceembed.engine.photos.header import Header
from faceembed.engine.photos.probe import probe
from faceembed.errors import PhotoError

CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("JPEG", "RGB", {}, "JPEG"),
    ("JPEG", "L", {"progressive": True}, "JPEG"),
    ("JPEG", "CMYK", {"dpi": (300, 300)}, "JPEG"),
    ("JPEG", "RGB", {"comment": b"\xff\xc0" * 900, "icc_profile": bytes(70_000)}, "JPEG"),
    ("PNG", "RGB", {}, "PNG"),
    ("PNG", "1", {}, "PNG"),
    ("WEBP", "RGB", {}, "WebP"),
    ("WEBP", "RGB", {"lossless": True}, "WebP"),
    ("WEBP", "RGBA", {}, "WebP"),
    ("WEBP", "RGB", {"exif": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"}, "WebP"),
    ("BMP", "RGB", {}, "BMP"),
    ("BMP", "P", {}, "BMP"),
    ("TIFF", "RGB", {}, "TIFF"),
    ("TIFF", "1", {"compression": "group4"}, "TIFF"),
    ("TIFF", "RGB", {"big_endian": True}, "TIFF"),
]


@pytest.mark.parametrize("size", [(1, 1), (37, 401), (640, 480), (3000, 7)])
@pytest.mark.parametrize(("kind", "mode", "options", "name"), CASES)
def test_size_is_pillows(kind: str, mode: str, options: dict[str, Any], name: str, size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(out, kind, **options)
    header = probe(out.getvalue())
    assert header == Header(name, *size)
    assert header.pixels == size[0] * size[1]


def test_rows_from_the_top_in_a_bmp() -> None:
    out = io.BytesIO()
    Image.new("RGB", (30, 20)).save(out, "BMP")
    data = bytearray(out.getvalue())
    struct.pack_into("<i", data, 22, -20)
    assert probe(bytes(data)) == Header("BMP", 30, 20)
    struct.pack_into("<I", data, 14, 12)  # the header of OS/2
    struct.pack_into("<HH", data, 18, 31, 21)
    assert probe(bytes(data)) == Header("BMP", 31, 21)


def test_fill_bytes_and_lone_markers_in_a_jpeg() -> None:
    out = io.BytesIO()
    Image.new("RGB", (30, 20)).save(out, "JPEG")
    data = out.getvalue()
    at = data.index(b"\xff\xc0")
    assert probe(data[:at] + b"\xff\xff\xff" + data[at:]) == Header("JPEG", 30, 20)
    assert probe(data[:at] + b"\xff\x01" + data[at:]) == Header("JPEG", 30, 20)
    for marker in (b"\xff\xda", b"\xff\xd9"):
        with pytest.raises(PhotoError, match="no frame before its data"):
            probe(data[:at] + marker + data[at:])
    with pytest.raises(PhotoError, match="damaged JPEG header"):
        probe(data[:at] + b"abc" + data[at:])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\0", b"MM\0*"]), st.binary(max_size=99)
)
def test_any_bytes_give_a_size_or_a_reason(magic: bytes, tail: bytes) -> None:
    try:
        header = probe(magic + tail)
    except PhotoError as error:
        assert error.stage == "decode"
        assert "\n" not in error.reason
    else:
        assert header.width > 0
        assert header.height > 0


def test_pixels_do_not_overflow() -> None:
    data = b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 2**31 - 1, 2**31 - 1)
    assert probe(data).pixels == (2**31 - 1) ** 2
    assert np.int64(probe(data).pixels) > 0
