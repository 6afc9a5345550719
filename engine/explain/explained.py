"""What is known of two faces once they were explained. `report.explanation` shows it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from faceembed.engine.explain.deletion import Deletion
from faceembed.engine.explain.occlusion import Chip, Explanation
from faceembed.engine.photos.photo_file import encode_path
from faceembed.engine.pipeline.realness import Likeness


@dataclasses.dataclass(frozen=True)
class Explained:
    """Two faces, their maps, and what they say."""

    photos: tuple[str, str]
    chips: tuple[Chip, Chip]
    """The aligned faces, (H, W, 3)."""
    explanation: Explanation
    parts: tuple[dict[str, float], dict[str, float]]
    """Mean of the map in each part of the face, the largest first."""
    deletions: tuple[Deletion, Deletion]
    """How far each map is to be believed."""
    gated: bool
    """Whether maps and deletions are of the identity alone, because the encoder is gated; the similarity never is."""
    encoder: str
    threshold: float | None
    """The encoder's own, if one was measured."""
    runtime: dict[str, str]
    likeness: Likeness
    """How alike they are as people, and how real each looks, to a gated encoder."""
    faces: tuple[int, int] = (1, 1)
    """How many faces each photo has, of which the largest was taken."""

    def to_json_dict(self) -> dict[str, Any]:
        """The fields of ``explain --json``."""
        found = self.explanation
        maps = [np.round(values.astype(np.float64), 7).tolist() for values in (found.map_a, found.map_b)]
        return {
            "photos": [encode_path(photo) for photo in self.photos],
            "similarity": found.similarity,
            "identity": self.likeness.identity,
            "real": None if self.likeness.real_a is None else [self.likeness.real_a, self.likeness.real_b],
            "altered": None if self.likeness.real_a is None else list(self.likeness.altered),
            "faces": list(self.faces),
            "threshold": self.threshold,
            "encoder": self.encoder,
            "gated": self.gated,
            "method": found.method,
            **found.details,
            **self.runtime,
            "parts_a": self.parts[0],
            "parts_b": self.parts[1],
            "deletion_a": self.deletions[0].to_json_dict(),
            "deletion_b": self.deletions[1].to_json_dict(),
            "map_a": maps[0],
            "map_b": maps[1],
        }
