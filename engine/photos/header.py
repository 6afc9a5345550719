"""What a picture's first bytes say: its kind, its size, which way is up, and how its pixels must be read."""

from __future__ import annotations

import dataclasses

PLAIN = "plain"
RAW = "raw"
"""The `Header.way` of cameras' raw files, of which the picture inside is read (`raw`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """Format, upright size, and what `decode` has to know."""

    format: str
    width: int
    """Of the upright picture, in pixels."""
    height: int
    orientation: int = 1
    """1 to 8 as in EXIF: how the decoded pixels are to be turned. 1 also where the decoder turns them itself (TIFF)."""
    way: str = PLAIN
    """Which of the ways in `decode` reads the pixels right; ``plain`` is OpenCV without further ado."""
    directory: int = 0
    """TIFF: where in the file the page begins that is to be read; 0 for the first."""

    exact: bool = True
    """Whether width and height are those of the upright picture. If not, the decoder knows, and these bound its pixels."""
    colours: int = dataclasses.field(default=0, compare=False)
    """JPEG: colour components of its frame; 0 in other formats."""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def upright(format: str, width: int, height: int, orientation: int, way: str = PLAIN, *, colours: int = 0) -> Header:
    """A header from the stored size: width and height change places where the orientation lays the picture on its side."""
    if orientation >= 5:
        width, height = height, width
    return Header(format, width, height, orientation, way, colours=colours)


def turned(header: Header, orientation: int) -> Header:
    """The header of a picture that says nothing of its orientation, with one that is known from elsewhere."""
    sides = (header.height, header.width) if orientation >= 5 else (header.width, header.height)
    return dataclasses.replace(header, width=sides[0], height=sides[1], orientation=orientation)
