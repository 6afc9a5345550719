"""Names that Picasa and Google Takeout keep beside photos, and ACDSee's and IPTC's regions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from faceembed.engine.photos.albums import read_contacts
from faceembed.engine.photos.region_xml import parse_regions
from faceembed.engine.photos.regions import read_regions
from faceembed.errors import DataError

# left 0.2, top 0.4, right 0.4, bottom 0.8
RECT = "rect64(333366666666cccc)"
INI = f"""[Picasa]
name=holiday
[a%[1].jpg]
star=yes
faces={RECT},8e62398ebda8c1a5;rect64(333366666666cccd),ffffffffffffffff;rect64(1),1234
[Contacts2]
8e62398ebda8c1a5=Ann Lee;ann@example.org;
"""
CONTACTS = '<contacts><contact id="1234" name="Bob"/><contact id="08e62398ebda8c1a5" name="Other"/></contacts>'
NEAR = pytest.approx((0.2, 0.4, 0.2, 0.4), abs=1e-4)


def photo(folder: Path, name: str, orientation: int = 1) -> str:
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (200, 100), "grey").save(folder / name, exif=exif)
    return str(folder / name)


@pytest.mark.parametrize("ini", [".picasa.ini", "Picasa.ini"])
def test_picasa(tmp_path: Path, ini: str) -> None:
    path = photo(tmp_path, "a%[1].jpg")
    (tmp_path / ini).write_text(INI)
    found = read_regions(path)
    assert [(one.name, one.box) for one in found.regions] == [("Ann Lee", NEAR)], "contacts of the ini itself"
    assert found.remarks == (
        "1 of its faces in Picasa's ini have names in contacts.xml alone; give it with --contacts",
    )
    (tmp_path / "contacts.xml").write_text(CONTACTS)
    contacts = read_contacts(tmp_path / "contacts.xml")
    assert contacts == {"1234": "Bob", "8e62398ebda8c1a5": "Other"}
    assert read_regions(path, contacts).remarks == ()
    assert [one.name for one in read_regions(path, contacts).regions] == ["Ann Lee"], "rect64(1) has no area"
    assert read_regions(photo(tmp_path, "other.jpg")).regions == ()


def test_picasa_is_of_the_stored_picture(tmp_path: Path) -> None:
    (tmp_path / ".picasa.ini").write_text(INI)
    (region,) = read_regions(photo(tmp_path, "a%[1].jpg", 6)).regions
    assert region.box == pytest.approx((0.2, 0.2, 0.4, 0.2), abs=1e-4)  # 6: x is 1 - y, y is x


@pytest.mark.parametrize(
    "text", ["", "no xml", "<a/>", '<!DOCTYPE a [<!ENTITY b "c">]><contacts><contact id="1" name="&b;"/></contacts>']
)
def test_no_contacts(tmp_path: Path, text: str) -> None:
    (tmp_path / "contacts.xml").write_text(text)
    with pytest.raises(DataError, match=r"contacts.xml is no contacts.xml of Picasa"):
        read_contacts(tmp_path / "contacts.xml")


@pytest.mark.parametrize(
    "name", ["a.jpg.supplemental-metadata.json", "a.jpg.json", "a.jpg.supplemental-met.json", "a.jpg.suppl.json"]
)
def test_takeout(tmp_path: Path, name: str) -> None:
    path = photo(tmp_path, "a.jpg")
    (tmp_path / name).write_text(
        json.dumps({"title": "a.jpg", "people": [{"name": "Ann"}, {"name": " "}, {"name": "Bob"}, 7]})
    )
    assert read_regions(path).names == ("Ann", "Bob") and read_regions(path).regions == ()
    (tmp_path / name).write_text(json.dumps({"title": "b.jpg", "people": [{"name": "Ann"}]}))
    assert read_regions(path).names == ()
    for text in ("", "[1]", '{"title": "a.jpg"}', '{"title": "a.jpg", "people": 7}', "\xff"):
        (tmp_path / name).write_text(text)
        assert read_regions(path).names == ()


ACDSEE = """<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:acdsee-rs="http://ns.acdsee.com/regions/"
 xmlns:a="http://ns.acdsee.com/sType/Area#" xmlns:d="http://ns.acdsee.com/sType/Dimensions#"><rdf:RDF><rdf:Description><acdsee-rs:Regions rdf:parseType="Resource">
 <acdsee-rs:AppliedToDimensions d:w="200" d:h="100" d:unit="pixel"/><acdsee-rs:RegionList><rdf:Bag>
 <rdf:li rdf:parseType="Resource"><acdsee-rs:Name>Ann</acdsee-rs:Name><acdsee-rs:Type>Face</acdsee-rs:Type>
 <acdsee-rs:ALGArea a:x="0.9" a:y="0.9" a:w="0.1" a:h="0.1"/><acdsee-rs:DLYArea a:x="0.3" a:y="0.6" a:w="0.2" a:h="0.4"/></rdf:li>
 <rdf:li><rdf:Description acdsee-rs:Name="Bob" acdsee-rs:Type="Face"><acdsee-rs:ALGArea a:x="0.3" a:y="0.6" a:w="0.2" a:h="0.4"/></rdf:Description></rdf:li>
 <rdf:li><rdf:Description acdsee-rs:Name="No" acdsee-rs:Type="Face" acdsee-rs:NameAssignType="denied"><acdsee-rs:DLYArea a:x="0.3" a:y="0.6" a:w="0.2" a:h="0.4"/></rdf:Description></rdf:li>
 <rdf:li><rdf:Description acdsee-rs:Name="Chair" acdsee-rs:Type="Object"><acdsee-rs:DLYArea a:x="0.3" a:y="0.6" a:w="0.2" a:h="0.4"/></rdf:Description></rdf:li>
 </rdf:Bag></acdsee-rs:RegionList></acdsee-rs:Regions></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_acdsee() -> None:
    found = parse_regions(ACDSEE.encode(), (200, 100), 1).regions
    assert [(one.name, one.box) for one in found] == [("Ann", NEAR), ("Bob", NEAR)]
    assert parse_regions(ACDSEE.encode(), (100, 200), 1).remarks


def iptc(
    boundary: str, *, kind: str = "http://cv.iptc.org/newscodes/imageregiontype/human", name: str = "Name"
) -> bytes:
    return f"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"><rdf:Description><I:ImageRegion><rdf:Bag><rdf:li rdf:parseType="Resource"><I:RegionBoundary rdf:parseType="Resource">
 {boundary}</I:RegionBoundary><I:{name}><rdf:Alt><rdf:li xml:lang="x-default">Ann</rdf:li></rdf:Alt></I:{name}><I:rCtype><rdf:Bag><rdf:li rdf:parseType="Resource">
 <xmp:Identifier><rdf:Bag><rdf:li>{kind}</rdf:li></rdf:Bag></xmp:Identifier></rdf:li></rdf:Bag></I:rCtype></rdf:li></rdf:Bag></I:ImageRegion></rdf:Description></rdf:RDF>""".encode()


BOUNDARIES = {
    "shares": "<I:rbShape>rectangle</I:rbShape><I:rbUnit>relative</I:rbUnit><I:rbX>0.2</I:rbX><I:rbY>0.4</I:rbY><I:rbW>0.2</I:rbW><I:rbH>0.4</I:rbH>",
    "pixels": "<I:rbShape>rectangle</I:rbShape><I:rbUnit>pixel</I:rbUnit><I:rbX>40</I:rbX><I:rbY>40</I:rbY><I:rbW>40</I:rbW><I:rbH>40</I:rbH>",
    "circle": "<I:rbShape>circle</I:rbShape><I:rbUnit>relative</I:rbUnit><I:rbX>0.3</I:rbX><I:rbY>0.6</I:rbY><I:rbRx>0.1</I:rbRx>",
}


@pytest.mark.parametrize("name", ["Name", "PersonInImage"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_iptc(boundary: str, name: str) -> None:
    (region,) = parse_regions(iptc(BOUNDARIES[boundary], name=name), (200, 100), 1).regions
    assert region.name == "Ann" and region.box == NEAR
    assert (
        parse_regions(
            iptc(BOUNDARIES[boundary], kind="http://cv.iptc.org/newscodes/imageregiontype/animal"), (200, 100), 1
        ).regions
        == ()
    )


def test_iptc_polygon_is_no_place() -> None:
    assert parse_regions(iptc("<I:rbShape>polygon</I:rbShape>"), (200, 100), 1).regions == ()


def test_heic(tmp_path: Path) -> None:
    """As pillow-heif writes it: turned by the container, with XMP of the stored picture."""
    pillow_heif = pytest.importorskip("pillow_heif")
    from tests.engine.photos.test_regions import ANN, packet

    exif = Image.Exif()
    exif[274] = 6
    made = pillow_heif.from_pillow(Image.new("RGB", (200, 100), "grey"))
    made.save(tmp_path / "a.heic", exif=exif.tobytes(), xmp=packet(ANN), quality=50)
    (region,) = read_regions(str(tmp_path / "a.heic")).regions
    assert region.name == "Ann" and region.box == pytest.approx((0.2, 0.2, 0.4, 0.2))
