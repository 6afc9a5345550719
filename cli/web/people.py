"""The people whom a server knows: a gallery's file, read anew when it changes, and changed by those who may.

    people = PeopleFile("staff.gallery", spec)
    people.current().candidates(faces)
    people.add("ann", [(digest, face)]); people.rename("ann", "Ann"); people.remove("bob")

Photos that are sent are not stored: of each the gallery keeps the embedding and a digest. After a change of encoder they have to be sent again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.people.enrolling import check_encoder_of
from faceembed.engine.people.gallery import SENT, Gallery, Photo, read_gallery
from faceembed.engine.photos.photo_file import digest_of, printable
from faceembed.engine.pipeline.serving import Face
from faceembed.engine.verbs import gallery_people as verbs
from faceembed.engine.verbs.identify import Identifier


class PeopleFile:
    """A gallery that a server asks and changes. Every method may be called from several threads.

    Args:
        path: made by `enrol`.
        spec: the server's encoder.
        fpir: as for `identify`.

    Raises:
        DataError, IndexFormatError: no such gallery, a damaged one, or another encoder's.
    """

    def __init__(self, path: str | os.PathLike[str], spec: ModelSpec, *, fpir: float | None = None) -> None:
        self.path = Path(path)
        self._spec, self._fpir = spec, fpir
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._read()

    def gallery(self) -> Gallery:
        """As it is on disk now."""
        return self._read()[0]

    def current(self) -> Identifier:
        """What answers who somebody is."""
        return self._read()[1]

    def _read(self) -> tuple[Gallery, Identifier]:
        with self._lock:
            info = os.stat(self.path)
            stamp = (info.st_ino, info.st_size, info.st_mtime_ns)
            if stamp != self._stamp:
                opened = read_gallery(self.path)
                check_encoder_of(opened, printable(os.fspath(self.path)), self._spec)
                self._held = opened, Identifier(opened, self._spec, fpir=self._fpir)
                self._stamp = stamp
            return self._held

    def add(self, name: str, faces: Sequence[tuple[bytes, Face, tuple[int, int]]]) -> int:
        """Add photos of somebody; returns how many there are of them now.

        Args:
            name: whose they are.
            faces: of each photo its bytes, its face, and its width and height.

        Raises:
            UsageError: the name is none, or too like another.
            IndexBusyError: another process writes the gallery.
        """
        rows = [_photo(data, face, size) for data, face, size in faces]
        return verbs.add_photos(self.path, name, rows)


def _photo(data: bytes, face: Face, size: tuple[int, int]) -> Photo:
    x, y, width, height = face.box
    row = {
        "path": SENT + digest_of(data),
        "face": 0,
        "x": x,
        "y": y,
        "w": width,
        "h": height,
        "landmarks": face.landmarks.ravel().tolist(),
        "score": face.score,
        "norm": face.norm,
        "real": face.real,
        "quality": face.quality,
        "sharpness": face.sharpness,
        "yaw": face.yaw,
        "roll": face.roll,
        "image_width": size[0],
        "image_height": size[1],
        "size": len(data),
        "mtime_ns": 0,
        "ctime_ns": 0,
        "digest": digest_of(data),
    }
    return Photo("", row, face.embedding)
