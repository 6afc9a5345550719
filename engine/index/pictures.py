"""The faces of photos as pictures: a thumbnail of one, and whether two of them are one picture.

pictures = index_pictures(load_faces(files), spec)
pictures.thumbnail("17"), pictures.compare("17", "18")   # rows of the index
"""

from __future__ import annotations

import collections
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.align import similarity_matrices, warp_chips
from faceembed.engine.index.shards import FaceTable
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.engine.photos.decode import Photo, decode
from faceembed.engine.photos.photo_file import decode_path
from faceembed.engine.photos.sidecar import read_photo
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.errors import PhotoError

SIDE = 96  # of a thumbnail, pixels
SAME_PICTURE = (
    0.97  # correlation of two faces' pixels; a guess, not tuned: few pairs of photos lie between 0.93 and 0.98
)
_ROOM = 1.7  # sides of the face's box that a thumbnail shows
_LEAST_FACE = 120  # pixels that a face should keep when its photo is decoded smaller
_GRID = 32  # the pixels that are compared: compression and scaling change these little
_KEPT = 512  # faces in memory

# Faces of an index of whatever encoder are compared in chips of one kind: ArcFace's and 19 pixels around.
_TEMPLATE = tuple((x + 19, y + 19) for x, y in ARCFACE_TEMPLATE)
CHIP = ModelSpec("chips", "encoder", (150, 150), dimension=1, template=_TEMPLATE)

Pixels = NDArray[np.uint8]


def index_pictures(faces: FaceTable, spec: ModelSpec) -> Pictures:
    """The faces of an index; their keys are the numbers of its rows, as text."""
    keys = [str(row) for row in range(len(faces))]
    boxes = np.stack([faces.rows.column(name).to_numpy() for name in "xywh"], axis=1)
    landmarks = faces.rows.column("landmarks").combine_chunks().flatten().to_numpy().reshape(-1, 10)
    paths = (decode_path(path) for path in faces.rows.column("path").to_pylist())
    return Pictures(
        dict(zip(keys, boxes, strict=True)),
        dict(zip(keys, landmarks, strict=True)),
        spec,
        files=dict(zip(keys, paths, strict=True)),
    )


class Pictures:
    """The faces of some photos.

    Args:
        boxes: path to (4,) x, y, width, height of the face that was embedded, pixels of the full upright photo.
        landmarks: path to (10,) its five points.
        spec: the encoder, for whose chips faces are compared.
        files: where the keys of ``boxes`` are no paths, for several faces of one photo: key to path.
    """

    def __init__(
        self,
        boxes: dict[str, NDArray[np.float32]],
        landmarks: dict[str, NDArray[np.float32]],
        spec: ModelSpec,
        *,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self._files = files or {}
        self._boxes = boxes
        self._landmarks = landmarks
        self._spec = spec
        self._faces: collections.OrderedDict[str, NDArray[np.float32] | None] = collections.OrderedDict()

    def thumbnail(self, path: str) -> bytes | None:
        """The face and what is around it as a small JPEG; the whole photo where no face was found, None if unreadable."""
        if path not in self._boxes:
            return thumbnail(self._files.get(path, path))
        read = self._read(path)
        if read is None:
            return None
        box = self._boxes[path]
        x, y = read.decoded(box[:2])
        width, height = (float(value) / read.reduction for value in box[2:])
        pixels = read.pixels
        room = max(width, height, 1.0) * _ROOM
        zoom = SIDE / room
        shift = [SIDE / 2 - zoom * (x + width / 2), SIDE / 2 - zoom * (y + height / 2)]
        if zoom < 1:  # antialiased: the photo is made smaller first
            pixels = cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA).astype(np.uint8)
            zoom = 1.0
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float64)
        square = cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(square, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
        return data.tobytes()

    def same(self, path_a: str, path_b: str) -> bool:
        """Whether two faces are one picture: scaled, cropped or compressed anew perhaps, but of one moment."""
        return bool(self.compare(path_a, path_b))

    def compare(self, path_a: str, path_b: str) -> bool | None:
        """The same; None where one of them cannot be read."""
        a, b = self._face(path_a), self._face(path_b)
        return None if a is None or b is None else float(a @ b) >= SAME_PICTURE

    def _face(self, path: str) -> NDArray[np.float32] | None:
        """The face's chip as a unit vector of grey values about their mean."""
        if path in self._faces:
            self._faces.move_to_end(path)
            return self._faces[path]
        self._faces[path] = found = self._make_face(path)
        if len(self._faces) > _KEPT:
            self._faces.popitem(last=False)
        return found

    def _make_face(self, path: str) -> NDArray[np.float32] | None:
        read = self._read(path)
        if read is None:
            return None
        points = read.decoded(self._landmarks[path].reshape(1, 5, 2)).astype(np.float32)
        matrices = similarity_matrices(points, self._spec)
        if not np.isfinite(matrices).all():
            return None
        chip = warp_chips([read.pixels], np.zeros(1, np.int32), matrices, self._spec)[0]
        grey = cv2.resize(cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY), (_GRID, _GRID), interpolation=cv2.INTER_AREA)
        values = grey.astype(np.float32).ravel()
        values -= values.mean()
        length = float(np.linalg.norm(values))
        return values / length if length > 0 else None

    def _read(self, path: str) -> Photo | None:
        """The upright photo, decoded smaller where its face is large; None if it cannot be read now."""
        try:
            data = read_photo(self._files.get(path, path))
            box = self._boxes[path]
            fits = [r for r in (1, 2, 4, 8) if max(float(box[2]), float(box[3])) / r >= _LEAST_FACE]
            return decode(data, reduction=max(fits, default=1))
        except PhotoError:
            return None
