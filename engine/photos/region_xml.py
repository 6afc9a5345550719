"""Names and places of faces in one packet of XMP, in the four forms that programs write.

    parse_regions(packet, sides=(4000, 3000), orientation=6).regions

`mwg-rs` of the Metadata Working Group (digiKam, Lightroom, Picasa, osxphotos; Guidelines 2.0, 2010, section 5.9), `MPReg` of Microsoft, `acdsee-rs`
of ACDSee, whose fields are the first's by other names, and `ImageRegion` of IPTC (Photo Metadata Standard 2019.1, section 12.2; no program's file of
it was at hand, so that its geometry is read as the standard has it). Places are of the picture as it is stored.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as xml

from faceembed.engine.photos.turning import Box, Region, turned

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_MP = "{http://ns.microsoft.com/photo/1.2/t/Region#}"
_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_HUMAN = ("human", "face", "person")  # of IPTC's image region types, at the end of their addresses


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The names of a form's fields."""

    regions: str
    area: str
    dimensions: str
    areas: tuple[str, ...]
    """Of a region, the first that is there counts."""


_KINDS = (
    _Kind(
        "{http://www.metadataworkinggroup.com/schemas/regions/}",
        "{http://ns.adobe.com/xmp/sType/Area#}",
        "{http://ns.adobe.com/xap/1.0/sType/Dimensions#}",
        ("Area",),
    ),
    _Kind(
        "{http://ns.acdsee.com/regions/}",
        "{http://ns.acdsee.com/sType/Area#}",
        "{http://ns.acdsee.com/sType/Dimensions#}",
        ("DLYArea", "ALGArea"),  # as the user drew it, as the program found it
    ),
)


@dataclasses.dataclass(frozen=True)
class Regions:
    """What is written of one photo."""

    regions: tuple[Region, ...]
    remarks: tuple[str, ...] = ()
    """What was left out, and why."""
    names: tuple[str, ...] = ()
    """Who is on it, where nobody says in which place."""


def parse_regions(packet: bytes, sides: tuple[int, int], orientation: int) -> Regions:
    """The named faces of an XMP packet.

    Args:
        packet: XML.
        sides: of the picture as it is stored, in pixels.
        orientation: EXIF's, 1 to 8.
    """
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return Regions((), ("its XMP defines entities, which no program writes: not read",))
    start, end = packet.find(b"<"), packet.rfind(b">")
    try:
        root = xml.fromstring(packet[start : end + 1])
    except (xml.ParseError, ValueError, LookupError) as error:
        return Regions((), (f"its XMP is damaged ({str(error)[:80]})",)) if packet.strip(b"\0 \r\n") else Regions(())
    found: list[Region] = []
    remarks: list[str] = []
    for kind in _KINDS:
        for of in root.iter(f"{kind.regions}Regions"):
            _listed(of, kind, sides, orientation, found, remarks)
    for item in root.iter(f"{_RDF}li"):
        _microsoft(item, orientation, found)
    for item in root.iter(f"{_IPTC}ImageRegion"):
        for one in _items(item):
            _iptc(one, sides, orientation, found)
    return Regions(tuple(dict.fromkeys(found)), tuple(remarks))


def _listed(
    of: xml.Element, kind: _Kind, sides: tuple[int, int], orientation: int, found: list[Region], remarks: list[str]
) -> None:
    """The regions of one list, as MWG and ACDSee have them."""
    space = kind.regions
    node = _child(of, f"{space}AppliedToDimensions")
    width, height = (_number(_field(node, f"{kind.dimensions}{side}")) for side in "wh")
    if width and height and (width > height) != (sides[0] > sides[1]) and sides[0] != sides[1] and width != height:
        remarks.append("its regions are of a picture that lies otherwise: it was turned without them")
        return
    applied = (width or sides[0], height or sides[1])
    for item in _items(_child(of, f"{space}RegionList")):
        what, denied = _field(item, f"{space}Type"), _field(item, f"{space}NameAssignType") == "denied"
        area = next((one for name in kind.areas if (one := _child(item, f"{space}{name}")) is not None), None)
        box = _box(area, kind.area, applied)
        if (name := _field(item, f"{space}Name").strip()) and what in ("", "Face") and box is not None and not denied:
            found.append(Region(name, turned(box, orientation)))


def _iptc(item: xml.Element, sides: tuple[int, int], orientation: int, found: list[Region]) -> None:
    """A rectangle by its upper left corner, or a circle by its centre and a radius that is a share of the width."""
    kinds = [_about(node) for node in item.iter(f"{_IPTC}rCtype")]
    if any(kinds) and not any(kind.rstrip("/").lower().endswith(_HUMAN) for kind in kinds):
        return
    name = next((text for one in ("PersonInImage", "Name") if (text := _words(_child(item, f"{_IPTC}{one}")))), "")
    edge = _child(item, f"{_IPTC}RegionBoundary")
    shape, unit = (_field(edge, f"{_IPTC}{one}") for one in ("rbShape", "rbUnit"))
    x, y, width, height, radius = (_number(_field(edge, f"{_IPTC}rb{one}")) for one in ("X", "Y", "W", "H", "Rx"))
    across, down = sides if unit == "pixel" else (1, 1)
    box: Box | None = None
    if shape == "rectangle" and x is not None and y is not None and width is not None and height is not None:
        box = ((x + width / 2) / across, (y + height / 2) / down, width / across, height / down)
    elif shape == "circle" and x is not None and y is not None and radius is not None:
        wide = 2 * radius / across
        box = (x / across, y / down, wide, wide * sides[0] / sides[1])
    if name and box is not None and _sound(box):
        found.append(Region(name, turned(box, orientation)))


def _about(node: xml.Element) -> str:
    """All that a node and those below say, addresses too."""
    return " ".join(text for one in node.iter() for text in (*one.attrib.values(), one.text or "") if text.strip())


def _words(node: xml.Element | None) -> str:
    """The first text in a node, as in one of several languages."""
    texts = [] if node is None else [one.text.strip() for one in node.iter() if one.text and one.text.strip()]
    return texts[0] if texts else ""


def _microsoft(item: xml.Element, orientation: int, found: list[Region]) -> None:
    name, place = _field(item, f"{_MP}PersonDisplayName").strip(), _field(item, f"{_MP}Rectangle")
    numbers = [_number(part) for part in place.split(",")]
    if name and name.strip("f") and len(numbers) == 4 and all(number is not None for number in numbers):
        left, top, width, height = (float(number or 0) for number in numbers)
        if 0 < width <= 1.01 and 0 < height <= 1.01:
            found.append(Region(name, turned((left + width / 2, top + height / 2, width, height), orientation)))


def _box(area: xml.Element | None, space: str, applied: tuple[float, float]) -> Box | None:
    """Centre and sides as shares."""
    if area is None:
        return None
    x, y, width, height, d = (_number(_field(area, f"{space}{name}")) for name in ("x", "y", "w", "h", "d"))
    if d is not None and width is None:  # a circle: its diameter as a share of the shorter side
        shorter = min(applied)
        width, height = d * shorter / applied[0], d * shorter / applied[1]
    if x is None or y is None or width is None or height is None:
        return None
    if _field(area, f"{space}unit") == "pixel":
        x, y, width, height = x / applied[0], y / applied[1], width / applied[0], height / applied[1]
    box = (x, y, width, height)
    return box if _sound(box) else None


def _sound(box: Box) -> bool:
    """Whether a centre and sides can be a place on a picture."""
    x, y, width, height = box
    return 0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1.01 and 0 < height <= 1.01


def _items(node: xml.Element | None) -> list[xml.Element]:
    return [] if node is None else list(node.iter(f"{_RDF}li"))


def _child(node: xml.Element, name: str) -> xml.Element | None:
    return next(iter(node.iter(name)), None)


def _field(node: xml.Element | None, name: str) -> str:
    """A field as an attribute of a node, of a description in it, or as a node of its own; empty without it."""
    if node is None:
        return ""
    for one in node.iter():
        if name in one.attrib:
            return one.attrib[name]
        if one.tag == name and one.text:
            return one.text
    return ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None
