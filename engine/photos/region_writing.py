"""Writes names and places of faces into XMP sidecars, as face regions of the Metadata Working Group; never into photos.

    write_regions("IMG.jpg", [Region("Ann", (0.1, 0.2, 0.3, 0.3))], sides=(4000, 3000), orientation=6)

A sidecar that is there (``IMG.jpg.xmp``, else ``IMG.xmp``) keeps every byte: one block is added before the end of its RDF, or put in the place of the
block that was added before. Without one, ``IMG.jpg.xmp`` is made, as digiKam and darktable call it. Regions that another program wrote are its own:
such a sidecar is left alone.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as xml
from collections.abc import Sequence
from xml.sax.saxutils import escape

from faceembed.engine.photos.region_xml import parse_regions
from faceembed.engine.photos.turning import Box, Region, turned_back
from faceembed.errors import PhotoError
from faceembed.files import atomic_write

_START, _END = "<!-- faceembed: face regions -->", "<!-- end of face regions -->"
_OURS = re.compile(rf"[ \t]*{re.escape(_START)}.*?{re.escape(_END)}\n?", re.DOTALL)
_CLOSING = re.compile(r"[ \t]*</(?:[\w-]+:)?RDF\s*>")
_EMPTY = '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n </rdf:RDF>\n</x:xmpmeta>\n'
_LARGEST = 64 << 20  # bytes of a sidecar


def sidecar_of(path: str) -> str:
    """The sidecar that a photo has, or would get."""
    long, short = f"{path}.xmp", f"{os.path.splitext(path)[0]}.xmp"
    return short if not os.path.exists(long) and os.path.exists(short) else long


def write_regions(path: str, regions: Sequence[Region], *, sides: tuple[int, int], orientation: int) -> bool:
    """Note who is where on a photo; without regions, take away what was noted before.

    Args:
        path: of the photo.
        regions: of the upright photo.
        sides: width and height of the picture as it is stored, in pixels.
        orientation: by which it is turned upright, 1 to 8.

    Returns:
        Whether the sidecar was changed.

    Raises:
        PhotoError: the sidecar is not to be read, damaged, or has regions of another program; it stays as it was.
        OSError: it cannot be written.
    """
    sidecar = sidecar_of(path)
    before = _text(sidecar)
    if before is None and not regions:
        return False
    bare = _OURS.sub("", before if before is not None else _EMPTY)
    others = parse_regions(bare.encode(), sides, orientation)
    if others.remarks and before is not None:
        raise PhotoError("sidecar", f"{os.path.basename(sidecar)}: {others.remarks[0]}; left as it is")
    if others.regions:
        raise PhotoError("sidecar", f"{os.path.basename(sidecar)} has face regions of another program; left as it is")
    after = bare
    if regions:
        ends = list(_CLOSING.finditer(bare))
        if not ends:
            raise PhotoError("sidecar", f"{os.path.basename(sidecar)} has no end of its RDF; left as it is")
        at = ends[-1].start()
        after = bare[:at] + _block(regions, sides, orientation) + bare[at:]
        _check(after, regions, sides, orientation, sidecar)
    if after == before:
        return False
    if not regions and bare.strip() == _EMPTY.strip():
        os.unlink(sidecar)  # nothing is left in what was made for names alone
        return True
    with atomic_write(sidecar) as file:
        file.write(after.encode())
    return True


def _block(regions: Sequence[Region], sides: tuple[int, int], orientation: int) -> str:
    """One description with all regions; the fields are those of the Guidelines 2.0, section 5.9."""
    items = []
    for region in regions:
        x, y, width, height = turned_back(_inside(region.box), orientation)
        items.append(
            f"""      <rdf:li rdf:parseType="Resource"><mwg-rs:Name>{escape(region.name)}</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>"""
            f"""<mwg-rs:Area stArea:x="{x:.6f}" stArea:y="{y:.6f}" stArea:w="{width:.6f}" stArea:h="{height:.6f}" stArea:unit="normalized"/></rdf:li>"""
        )
    spaces = (
        ("rdf", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"),
        ("mwg-rs", "http://www.metadataworkinggroup.com/schemas/regions/"),
        ("stArea", "http://ns.adobe.com/xmp/sType/Area#"),
        ("stDim", "http://ns.adobe.com/xap/1.0/sType/Dimensions#"),
    )
    declared = " ".join(f'xmlns:{name}="{space}"' for name, space in spaces)
    lines = [
        f"  {_START}",
        f'  <rdf:Description rdf:about="" {declared}>',
        '   <mwg-rs:Regions rdf:parseType="Resource">',
        f'    <mwg-rs:AppliedToDimensions stDim:w="{sides[0]}" stDim:h="{sides[1]}" stDim:unit="pixel"/>',
        "    <mwg-rs:RegionList><rdf:Bag>",
        *items,
        "    </rdf:Bag></mwg-rs:RegionList>",
        "   </mwg-rs:Regions>",
        "  </rdf:Description>",
        f"  {_END}",
    ]
    return "\n".join(lines) + "\n"


def _inside(box: Box) -> Box:
    """The part of a face's box that lies on the photo: boxes may reach over its edge, regions may not."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    return left, top, min(box[0] + box[2], 1.0) - left, min(box[1] + box[3], 1.0) - top


def _check(text: str, regions: Sequence[Region], sides: tuple[int, int], orientation: int, sidecar: str) -> None:
    """What is written must be read again as what was meant, before it takes the place of anything."""
    found = parse_regions(text.encode(), sides, orientation)
    if [one.name for one in found.regions] != [one.name for one in dict.fromkeys(regions)] or found.remarks:
        raise PhotoError("sidecar", f"{os.path.basename(sidecar)} takes no regions where its RDF ends; left as it is")


def _text(sidecar: str) -> str | None:
    """A sidecar's text; None where there is none.

    Raises:
        PhotoError: it is too large, or neither ASCII nor UTF-8.
        OSError: it cannot be read.
    """
    if not os.path.exists(sidecar):
        return None
    if os.path.getsize(sidecar) > _LARGEST:
        raise PhotoError("sidecar", f"{os.path.basename(sidecar)} is over 64 MiB; left as it is")
    with open(sidecar, "rb") as file:
        data = file.read()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise PhotoError(
            "sidecar", f"{os.path.basename(sidecar)} defines entities, which no program writes; left as it is"
        )
    try:
        text = data.decode("utf-8")
        xml.fromstring(data)
    except (UnicodeDecodeError, xml.ParseError, ValueError) as error:
        raise PhotoError(
            "sidecar", f"{os.path.basename(sidecar)} is no XMP in UTF-8 ({str(error)[:60]}); left as it is"
        ) from error
    return text
