"""A named place on a photo, and how places move when EXIF's orientation turns the picture upright, and back."""

from __future__ import annotations

import dataclasses

Box = tuple[float, float, float, float]
_BACK = {6: 8, 8: 6}
"""The orientation that undoes one; the others undo themselves."""


@dataclasses.dataclass(frozen=True)
class Region:
    """One face that somebody named."""

    name: str
    box: Box
    """x, y, width, height of the upright photo, as shares of its width and height."""


def turned(box: Box, orientation: int) -> Box:
    """From centre and sides in the stored picture to x, y, width, height in the upright one (EXIF 2.3, table 6)."""
    x, y, width, height = _moved(box, orientation)
    return x - width / 2, y - height / 2, width, height


def turned_back(box: Box, orientation: int) -> Box:
    """From x, y, width, height in the upright photo to centre and sides in the picture as it is stored."""
    x, y, width, height = box
    return _moved((x + width / 2, y + height / 2, width, height), _BACK.get(orientation, orientation))


def _moved(box: Box, orientation: int) -> Box:
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
    return (x, y, width, height) if orientation < 5 else (x, y, height, width)
