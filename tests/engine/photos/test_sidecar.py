"""Which way is up by a file beside the photo: only where the photo says nothing, the same for all who read it, and nothing is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.photo_file import photo_file
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.sidecar import read_photo, with_sidecar
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.gpu.decoder import readable
from faceembed.engine.pipeline.intake import Intake
from faceembed.engine.pipeline.settings import EmbedSettings
from tests.engine.photos import odd
from tests.engine.photos.archives_made import make_zip
from tests.engine.photos.odd import Array, page, tiff

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


def heic(pixels: Array, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=95, **options)
    return out.getvalue()


def jpegxl(pixels: Array) -> bytes:
    pytest.importorskip("pillow_jxl")
    return odd.encoded(pixels, "JXL", quality=95)


def raw(pixels: Array) -> bytes:
    pytest.importorskip("rawpy")
    from tests.engine.photos.test_raw import dng  # it is skipped as a whole without rawpy

    return dng(pixels, odd.encoded(pixels, "JPEG", quality=95), orientation=0)


SILENT: dict[str, Callable[[Array], bytes]] = {
    "jpg": lambda p: odd.encoded(p, "JPEG", quality=95),
    "png": lambda p: odd.encoded(p, "PNG"),
    "webp": lambda p: odd.encoded(p, "WEBP", quality=95),
    "lossless.webp": lambda p: odd.encoded(p, "WEBP", lossless=True),
    "tif": lambda p: tiff(page(p)),
    "deep.tiff": lambda p: tiff(page(p.astype(np.uint16) * 257), order=">"),
    "bmp": lambda p: odd.encoded(p, "BMP"),
    "gif": lambda p: odd.encoded(Image.fromarray(p).quantize(8), "GIF"),
    "jp2": lambda p: odd.encoded(p, "JPEG2000"),
    "avif": lambda p: odd.encoded(p, "AVIF", quality=95),
    "heic": heic,
    "jxl": jpegxl,
    "dng": raw,
}
"""Files that do not say which way is up."""


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


@pytest.mark.parametrize("name", ["photo.{}.xmp", "photo.xmp"])
@pytest.mark.parametrize("kind", SILENT)
def test_every_format_that_says_nothing(tmp_path: Path, upright: Array, kind: str, name: str) -> None:
    path, sidecar = tmp_path / f"photo.{kind.split('.')[-1]}", tmp_path / name.format(kind.split(".")[-1])
    for orientation in range(1, 9):
        stored = odd.oriented(upright, orientation)
        data = SILENT[kind](stored)
        path.write_bytes(data)
        sidecar.write_text(XMP.format(FORMS["attribute"].format(orientation)))
        item = Intake(EmbedSettings(), reducing=True).read_one(photo_file(str(path)))
        assert isinstance(item, Item) and item.photo.size == len(data)
        for photo in (decode(item.data, header=item.header), decode(read_photo(str(path)))):
            assert near(photo.pixels, upright) and (photo.width, photo.height) == (80, 48), orientation
        small = thumbnail(str(path))
        assert small is not None and decode(small).width == 128
        sidecar.unlink()
        if orientation == 8:
            assert decode(read_photo(str(path))).pixels.shape == stored.shape  # it is the note that turns it


def test_a_card_is_not_given_what_only_we_know(tmp_path: Path, upright: Array) -> None:
    for kind, direct in {"jpg": True, "png": False, "webp": False, "bmp": False}.items():
        path = tmp_path / f"photo.{kind}"
        path.write_bytes(SILENT[kind](odd.oriented(upright, 6)))
        data = read_photo(str(path))
        assert readable(data, probe(data))
        note(path, 6)
        data = read_photo(str(path))
        assert readable(data, probe(data)) == direct


SAYING: dict[str, Callable[[Array, Image.Exif], bytes]] = {
    "jpg": lambda p, exif: odd.encoded(p, "JPEG", quality=95, exif=exif),
    "png": lambda p, exif: odd.encoded(p, "PNG", exif=exif),
    "webp": lambda p, exif: odd.encoded(p, "WEBP", quality=95, exif=exif),
    "tif": lambda p, exif: tiff(page(p, t274=(exif[274],))),
    "avif": lambda p, exif: odd.encoded(p, "AVIF", quality=95, exif=exif),  # Pillow writes nothing for 1
    "heic": lambda p, exif: heic(p, exif=exif.tobytes()),
    "jxl": lambda p, exif: jpegxl_with(p, exif),
}


def jpegxl_with(pixels: Array, exif: Image.Exif) -> bytes:
    pytest.importorskip("pillow_jxl")
    return odd.encoded(pixels, "JXL", quality=95, exif=exif.tobytes())


@pytest.mark.parametrize(
    ("kind", "own"), [(kind, own) for kind in SAYING for own in (1, 6) if (kind, own) != ("avif", 1)]
)
@pytest.mark.parametrize("name", ["photo.{}.xmp", "photo.xmp"])
def test_what_the_photo_says_itself_counts(tmp_path: Path, upright: Array, own: int, kind: str, name: str) -> None:
    path, exif = tmp_path / f"photo.{kind}", Image.Exif()
    exif[274] = own
    path.write_bytes(SAYING[kind](odd.oriented(upright, own), exif))
    plain = decode(path.read_bytes()).pixels
    (tmp_path / name.format(kind)).write_text(XMP.format(FORMS["element"].format(3)))
    assert (decode(read_photo(str(path))).pixels == plain).all()
    assert kind == "jxl" or near(plain, upright)


@pytest.mark.parametrize(
    ("beside", "text", "turned"),
    [
        ("", 'photoshop:SidecarForExtension="JPG" tiff:Orientation="6"', True),
        ("", '><photoshop:SidecarForExtension>jpg</photoshop:SidecarForExtension><tiff:Orientation>6</tiff:Orientation>', True),
        ("", 'photoshop:SidecarForExtension="CR2" tiff:Orientation="6"', False),
        ("photo.CR2", 'tiff:Orientation="6"', False),
        ("photo.nef", 'tiff:Orientation="6"', False),
        ("photo.png", 'tiff:Orientation="6"', True),
        ("other.cr2", 'tiff:Orientation="6"', True),
    ],
)  # fmt: skip
def test_whose_the_sidecar_is(tmp_path: Path, upright: Array, beside: str, text: str, turned: bool) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(SILENT["jpg"](odd.oriented(upright, 6)))
    (tmp_path / "photo.xmp").write_text(text)
    if beside:
        (tmp_path / beside).write_bytes(b"II*\0")
    assert near(decode(read_photo(str(path))).pixels, upright) == turned
    members = {"d/photo.jpg": path.read_bytes(), "d/photo.xmp": text.encode()}
    archive = make_zip(tmp_path / "x.zip", members | ({f"d/{beside}": b"II*\0"} if beside else {}))
    assert near(decode(read_photo(f"{archive}::d/photo.jpg")).pixels, upright) == turned


def test_the_nearer_sidecar_goes_first(tmp_path: Path, upright: Array) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(SILENT["png"](odd.oriented(upright, 6)))
    (tmp_path / "photo.xmp").write_text('tiff:Orientation="3"')
    note(path, 6)
    assert near(decode(read_photo(str(path))).pixels, upright)
    Path(f"{path}.xmp").write_text("nothing of it")
    (tmp_path / "photo.xmp").write_text('tiff:Orientation="6"')
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
