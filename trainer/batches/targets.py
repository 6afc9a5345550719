"""What other encoders say of the crops' photos: targets to learn from, read out of indexes that `faceembed embed` made of them.

    targets = read_targets(config.teachers, crops)
    targets.vectors[number]                          # float32 (D,) of the crop `number`; NaN where a teacher found no face

So any encoder that the engine runs can teach, with its own chips, and runs once. Several teachers are joined in one vector whose inner
product is the sum of their similarities, each in units of the spread of its own strangers:

    part = sqrt(weight / s) * (u - centre * m)

with u the unit embedding, m its mean over the crops and s the standard deviation of the cosines of different people. Vectors are divided
by the root mean square of their lengths. A share of the mean is taken away because a cosine of joined parts orders strangers less well
where all of them share a large one, and better with a part of it than with none where lengths mean something (see `loop/centre.py`).
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import load_faces
from faceembed.engine.photos.photo_file import decode_path, printable
from faceembed.errors import DataError
from faceembed.trainer.batches.dataset import Crops
from faceembed.trainer.recipes.goals import Teachers

Vectors = NDArray[np.float32]
_SAMPLE = 4000  # crops whose pairs measure the spread of strangers: 8 million of them


@dataclasses.dataclass(frozen=True)
class Targets:
    """One vector a crop."""

    vectors: Vectors
    """float32 (crops, D); NaN in the rows of crops that no teacher, or not every teacher, saw."""
    missing: int
    """Crops without one."""


def read_targets(teachers: Teachers, crops: Crops) -> Targets:
    """The targets of all crops.

    Args:
        teachers: the indexes and how they are joined.
        crops: whose photos they are of.

    Raises:
        DataError: an index holds several faces of a photo, or none of the crops' photos; or one person only is there.
        IndexFormatError: an index cannot be read.
    """
    places = {os.path.abspath(photo): number for number, photo in enumerate(crops.photos)}
    parts = [
        _part(_units(path, places), weight, teachers.centre, crops.person)
        for path, weight in zip(teachers.indexes, teachers.shares, strict=True)
    ]
    vectors = np.concatenate(parts, axis=1)
    seen = np.isfinite(vectors).all(axis=1)
    if not seen.any():
        raise DataError(
            f"no crop's photo is in all of {', '.join(map(printable, teachers.indexes))}; embed the same folders"
        )
    vectors /= np.sqrt(np.square(vectors[seen]).sum(axis=1).mean())
    vectors[~seen] = np.nan
    return Targets(vectors.astype(np.float32), int(np.count_nonzero(~seen)))


def _units(path: str, places: dict[str, int]) -> NDArray[np.float64]:
    """Unit embeddings of an index, in the crops' order; NaN where there is none."""
    faces = load_faces(IndexFiles.of(path))
    found = [places.get(os.path.abspath(decode_path(row)), -1) for row in faces.rows.column("path").to_pylist()]
    numbers = np.array(found, np.int64)
    known = numbers >= 0
    if not known.any():
        raise DataError(
            f"{printable(path)} holds none of the photos that the crops were cut from; embed the same folders: "
            "faceembed embed PEOPLE -o FILE.faiss --encoder TEACHER"
        )
    chosen, counts = np.unique(numbers[known], return_counts=True)
    if counts.max() > 1:
        photo = next(photo for photo, number in places.items() if number == chosen[counts.argmax()])
        raise DataError(
            f"{printable(path)} holds {counts.max()} faces of {printable(photo)}; a crop shows the largest one: embed again "
            "with --faces largest"
        )
    units = np.full((len(places), faces.vectors.shape[1]), np.nan)
    vectors = faces.vectors[known].astype(np.float64)
    units[numbers[known]] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def _part(units: NDArray[np.float64], weight: float, centre: float, person: NDArray[np.int64]) -> NDArray[np.float64]:
    seen = np.flatnonzero(np.isfinite(units).all(axis=1))
    sample = seen[:: max(len(seen) // _SAMPLE, 1)][:_SAMPLE]
    cosines = units[sample] @ units[sample].T
    strangers = cosines[person[sample][:, None] != person[sample][None]]
    if not len(strangers) or not (spread := float(strangers.std())):
        raise DataError(
            "the crops that the teachers saw show one person only; how far strangers lie apart cannot be told"
        )
    part: NDArray[np.float64] = np.sqrt(weight / spread) * (units - centre * units[seen].mean(axis=0))
    return part
