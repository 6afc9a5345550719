"""A batch of photos on its way: files in memory, faces found, chips cut."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.align import crop_landmarks
from faceembed.engine.detect.detections import Detections
from faceembed.engine.photos.decode import Photo
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.header import Header
from faceembed.engine.photos.photo_file import PhotoFile


@dataclasses.dataclass(frozen=True)
class Faces:
    """F faces of one batch. Coordinates are continuous pixels of the full upright photos."""

    photo: NDArray[np.int32]
    """(F,) position in the batch's photos."""
    face: NDArray[np.int32]
    """(F,) number of the face in its photo, the largest is 0."""
    boxes: NDArray[np.float32]
    """(F, 4) x1, y1, x2, y2."""
    landmarks: NDArray[np.float32]
    """(F, 5, 2)."""
    scores: NDArray[np.float32]
    sizes: NDArray[np.int32]
    """(F, 2) width and height of the photo."""
    beside: NDArray[np.int32]
    """(F,) how many other faces of the photo were seen on the way, where the largest alone was taken; else 0."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """What became of one batch of photos: each is in ``faces`` or in ``failures``."""

    photos: Sequence[PhotoFile]
    faces: Faces
    chips: NDArray[np.uint8]
    """uint8 RGB (F, H, W, 3)."""
    sizes: NDArray[np.int32]
    """(P, 2) upright width and height of each of the photos; 0 for one that could not be decoded."""
    failures: list[Failure]
    seconds: dict[str, float]
    """Seconds that one thread spent in each stage."""


@dataclasses.dataclass(frozen=True)
class Item:
    """A photo whose file is in memory, and how it will be decoded."""

    photo: PhotoFile
    data: bytes
    header: Header
    reduction: int
    pixels: NDArray[np.uint8] | None = None
    """uint8 RGB (H, W, 3) of a photo that was given decoded, in place of ``data``."""
    ordinary: bool = False
    """Whether it is known already that ``data`` is a JPEG of one or three colours, with its end marker, of which `whole.check_whole` has
    nothing to say: decoders of cards read it."""

    @property
    def decoded_bytes(self) -> int:
        """What its pixels will take."""
        return 3 * self.header.pixels // self.reduction**2


Read = Sequence[Item | Failure]
"""A batch whose files are in memory, or could not be read."""


def whole_crops(photos: Sequence[Photo]) -> tuple[Detections, dict[int, str]]:
    """Each square photo is one face whose landmarks are the template's."""
    refused = {
        index: f"not a square crop ({photo.width}x{photo.height}); --aligner none takes aligned faces"
        for index, photo in enumerate(photos)
        if photo.width != photo.height
    }
    kept = [index for index in range(len(photos)) if index not in refused]
    sides = [photos[index].width for index in kept]
    faces = Detections(
        np.array(kept, np.int32),
        np.array([(0, 0, side, side) for side in sides], np.float32).reshape(-1, 4),
        np.array([crop_landmarks(side, side) for side in sides], np.float32).reshape(-1, 5, 2),
        np.ones(len(kept), np.float32),
    )
    return faces, refused


def faces_of(photos: Sequence[Photo], faces: Detections, places: NDArray[np.int32]) -> Faces:
    """Faces in full pixels, numbered within their photos, which lie at ``places`` of the batch."""
    zoom = (
        np.array([photo.reduction for photo in photos], np.float32)[faces.photo]
        if len(faces)
        else np.ones(0, np.float32)
    )
    offset = np.array([photo.offset for photo in photos], np.float32).reshape(-1, 2)
    offset = offset[faces.photo] if len(faces) else np.zeros((0, 2), np.float32)
    counts = collections.Counter(faces.photo.tolist())
    number = itertools.chain.from_iterable(range(counts[index]) for index in sorted(counts))
    sizes = np.array([(photo.width, photo.height) for photo in photos], np.int32).reshape(-1, 2)
    return Faces(
        photo=places[faces.photo] if len(faces) else np.zeros(0, np.int32),
        face=np.fromiter(number, np.int32, len(faces)),
        boxes=faces.boxes * zoom[:, None] - np.tile(offset, 2),
        landmarks=faces.landmarks * zoom[:, None, None] - offset[:, None],
        scores=faces.scores,
        sizes=sizes[faces.photo] if len(faces) else np.zeros((0, 2), np.int32),
        beside=np.zeros(len(faces), np.int32) if faces.beside is None else faces.beside,
    )
