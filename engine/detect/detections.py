"""Faces found in a batch of photos, as flat arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Detections:
    """F faces in a batch. Coordinates are continuous pixels of the decoded photo: a pixel's centre is at a half number.

    Faces are ordered by photo, then by falling score.
    """

    photo: NDArray[np.int32]
    """(F,) index of the photo in the batch."""
    boxes: NDArray[np.float32]
    """(F, 4) x1, y1, x2, y2."""
    landmarks: NDArray[np.float32]
    """(F, 5, 2) left eye, right eye, nose tip, left and right mouth corner; left as seen in the image."""
    scores: NDArray[np.float32]
    """(F,) probability of a face, 0 to 1."""

    def __len__(self) -> int:
        return len(self.photo)

    @classmethod
    def none(cls) -> Detections:
        """No face at all."""
        return cls(
            np.zeros(0, np.int32),
            np.zeros((0, 4), np.float32),
            np.zeros((0, 5, 2), np.float32),
            np.zeros(0, np.float32),
        )

    @classmethod
    def concatenate(cls, parts: list[Detections]) -> Detections:
        """All faces of ``parts``, in that order."""
        if not parts:
            return cls.none()
        return cls(
            np.concatenate([part.photo for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.landmarks for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | NDArray[np.intp]) -> Detections:
        """The faces at ``index`` (positions or a mask)."""
        return Detections(self.photo[index], self.boxes[index], self.landmarks[index], self.scores[index])

    def sides(self) -> NDArray[np.float32]:
        """(F,) each face's side in pixels: the square root of its box's area."""
        width, height = (np.maximum(self.boxes[:, 2 + axis] - self.boxes[:, axis], 0) for axis in (0, 1))
        sides: NDArray[np.float32] = np.sqrt(width * height)
        return sides

    def largest(self) -> Detections:
        """At most one face a photo: the one with the largest side (the first of equals)."""
        order = np.lexsort((-self.sides(), self.photo))
        first = np.ones(len(order), bool)
        first[1:] = self.photo[order][1:] != self.photo[order][:-1]
        return self.take(order[first])
