"""Names and places of faces that other programs wrote into a photo, or into files beside it.

    for region in read_regions("IMG.jpg").regions:
        region.name, region.box            # of the upright photo, as shares of its sides

Read are the face regions of XMP (`region_xml`) inside a JPEG, PNG, WebP, TIFF or HEIC file, and in ``IMG.jpg.xmp`` or ``IMG.xmp``, which go
first; where there are none, what Picasa and Google Takeout keep beside photos (`albums`). Their places are of the picture as it is stored; EXIF's
orientation, or the sidecar's where there is none, turns them upright. Regions of a picture that was turned without them are left out and said.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping

from faceembed.engine.photos.albums import picasa_regions, takeout_names
from faceembed.engine.photos.reading import MAX_BYTES, read_file
from faceembed.engine.photos.region_xml import Regions, parse_regions
from faceembed.engine.photos.sidecar import noted_orientation
from faceembed.errors import PhotoError
from faceembed.install import pip_install

_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_NOTED = re.compile(rb"HasExtendedXMP[\"'=>\s]+([0-9A-F]{32})")
_HEIC = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_LARGEST = 64 << 20  # bytes of a sidecar


@dataclasses.dataclass(frozen=True)
class Frame:
    """How a photo lies in its file."""

    sides: tuple[int, int]
    """Width and height as it is stored, in pixels."""
    orientation: int
    """By which it is turned upright, 1 to 8."""


def read_regions(path: str, contacts: Mapping[str, str] | None = None) -> Regions:
    """The named faces of a photo.

    Args:
        path: of a photo, one in an archive too; a sidecar beside it goes first, what is in it second, Picasa's ini third. Who is on it
            without a place, as Google Takeout says it, is in ``names`` where there are no regions.
        contacts: Picasa's names, from `read_contacts`.

    Raises:
        PhotoError: the photo cannot be read.
    """
    inside, frame = _opened(path)
    for sidecar in (f"{path}.xmp", f"{os.path.splitext(path)[0]}.xmp"):
        if os.path.isfile(sidecar) and os.path.getsize(sidecar) <= _LARGEST:
            with open(sidecar, "rb") as file:
                found = parse_regions(file.read(), frame.sides, frame.orientation)
            if found.regions or found.remarks:
                return found
    parts = [parse_regions(packet, frame.sides, frame.orientation) for packet in inside]
    regions = dict.fromkeys(region for part in parts for region in part.regions)
    remarks = [line for part in parts for line in part.remarks]
    if not regions:
        noted, lines = picasa_regions(path, contacts or {}, frame.orientation)
        regions, remarks = dict.fromkeys(noted), [*remarks, *lines]
    names = () if regions else tuple(takeout_names(path))
    return Regions(tuple(regions), tuple(dict.fromkeys(remarks)), names)


def frame_of(path: str) -> Frame:
    """How a photo lies in its file.

    Raises:
        PhotoError: it cannot be read.
    """
    return _opened(path)[1]


def _opened(path: str) -> tuple[list[bytes], Frame]:
    data = read_file(path, max_bytes=MAX_BYTES)
    inside, sides, orientation = _inside(data)
    return inside, Frame(sides, noted_orientation(data, path) or orientation)


def _inside(data: bytes) -> tuple[list[bytes], tuple[int, int], int]:
    """XMP packets of a file, its sides as stored, and EXIF's orientation."""
    from PIL import Image  # not where no regions are read

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs and broken EXIF: nothing is decoded
            if data[4:12] in _HEIC:
                return _inside_heic(data)
            with Image.open(io.BytesIO(data)) as picture:
                sides, packet = picture.size, picture.info.get("xmp")
                orientation = int(picture.getexif().get(274, 1))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise PhotoError("decode", f"its metadata cannot be read ({str(error).splitlines()[0][:100]})") from error
    packets = [packet if isinstance(packet, bytes) else packet.encode()] if packet else []
    return [*packets, *_extended(data, packets)], sides, orientation if 1 <= orientation <= 8 else 1


def _inside_heic(data: bytes) -> tuple[list[bytes], tuple[int, int], int]:
    """The same of a HEIC, which libheif turns upright by itself; what pillow-heif wrote was tried, a phone's file was not at hand."""
    try:
        from pillow_heif import HeifImageFile  # optional: HEIC
    except ImportError as error:
        raise PhotoError(
            "decode", f"a HEIC picture, which needs one more package; run: {pip_install('heif')}"
        ) from error
    with HeifImageFile(io.BytesIO(data)) as picture:
        orientation = int(picture.info.get("original_orientation") or 1)
        width, height = picture.size
        packet = picture.info.get("xmp")
    sides = (width, height) if orientation < 5 else (height, width)
    return [packet] if packet else [], sides, orientation if 1 <= orientation <= 8 else 1


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
