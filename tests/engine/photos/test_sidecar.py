"""Which way is up by a file beside the photo: only where the photo says nothing, the same for all who read it, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.photos.sidecar import read_photo, with_sidecar
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.intake import Intake
from faceembed.engine.pipeline.settings import EmbedSettings
from tests.engine.photos import odd
from tests.engine.photos.archives_made import make_zip
from tests.engine.photos.odd import Array

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {}</rdf:RDF></x:xmpmeta>"""
FORMS = {
    "attribute": 'tiff:Orientation="{}"/>',
    "element": "><tiff:Orientation>{}</tiff:Orientation></rdf:Description>",
}


@pytest.fixture(scope="module")
def upright() -> Array:
    pixels = np.full((48, 80, 3), 30, np.uint8)
    pixels[:16, :32] = (220, 120, 40)
    return pixels


def note(path: Path, orientation: int, form: str = "attribute") -> None:
    Path(f"{path}.xmp").write_text(XMP.format(FORMS[form].format(orientation)))


def near(pixels: Array, expected: Array) -> bool:
    return pixels.shape == expected.shape and float(np.abs(pixels.astype(int) - expected).mean()) < 6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_turns_a_photo_that_says_nothing(tmp_path: Path, upright: Array, orientation: int, form: str) -> None:
    path = tmp_path / "a.jpg"
    data = odd.encoded(odd.oriented(upright, orientation), "JPEG", quality=95)
    path.write_bytes(data)
    note(path, orientation, form)
    photo = decode(read_photo(str(path)))
    assert near(photo.pixels, upright) and (photo.width, photo.height) == (80, 48)
    item = Intake(EmbedSettings(), reducing=False).read_one(photo_file(str(path)))
    assert isinstance(item, Item) and near(decode(item.data, header=item.header).pixels, upright)
    assert item.photo.size == len(data)  # the file's own, by which it is known again
    assert path.read_bytes() == data
    small = thumbnail(str(path))
    assert small is not None and decode(small).width == 128


@pytest.mark.parametrize("own", [1, 6])
def test_what_the_photo_says_itself_counts(tmp_path: Path, upright: Array, own: int) -> None:
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[274] = own
    path.write_bytes(odd.encoded(odd.oriented(upright, own), "JPEG", quality=95, exif=exif))
    note(path, 3)
    assert near(decode(read_photo(str(path))).pixels, upright)


def test_exif_data_without_an_orientation_say_nothing(tmp_path: Path, upright: Array) -> None:
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[271] = "a camera"
    path.write_bytes(odd.encoded(odd.oriented(upright, 8), "JPEG", quality=95, exif=exif))
    note(path, 8)
    assert near(decode(read_photo(str(path))).pixels, upright)


@pytest.mark.parametrize("text", ["", "no XML", 'tiff:Orientation="9"', 'tiff:Orientation="0"', "x" * (2 << 20)])
def test_notes_that_say_nothing(tmp_path: Path, upright: Array, text: str) -> None:
    path = tmp_path / "a.jpg"
    data = odd.encoded(upright, "JPEG", quality=95)
    path.write_bytes(data)
    Path(f"{path}.xmp").write_text(text)
    assert read_photo(str(path)) == data
    assert with_sidecar(b"\xff\xd8\xff", str(path)) == b"\xff\xd8\xff"


def test_beside_a_photo_in_an_archive(tmp_path: Path, upright: Array) -> None:
    data = odd.encoded(odd.oriented(upright, 6), "JPEG", quality=95)
    archive = make_zip(
        tmp_path / "x.zip", {"a.jpg": data, "a.jpg.xmp": XMP.format('tiff:Orientation="6"/>').encode(), "b.jpg": data}
    )
    assert near(decode(read_photo(f"{archive}::a.jpg")).pixels, upright)
    assert read_photo(f"{archive}::b.jpg") == data
