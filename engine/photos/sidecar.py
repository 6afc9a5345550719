"""Which way is up, where a program noted it beside the photo: ``photo.jpg.xmp``, as digiKam and exiftool write it.

It counts for a JPEG whose own EXIF data say nothing of it. The photo's bytes are given that orientation, so that all who read them turn it
alike; the file stays as it is. ``photo.xmp`` is not looked at: it is most often of a raw photo with the same name.
"""

from __future__ import annotations

import os
import re
import struct

from faceembed.engine.photos.archives.names import SEPARATOR
from faceembed.engine.photos.headers.jpeg import stated_orientation
from faceembed.engine.photos.places import is_photo_file
from faceembed.engine.photos.reading import MAX_BYTES, read_file
from faceembed.errors import PhotoError

ENDING = ".xmp"
_MOST_BYTES = 1 << 20  # of such a file
_ORIENTATION = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|\s*>)\s*([1-8])\s*[<"']""")


def read_photo(path: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A photo's bytes with what is noted beside it; arguments and errors as for `read_file`."""
    return with_sidecar(read_file(path, max_bytes=max_bytes), path)


def with_sidecar(data: bytes, path: str) -> bytes:
    """A photo's bytes with the orientation that is noted beside it, where they have none of their own.

    Args:
        data: of the photo.
        path: of the photo.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return data
    beside = path + ENDING
    there = is_photo_file(beside) if SEPARATOR in path else os.path.exists(beside)
    if not there or stated_orientation(data):
        return data
    try:
        noted = _ORIENTATION.search(read_file(beside, max_bytes=_MOST_BYTES))
    except PhotoError:
        return data  # it is no photo, and nothing is lost without it but the turn
    return _with_orientation(data, int(noted[1])) if noted and noted[1] != b"1" else data


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with EXIF data of one tag before all else (EXIF 2.32, 4.6.4)."""
    directory = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + directory
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + jpeg[2:]
