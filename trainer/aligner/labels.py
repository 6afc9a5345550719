"""Where the faces are in the photos that an aligner learns from: one parquet row a photo.

    labels = read_labels("labels.parquet")
    labels[0].path, labels[0].boxes, labels[0].landmarks, labels[0].doubtful

Faces that the teacher is sure of are learnt; what it is not sure of is neither a face nor background. Knows nothing of how the
labels were made: that is `teacher`.
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


def write_labels(path: str | os.PathLike[str], photos: Iterable[LabelledPhoto]) -> None:
    """Write labels; the file appears whole or not at all."""
    rows = [
        (
            encode_path(photo.path),
            photo.group,
            photo.boxes.reshape(-1).tolist(),
            photo.landmarks.reshape(-1).tolist(),
            photo.doubtful.reshape(-1).tolist(),
        )
        for photo in photos
    ]
    numbers = pa.list_(pa.float32())
    kinds = (pa.string(), pa.string(), numbers, numbers, numbers)
    columns = {
        name: pa.array([row[index] for row in rows], kind)
        for index, (name, kind) in enumerate(zip(_COLUMNS, kinds, strict=True))
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
        table = pq.ParquetFile(os.fspath(path)).read(list(_COLUMNS), use_threads=False)  # as `rows.read_parquet`
        rows = zip(*(table.column(name).to_pylist() for name in _COLUMNS), strict=True)
        return [
            LabelledPhoto(
                decode_path(name),
                group,
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array(landmarks, np.float32).reshape(-1, 5, 2),
                np.array(doubtful, np.float32).reshape(-1, 4),
            )
            for name, group, boxes, landmarks, doubtful in rows
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
