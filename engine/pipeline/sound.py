"""A batch without the faces that an encoder has no embedding of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batch import Cut, Faces
from faceembed.engine.runtimes.unit import NO_EMBEDDING

F = TypeVar("F", bound=Faces)


def without_embedding(photos: Sequence[PhotoFile], faces: Faces, sound: NDArray[np.bool_]) -> list[Failure]:
    """A failure for each photo all of whose faces have no embedding.

    Args:
        photos: of the batch.
        faces: F of them.
        sound: (F,) which have one, as `unit.is_sound` says.
    """
    lost = set(faces.photo[~sound].tolist()) - set(faces.photo[sound].tolist())
    return [Failure(photos[place], "encode", NO_EMBEDDING) for place in sorted(lost)]


def taken(faces: F, sound: NDArray[np.bool_]) -> F:
    """Some of the faces, in all their fields."""
    fields = {field.name: getattr(faces, field.name)[sound] for field in dataclasses.fields(faces)}
    return dataclasses.replace(faces, **fields)


def only_sound(cut: Cut, sound: NDArray[np.bool_]) -> Cut:
    """A batch without the faces that have no embedding; photos that lost all are failures."""
    if sound.all():
        return cut
    failures = [*cut.failures, *without_embedding(cut.photos, cut.faces, sound)]
    failures.sort(key=lambda failure: failure.photo.path)
    return dataclasses.replace(cut, faces=taken(cut.faces, sound), chips=cut.chips[sound], failures=failures)
