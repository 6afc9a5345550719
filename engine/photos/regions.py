"""Names and places of faces that other programs wrote into a photo, or into a sidecar beside it: XMP's face regions.

    for region in read_regions("IMG.jpg").regions:
        region.name, region.box            # of the upright photo, as shares of its sides

Read are the regions of the Metadata Working Group (``mwg-rs``: digiKam, Lightroom, Picasa, osxphotos; Guidelines 2.0, 2010, section 5.9) and Microsoft's
(``MPReg``), in XMP inside a JPEG, PNG, WebP or TIFF file, and in ``IMG.jpg.xmp`` or ``IMG.xmp``, which go first. Their places are of the picture as it
is stored; EXIF's orientation, or the sidecar's where there is none, turns them upright. Regions of a picture that was turned without them are left out and said: they are elsewhere.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import warnings
import xml.etree.ElementTree as xml
from collections.abc import Iterator

from faceembed.engine.photos.reading import MAX_BYTES, read_file
from faceembed.engine.photos.sidecar import noted_orientation
from faceembed.errors import PhotoError

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_MWG = "{http://www.metadataworkinggroup.com/schemas/regions/}"
_AREA = "{http://ns.adobe.com/xmp/sType/Area#}"
_DIMENSIONS = "{http://ns.adobe.com/xap/1.0/sType/Dimensions#}"
_MP = "{http://ns.microsoft.com/photo/1.2/t/Region#}"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_NOTED = re.compile(rb"HasExtendedXMP[\"'=>\s]+([0-9A-F]{32})")
_LARGEST = 64 << 20  # bytes of a sidecar
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Region:
    """One face that somebody named."""

    name: str
    box: Box
    """x, y, width, height of the upright photo, as shares of its width and height."""


@dataclasses.dataclass(frozen=True)
class Regions:
    """What is written of one photo."""

    regions: tuple[Region, ...]
    remarks: tuple[str, ...] = ()
    """What was left out, and why."""


def read_regions(path: str) -> Regions:
    """The named faces of a photo.

    Args:
        path: of a photo, one in an archive too; a sidecar beside it goes first.

    Raises:
        PhotoError: the photo cannot be read.
    """
    data = read_file(path, max_bytes=MAX_BYTES)
    inside, sides, orientation = _inside(data)
    orientation = noted_orientation(data, path) or orientation
    for sidecar in (f"{path}.xmp", f"{os.path.splitext(path)[0]}.xmp"):
        if os.path.isfile(sidecar) and os.path.getsize(sidecar) <= _LARGEST:
            with open(sidecar, "rb") as file:
                found = parse_regions(file.read(), sides, orientation)
            if found.regions or found.remarks:
                return found
    parts = [parse_regions(packet, sides, orientation) for packet in inside]
    regions = dict.fromkeys(region for part in parts for region in part.regions)
    return Regions(tuple(regions), tuple(dict.fromkeys(line for part in parts for line in part.remarks)))


def _inside(data: bytes) -> tuple[list[bytes], tuple[int, int], int]:
    """XMP packets of a file, its sides as stored, and EXIF's orientation."""
    from PIL import Image  # not where no regions are read

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs and broken EXIF: nothing is decoded
            with Image.open(io.BytesIO(data)) as picture:
                sides, packet = picture.size, picture.info.get("xmp")
                orientation = int(picture.getexif().get(274, 1))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise PhotoError("decode", f"its metadata cannot be read ({str(error).splitlines()[0][:100]})") from error
    packets = [packet if isinstance(packet, bytes) else packet.encode()] if packet else []
    return [*packets, *_extended(data, packets)], sides, orientation if 1 <= orientation <= 8 else 1


def _extended(data: bytes, packets: list[bytes]) -> Iterator[bytes]:
    """The second part of a JPEG's XMP where one segment is too small for it (XMP Specification Part 3, 1.1.3.1): pieces by their offsets."""
    wanted = next((found[1] for packet in packets if (found := _NOTED.search(packet))), None)
    if wanted is None or not data.startswith(b"\xff\xd8"):
        return
    pieces: dict[int, bytes] = {}
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + size]
        if data[at + 1] == 0xE1 and body.startswith(_EXTENDED):
            rest = body[len(_EXTENDED) :]
            if rest[:32] == wanted:
                pieces[int.from_bytes(rest[36:40], "big")] = rest[40:]
        at += 2 + size
    yield b"".join(pieces[place] for place in sorted(pieces))


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
    remarks = []
    for of in root.iter(f"{_MWG}Regions"):
        width, height = (
            _number(_field(node, f"{_DIMENSIONS}{side}"))
            for node in [_node(of, "AppliedToDimensions")]
            for side in "wh"
        )
        if width and height and (width > height) != (sides[0] > sides[1]) and sides[0] != sides[1] and width != height:
            remarks.append("its regions are of a picture that lies otherwise: it was turned without them")
            continue
        applied = (width or sides[0], height or sides[1])
        for item in _items(_node(of, "RegionList")):
            kind = _field(item, f"{_MWG}Type")
            box = _mwg_box(_child(item, f"{_MWG}Area"), applied)
            if (name := _field(item, f"{_MWG}Name").strip()) and kind in ("", "Face") and box is not None:
                found.append(Region(name, turned(box, orientation)))
    for item in root.iter(f"{_RDF}li"):
        _microsoft(item, orientation, found)
    return Regions(tuple(dict.fromkeys(found)), tuple(remarks))


def _microsoft(item: xml.Element, orientation: int, found: list[Region]) -> None:
    name, place = _field(item, f"{_MP}PersonDisplayName").strip(), _field(item, f"{_MP}Rectangle")
    numbers = [_number(part) for part in place.split(",")]
    if name and name.strip("f") and len(numbers) == 4 and all(number is not None for number in numbers):
        left, top, width, height = (float(number or 0) for number in numbers)
        if 0 < width <= 1.01 and 0 < height <= 1.01:
            found.append(Region(name, turned((left + width / 2, top + height / 2, width, height), orientation)))


def _mwg_box(area: xml.Element | None, applied: tuple[float, float]) -> Box | None:
    """Centre and sides as shares."""
    if area is None:
        return None
    x, y, width, height, d = (_number(_field(area, f"{_AREA}{name}")) for name in ("x", "y", "w", "h", "d"))
    if d is not None and width is None:  # a circle: its diameter as a share of the shorter side
        shorter = min(applied)
        width, height = d * shorter / applied[0], d * shorter / applied[1]
    if x is None or y is None or width is None or height is None:
        return None
    if _field(area, f"{_AREA}unit") == "pixel":
        x, y, width, height = x / applied[0], y / applied[1], width / applied[0], height / applied[1]
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1.01 and 0 < height <= 1.01):
        return None
    return x, y, width, height


def turned(box: Box, orientation: int) -> Box:
    """From centre and sides in the stored picture to x, y, width, height in the upright one (EXIF 2.3, table 6)."""
    x, y, width, height = box
    x, y = {
        1: (x, y),
        2: (1 - x, y),
        3: (1 - x, 1 - y),
        4: (x, 1 - y),
        5: (y, x),
        6: (1 - y, x),
        7: (1 - y, 1 - x),
        8: (y, 1 - x),
    }[orientation]
    width, height = (width, height) if orientation < 5 else (height, width)
    return x - width / 2, y - height / 2, width, height


def _items(node: xml.Element | None) -> list[xml.Element]:
    return [] if node is None else list(node.iter(f"{_RDF}li"))


def _node(node: xml.Element, name: str) -> xml.Element | None:
    return next(iter(node.iter(f"{_MWG}{name}")), None)


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
