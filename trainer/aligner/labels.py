"""Where the faces are in the photos that an aligner learns from: one parquet row a photo.

    labels = read_labels("labels.parquet")
    labels[0].path, labels[0].boxes, labels[0].landmarks, labels[0].doubtful

Faces that the teacher is sure of are learnt; what it is not sure of is neither a face nor background. Each landmark has a weight:
where teachers differ it teaches less. Knows nothing of how the labels were made: that is `teacher` and `teachers`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.photo_file import decode_path, encode_path, printable
from faceembed.engine.photos.reading import read_file
from faceembed.errors import DataError, PhotoError
from faceembed.files import atomic_write
from faceembed.outputs import check_output

_COLUMNS = ("path", "group", "boxes", "landmarks", "doubtful")
_WEIGHTS = "weights"  # a column that files before version 2 do not have: all of their landmarks weigh 1
_UNSAID = np.ones((0, 5), np.float32)


@dataclasses.dataclass(frozen=True)
class LabelledPhoto:
    """One photo's faces. Coordinates are continuous pixels: a pixel's centre is at a half number."""

    path: str
    group: str
    """The set it belongs to; a training may draw sets in other shares than they have."""
    boxes: NDArray[np.float32]
    """(F, 4) x1, y1, x2, y2."""
    landmarks: NDArray[np.float32]
    """(F, 5, 2) left eye, right eye, nose tip, left and right mouth corner; left as seen in the image."""
    doubtful: NDArray[np.float32]
    """(D, 4) boxes that may or may not hold a face."""
    weights: NDArray[np.float32] = dataclasses.field(default_factory=_UNSAID.copy)
    """(F, 5) how much each landmark teaches, 0 to 1; left out: 1."""

    def __post_init__(self) -> None:
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones((len(self.boxes), 5), np.float32))
        if self.weights.shape != (len(self.boxes), 5):
            raise ValueError(f"weights of shape {self.weights.shape} for {len(self.boxes)} faces")


def yaw(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far faces (F, 5, 2) are turned to a side: (F,) the nose tip from the eyes' middle, along them, in eyes' distances.

    0 from the front; beyond 0.45 the nose is about as far out as an eye, in profile it is past it. Positive: to the image's right.
    """
    along = landmarks[:, 1] - landmarks[:, 0]
    middle = (landmarks[:, 0] + landmarks[:, 1]) / 2
    square = np.maximum(np.square(along).sum(axis=1), 1e-6)
    turned: NDArray[np.float32] = ((landmarks[:, 2] - middle) * along).sum(axis=1) / square
    return turned


def write_labels(path: str | os.PathLike[str], photos: Iterable[LabelledPhoto]) -> None:
    """Write labels; the file appears whole or not at all."""
    rows = [
        (
            encode_path(photo.path),
            photo.group,
            photo.boxes.reshape(-1).tolist(),
            photo.landmarks.reshape(-1).tolist(),
            photo.doubtful.reshape(-1).tolist(),
            photo.weights.reshape(-1).tolist(),
        )
        for photo in photos
    ]
    numbers = pa.list_(pa.float32())
    kinds = (pa.string(), pa.string(), numbers, numbers, numbers, numbers)
    columns = {
        name: pa.array([row[index] for row in rows], kind)
        for index, (name, kind) in enumerate(zip((*_COLUMNS, _WEIGHTS), kinds, strict=True))
    }
    check_output(path, "labels")
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns), file)


def read_labels(path: str | os.PathLike[str]) -> list[LabelledPhoto]:
    """Read what `write_labels` wrote.

    Raises:
        DataError: missing, damaged, or not such a file.
    """
    try:
        file = pq.ParquetFile(os.fspath(path))
        names = [*_COLUMNS, *((_WEIGHTS,) if _WEIGHTS in file.schema_arrow.names else ())]
        table = file.read(names, use_threads=False)  # as `rows.read_parquet`
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        return [
            LabelledPhoto(
                decode_path(name),
                group,
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array(landmarks, np.float32).reshape(-1, 5, 2),
                np.array(doubtful, np.float32).reshape(-1, 4),
                *(np.array(column, np.float32).reshape(-1, 5) for column in weights),
            )
            for name, group, boxes, landmarks, doubtful, *weights in rows
        ]
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        where = printable(os.fspath(path))
        raise DataError(
            f"{where} is not a file of face labels ({error}); make it with: faceembed data faces"
        ) from error


def bytes_of(path: str) -> bytes:
    """The file of a photo that was labelled.

    Raises:
        DataError: it cannot be read any more.
    """
    try:
        return read_file(path)
    except PhotoError as error:
        raise _gone(path, error) from error


def pixels_of(photo: LabelledPhoto) -> NDArray[np.uint8]:
    """A labelled photo, upright RGB (H, W, 3).

    Raises:
        DataError: it cannot be read any more.
    """
    try:
        return decode(read_file(photo.path)).pixels
    except PhotoError as error:
        raise _gone(photo.path, error) from error


def _gone(path: str, error: PhotoError) -> DataError:
    return DataError(
        f"{printable(path)} cannot be used any more ({error.reason}); mend it, or label the photos again: faceembed data faces"
    )
