"""A photo's bytes with a note before them of which way is up, for formats that have no room for it, or whose room is another library's.

data = with_note(data, 6)             # `probe` and `decode` take it like any photo
data, orientation = parted(data)      # for who hands bytes to a library
"""

from __future__ import annotations

_MARK = b"faceembed: which way is up: "


def with_note(data: bytes, orientation: int) -> bytes:
    """The bytes under a note.

    Args:
        data: of a photo that says nothing of it.
        orientation: 1 to 8, as in EXIF.
    """
    return _MARK + bytes([orientation]) + data


def parted(data: bytes) -> tuple[bytes, int]:
    """The photo's own bytes, and the noted orientation; 0 where there is no note."""
    if not data.startswith(_MARK) or not 1 <= data[len(_MARK)] <= 8:
        return data, 0
    return data[len(_MARK) + 1 :], data[len(_MARK)]
