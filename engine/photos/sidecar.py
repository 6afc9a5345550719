"""Which way is up, where a program noted it beside the photo: ``photo.jpg.xmp``, as digiKam and darktable write it, or ``photo.xmp``, as
Lightroom does.

It counts where the photo's own bytes say nothing of it. The bytes are given that orientation, so that all who read them turn it alike;
the file stays as it is. ``photo.xmp`` does not count where it is another file's: it says of which ending (``SidecarForExtension``), or a
raw photo of that name lies beside.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator

from faceembed.engine.photos.archives.names import SEPARATOR
from faceembed.engine.photos.noted import with_note
from faceembed.engine.photos.places import is_photo_file
from faceembed.engine.photos.reading import MAX_BYTES, read_file
from faceembed.engine.photos.stated import says_its_orientation
from faceembed.errors import PhotoError

ENDING = ".xmp"
_MOST_BYTES = 1 << 20  # of such a file
_ORIENTATION = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|\s*>)\s*([1-8])\s*[<"']""")
_FOR = re.compile(rb"""photoshop:SidecarForExtension(?:\s*=\s*["']|\s*>)\s*(\w+)\s*[<"']""")
_RAWS = (
    "dng",
    "cr2",
    "cr3",
    "crw",
    "nef",
    "nrw",
    "arw",
    "srf",
    "sr2",
    "raf",
    "orf",
    "rw2",
    "pef",
    "srw",
    "x3f",
    "3fr",
    "iiq",
    "rwl",
)


def read_photo(path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A photo's bytes with what is noted beside it; arguments and errors as for `read_file`."""
    return with_sidecar(read_file(path, max_bytes=max_bytes), path)


def with_sidecar(data: bytes, path: str) -> bytes:
    """A photo's bytes with the orientation that is noted beside it, where they have none of their own.

    Args:
        data: of the photo.
        path: of the photo.
    """
    orientation = noted_orientation(data, path)
    if orientation in (0, 1):
        return data
    return _with_orientation(data, orientation) if data.startswith(b"\xff\xd8\xff") else with_note(data, orientation)


def noted_orientation(data: bytes, path: str) -> int:
    """The orientation beside a photo that says nothing of it itself, 1 to 8; 0 where there is none, or where it does not count.

    Args:
        data: of the photo.
        path: of the photo.
    """
    for beside in _beside(path):
        if not (is_photo_file(beside) if SEPARATOR in beside else os.path.exists(beside)):
            continue
        try:
            packet = read_file(beside, max_bytes=_MOST_BYTES)
        except PhotoError:
            continue  # it is no photo, and nothing is lost without it but the turn
        noted = _ORIENTATION.search(packet)
        if noted and (beside == path + ENDING or _is_of(packet, path)):
            return 0 if says_its_orientation(data) else int(noted[1])
    return 0


def _beside(path: str) -> Iterator[str]:
    yield path + ENDING
    stem, ending = os.path.splitext(path)
    if ending and SEPARATOR not in ending:  # in an archive a name may have no ending, or a number behind it
        yield stem + ENDING


def _is_of(packet: bytes, path: str) -> bool:
    """Whether ``photo.xmp`` is about this one of the files called ``photo``."""
    stem, ending = os.path.splitext(path)
    ending = ending[1:].lower()
    if of := _FOR.search(packet):
        return of[1].decode("ascii", "replace").lower() == ending
    return ending in _RAWS or not any(is_photo_file(f"{stem}.{raw}") for name in _RAWS for raw in (name, name.upper()))


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with EXIF data of one tag before all else (EXIF 2.32, 4.6.4): a card decodes such as it is."""
    directory = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + directory
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + jpeg[2:]
