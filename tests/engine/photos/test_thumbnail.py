"""Thumbnails for reports: small upright JPEGs, or nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceembed.engine.photos.thumbnail import SIDE, thumbnail


def open_thumbnail(path: Path) -> Image.Image:
    data = thumbnail(str(path))
    assert data is not None
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize("size", [(512, 300), (40, 60), (2000, 1000), (128, 128), (129, 1), (3000, 2)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_longer_side_is_the_promised_one(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", size, (200, 90, 30)).save(path)
    image = open_thumbnail(path)
    assert max(image.size) == SIDE
    assert image.size[0] / image.size[1] == pytest.approx(size[0] / size[1], rel=0.05) or min(image.size) == 1
    assert np.abs(np.asarray(image).mean((0, 1)) - (200, 90, 30)).max() < 4  # and not blue


def test_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (400, 200)).save(tmp_path / "a.jpg", exif=exif)
    assert open_thumbnail(tmp_path / "a.jpg").size == (64, 128)


def test_nothing_for_what_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert thumbnail(str(tmp_path / "a.jpg")) is None
    assert thumbnail(str(tmp_path / "none.jpg")) is None
    assert thumbnail(str(tmp_path)) is None
