"""The people whom a server knows: a gallery's file, read anew when it changes, and changed by those who may.

    people = PeopleFile("staff.gallery", spec)
    people.current().candidates(faces)
    people.add("ann", [(digest, face)]); people.rename("ann", "Ann"); people.remove("bob")

Photos that are sent are not stored: of each the gallery keeps the embedding and a digest. After a change of encoder they have to be sent again.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faceembed.engine.index.pictures import CHIP, Pictures
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.people.enrolling import check_encoder_of
from faceembed.engine.people.gallery import SENT, Gallery, Person, Photo, read_gallery
from faceembed.engine.photos.photo_file import decode_path, digest_of, encode_path, photo_file, printable
from faceembed.engine.pipeline.serving import Face
from faceembed.engine.verbs import gallery_people as verbs
from faceembed.engine.verbs.identify import Identifier

_KEPT = 512  # pictures of faces in memory, of some 4 kB


@dataclasses.dataclass(frozen=True)
class OnePhoto:
    """One photo of somebody, as a page shows it."""

    id: str
    file: str | None
    """The file's name without its folders, which are the server's own; None of a photo that was sent."""
    alike: float | None
    """Cosine with the mean of their other photos; None without one."""
    reason: str | None
    """Why it cannot be used."""
    picture: bytes | None
    """Its face, JPEG; None where the photo is gone or not the one that was embedded."""


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
        self._picture = functools.lru_cache(_KEPT)(_picture_of)
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

    def photos(self, person: Person) -> list[OnePhoto]:
        """Somebody's photos: those least like the others first, as one of somebody else would be; then those that cannot be used."""
        usable = person.embeddings
        others = usable.sum(axis=0) - usable if len(usable) > 1 else np.zeros_like(usable)
        lengths = np.linalg.norm(others, axis=1)
        near = [
            float(v @ rest / length) if length else None
            for v, rest, length in zip(usable, others, lengths, strict=True)
        ]
        alike = dict(zip((photo.path for photo in person.usable), near, strict=True))
        found = [
            OnePhoto(photo_id(p.path), _shown(p.path), alike.get(p.path), p.reason, self.picture(p))
            for p in person.photos
        ]
        return sorted(found, key=lambda one: (one.reason is not None, 2.0 if one.alike is None else one.alike))

    def face(self, person: Person) -> bytes | None:
        """A picture of somebody: of the photo of highest quality that is there."""
        for photo in sorted(person.usable, key=lambda one: -float(one.row["score"]))[:3]:
            if (picture := self.picture(photo)) is not None:
                return picture
        return None

    def picture(self, photo: Photo) -> bytes | None:
        """A photo's face, JPEG; None where its file is gone or another."""
        if photo.embedding is None or photo.path.startswith(SENT):
            return None
        path, stamp = decode_path(photo.path), (photo.row["size"], photo.row["mtime_ns"])
        if photo_file(path).stamp != stamp:
            return None
        return self._picture(path, stamp, tuple(float(photo.row[side]) for side in "xywh"))


def photo_id(path: str) -> str:
    """What a photo is called towards clients, who need not know where it lies."""
    return digest_of(path.encode())


def _shown(path: str) -> str | None:
    return None if path.startswith(SENT) else printable(encode_path(os.path.basename(decode_path(path))))


def _picture_of(path: str, stamp: tuple[int, int], box: tuple[float, ...]) -> bytes | None:
    """The face in a box, kept under what tells that file from another."""
    return Pictures({path: np.array(box, np.float32)}, {}, CHIP).thumbnail(path)


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
