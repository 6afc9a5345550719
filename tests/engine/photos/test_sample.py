"""The sample photos: what they are, that all show one face upright, and that they are written once."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest

from faceembed.engine.photos import sample
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.reading import read_file
from faceembed.errors import DataError
from faceembed.install import pip_install


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path))
    return sample.sample_photos()


def test_they_are_the_astronaut(folder: Path) -> None:
    skimage = pytest.importorskip("skimage.data")
    pixels = decode(read_file(str(folder / "astronaut.png"))).pixels
    assert (pixels == skimage.astronaut()).all()


def test_each_can_be_decoded_and_is_upright(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(sample.PHOTOS)
    original = decode(read_file(str(folder / "astronaut.png"))).pixels.astype(float)
    turned = decode(read_file(str(folder / "turned_by_exif.jpg"))).pixels.astype(float)
    assert abs(turned - original).mean() < 4
    assert all(decode(read_file(str(folder / name))).pixels.ndim == 3 for name in names)


def test_formats_are_what_the_names_say(folder: Path) -> None:
    stored = cv2.imread(str(folder / "turned_by_exif.jpg"), cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR)
    upright = cv2.imread(str(folder / "turned_by_exif.jpg"))
    assert abs(cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE).astype(float) - upright).max() == 0
    assert cv2.imread(str(folder / "deep_16bit.png"), cv2.IMREAD_UNCHANGED).dtype == "uint16"
    assert cv2.imread(str(folder / "grey.jpg"), cv2.IMREAD_UNCHANGED).ndim == 2


def test_written_once_and_completed(folder: Path) -> None:
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "grey.jpg").unlink()
    assert sample.sample_photos() == folder
    again = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert [name for name in stamps if stamps[name] != again[name]] == ["grey.jpg"]


def test_pair(folder: Path) -> None:
    assert all(path.parent == folder and path.is_file() for path in sample.sample_pair())


def test_without_scikit_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=re.escape(pip_install("sample"))):
        sample.sample_photos()
