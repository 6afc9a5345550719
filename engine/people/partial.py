"""What a run over people that has not ended has embedded already, beside the gallery that it is for, so that the next run goes on from there.

    work = Partial("staff.gallery", about)
    work.photos()              # of an earlier run of the same settings
    work.keep(photos)          # after every few
    work.end()                 # the gallery is written

It is a folder ``.staff.gallery.partial`` with a small gallery for each few hundred photos, each written whole or not at all. What another
encoder or other settings made is of no use and is let go.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceembed.engine.people.gallery import Gallery, Photo, read_gallery, write_gallery
from faceembed.errors import FaceEmbedError

_ENDING = ".part"


class Partial:
    """The unfinished work beside one gallery. Its user holds the gallery's lock.

    Args:
        gallery: the file that it will become.
        about: what made the embeddings, and all else that a photo's row depends on.
    """

    def __init__(self, gallery: str | os.PathLike[str], about: dict[str, Any]) -> None:
        path = Path(os.path.abspath(gallery))
        self._folder = path.with_name(f".{path.name}.partial")
        self._about = about

    def photos(self) -> list[Photo]:
        """Those of an earlier run; what is damaged, or was made otherwise, is let go."""
        found: list[Photo] = []
        for part in self._parts():
            try:
                held = read_gallery(part)
            except FaceEmbedError:
                held = None
            if held is None or any(held.about.get(key) != value for key, value in self._about.items()):
                part.unlink()
                continue
            found += held.photos
        return found

    def keep(self, photos: Sequence[Photo]) -> None:
        """Put some more aside.

        Raises:
            OSError: they cannot be written.
        """
        self._folder.mkdir(exist_ok=True)
        taken = [int(part.stem) for part in self._parts()]
        write_gallery(self._folder / f"{max(taken, default=0) + 1:06d}{_ENDING}", Gallery(self._about, tuple(photos)))

    def end(self) -> None:
        """It is in the gallery: nothing of it is left beside."""
        for part in self._parts():
            part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # somebody's own files in it stay

    def _parts(self) -> list[Path]:
        return sorted(part for part in self._folder.glob(f"*{_ENDING}") if part.stem.isdigit())
