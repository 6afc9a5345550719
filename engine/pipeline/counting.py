"""How many faces photos have, where one of each was taken: a look for the largest stops when it has it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.chips import Cutter


def count_faces(cutter: Cutter, photos: Sequence[PhotoFile]) -> dict[str, int]:
    """Path to the number of faces, at least 1, of photos that have one; looks at each a second time.

    Args:
        cutter: the one that found a face in each of them.
        photos: those photos.
    """
    if cutter.detector is None:  # crops: one face each
        return {}
    looking = Cutter(
        dataclasses.replace(cutter.settings, faces="all"), cutter.detector, cutter.spec, workers=cutter.workers
    )
    found: dict[str, int] = {}
    with contextlib.closing(looking.cut(photos)) as cuts:
        for cut in cuts:
            numbers = np.bincount(cut.faces.photo, minlength=len(cut.photos)).tolist()
            found.update({photo.path: max(number, 1) for photo, number in zip(cut.photos, numbers, strict=True)})
    return found
