"""The one interface that every kind of aligner fills."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import RuntimeChoice

Photos = Sequence[NDArray[np.uint8]]


class Detector(abc.ABC):
    """Finds faces and their landmarks. `detect` may be called from several threads at once."""

    model: Model
    choice: RuntimeChoice
    min_score: float = 0.0
    """Score from which on a face is sure. Where one face a photo is wanted, a face below never wins over one that is sure."""
    turns: bool = False
    """Whether photos without a sure face are looked at turned (`turned`): where its scores from which on that is right were measured."""
    confirms: bool = False
    """Whether doubtful ones of all faces of a photo are looked at again (`confirm`): where the scores of that were measured."""
    tiles: bool = True
    """Whether small faces in large photos may be looked for in tiles (`tiles`), which are cut out on the host."""
    capped: int = 0
    """Photos so far that were searched smaller than the smallest face wanted needs, as what computes takes no larger picture."""

    @abc.abstractmethod
    def detect(self, photos: Photos, min_faces: Sequence[float], *, only_largest: bool) -> Detections:
        """Find faces.

        Args:
            photos: uint8 RGB (H, W, 3), any sizes.
            min_faces: for each photo the smallest face wanted, as a side in its pixels.
            only_largest: keep at most one face a photo: the one of highest `Detections.prominence` among those that are sure, or
                the one of highest score where none is.

        Returns:
            The faces, in pixels of ``photos``.
        """

    def glance(self, photos: Photos, min_faces: Sequence[float], least: float) -> Detections:
        """All faces of at least some score in small pictures, in one look where that is enough.

        Args:
            photos, min_faces: as for `detect`.
            least: score.
        """
        faces = self.detect(photos, min_faces, only_largest=False)
        return faces.take(faces.scores >= np.float32(least))

    def sharpened(self, photo: NDArray[np.uint8], faces: Detections) -> Detections:
        """The same faces with exact landmarks, where they were found in a coarser copy of a photo. By itself, as they are.

        Args:
            photo: uint8 RGB (H, W, 3).
            faces: in pixels of ``photo``, all of them in it (``faces.photo`` is 0).
        """
        return faces

    @abc.abstractmethod
    def exact(self) -> Detector:
        """The same detector in fp32, on one thread."""
