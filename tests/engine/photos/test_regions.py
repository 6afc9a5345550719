"""Face regions of other programs: all ways to write them, all eight orientations, and files that lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from faceembed.engine.photos.region_xml import parse_regions
from faceembed.engine.photos.regions import read_regions
from faceembed.engine.photos.turning import turned
from faceembed.errors import PhotoError

SPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" '
    'xmlns:MP="http://ns.microsoft.com/photo/1.2/" xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#" '
    'xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
)


def packet(items: str, *, width: int = 200, height: int = 100) -> bytes:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {SPACES}><rdf:Description rdf:about=""><mwg-rs:Regions rdf:parseType="Resource">'
        f'<mwg-rs:AppliedToDimensions stDim:w="{width}" stDim:h="{height}" stDim:unit="pixel"/>'
        f"<mwg-rs:RegionList><rdf:Bag>{items}</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


AREA = '<mwg-rs:Area stArea:x="0.3" stArea:y="0.6" stArea:w="0.2" stArea:h="0.4" stArea:unit="normalized"/>'
ANN = f'<rdf:li rdf:parseType="Resource"><mwg-rs:Name>Ann</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>{AREA}</rdf:li>'
BOX = pytest.approx((0.2, 0.4, 0.2, 0.4))
WAYS = {
    "fields": ANN,
    "attributes": f'<rdf:li><rdf:Description mwg-rs:Name="Ann" mwg-rs:Type="Face">{AREA}</rdf:Description></rdf:li>',
    "nodes": '<rdf:li rdf:parseType="Resource"><mwg-rs:Name>Ann</mwg-rs:Name><mwg-rs:Area rdf:parseType="Resource"><stArea:x>0.3</stArea:x>'
    "<stArea:y>0.6</stArea:y><stArea:w>0.2</stArea:w><stArea:h>0.4</stArea:h></mwg-rs:Area></rdf:li>",
    "pixels": ANN.replace('x="0.3"', 'x="60"')
    .replace('y="0.6"', 'y="60"')
    .replace('w="0.2"', 'w="40"')
    .replace('h="0.4"', 'h="40"')
    .replace("normalized", "pixel"),
    "circle": ANN.replace('stArea:w="0.2" stArea:h="0.4"', 'stArea:d="0.4"'),
    "microsoft": '<rdf:li rdf:parseType="Resource"><MPReg:Rectangle>0.2, 0.4, 0.2, 0.4</MPReg:Rectangle><MPReg:PersonDisplayName>Ann</MPReg:PersonDisplayName></rdf:li>',
}


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_write_one(way: str) -> None:
    (region,) = parse_regions(packet(WAYS[way]), (200, 100), 1).regions
    assert region.name == "Ann" and region.box == BOX


def test_what_is_no_face_or_has_no_name() -> None:
    others = ANN.replace("Face", "Pet") + ANN.replace("Ann", "  ") + ANN.replace('x="0.3"', 'x="7"') + ANN
    others += WAYS["microsoft"].replace("Ann", "ffffffffffffffff")
    assert [region.name for region in parse_regions(packet(others), (200, 100), 1).regions] == ["Ann"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_against_pillow(orientation: int) -> None:
    """A marked patch is where the region says, in the photo as Pillow turns it upright."""
    stored = np.zeros((100, 200), np.uint8)
    stored[40:80, 40:80] = 255
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(stored)
    picture.getexif()[274] = orientation
    upright = np.asarray(ImageOps.exif_transpose(picture))
    x, y, width, height = turned((0.3, 0.6, 0.2, 0.4), orientation)
    high, wide = upright.shape
    left, top = round(x * wide), round(y * high)
    right, bottom = round((x + width) * wide), round((y + height) * high)
    assert (upright[top:bottom, left:right] == 255).all() and upright.sum() == 255 * (right - left) * (bottom - top)


def photo(path: Path, xmp: bytes | None = None, **options: Any) -> Path:
    Image.new("RGB", (200, 100)).save(path, **({"xmp": xmp} if xmp else {}), **options)
    return path


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_inside_of_files(tmp_path: Path, ending: str) -> None:
    if ending == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet(ANN).decode())
        path = photo(tmp_path / "a.png", pnginfo=info)
    elif ending == ".tif":
        path = photo(tmp_path / "a.tif", tiffinfo={700: packet(ANN)})
    else:
        path = photo(tmp_path / f"a{ending}", packet(ANN))
    (region,) = read_regions(str(path)).regions
    assert region.name == "Ann" and region.box == BOX


def test_two_hundred_names_need_a_second_part(tmp_path: Path) -> None:
    """A segment of a JPEG holds 64 KiB; the rest stands in others, in any order."""
    items = "".join(
        ANN.replace("Ann", f"Person {n}").replace('x="0.3"', f'x="0.{3 + n % 5}{n:03}"') for n in range(400)
    )
    extended, guid = packet(items), b"0123456789ABCDEF" * 2
    main = packet("").replace(
        b'rdf:about=""',
        b'rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + guid + b'"',
    )
    data = photo(tmp_path / "a.jpg", main).read_bytes()
    pieces = [(at, extended[at : at + 40_000]) for at in range(0, len(extended), 40_000)]
    assert len(pieces) > 2
    segments = b""
    for at, piece in reversed(pieces):
        body = (
            b"http://ns.adobe.com/xmp/extension/\0"
            + guid
            + len(extended).to_bytes(4, "big")
            + at.to_bytes(4, "big")
            + piece
        )
        segments += b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    (tmp_path / "a.jpg").write_bytes(data[:2] + segments + data[2:])
    assert len(read_regions(str(tmp_path / "a.jpg")).regions) == 400


def test_sidecars_go_first(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", packet(ANN))
    (tmp_path / "a.xmp").write_bytes(packet(ANN.replace("Ann", "Old")))
    assert read_regions(str(path)).regions[0].name == "Old"
    (tmp_path / "a.jpg.xmp").write_bytes(packet(ANN.replace("Ann", "New")))
    assert read_regions(str(path)).regions[0].name == "New"


def test_a_photo_that_a_sidecar_turns(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", packet(ANN))
    (tmp_path / "a.jpg.xmp").write_text('<a xmlns:tiff="t" tiff:Orientation="6"/>')
    assert [region.box for region in read_regions(str(path)).regions] == [turned((0.3, 0.6, 0.2, 0.4), 6)]
    photo(tmp_path / "a.jpg", packet(ANN), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0")
    assert [region.box for region in read_regions(str(path)).regions] == [turned((0.3, 0.6, 0.2, 0.4), 3)]


def test_turned_without_its_regions() -> None:
    found = parse_regions(packet(ANN, width=100, height=200), (200, 100), 1)
    assert not found.regions and "it was turned without them" in found.remarks[0]


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        (b"<x:xmpmeta", "damaged"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "defines entities"),
        (b"", ""),
        (b"\0\0", ""),
        (b"<a/>", ""),
    ],
)
def test_damaged_packets(data: bytes, remark: str) -> None:
    found = parse_regions(data, (200, 100), 1)
    assert not found.regions and (not found.remarks if not remark else remark in found.remarks[0])


def test_what_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(PhotoError):
        read_regions(str(tmp_path / "a.jpg"))
    assert read_regions(str(photo(tmp_path / "b.jpg"))).regions == ()
