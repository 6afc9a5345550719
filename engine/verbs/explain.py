"""The verb `explain`: two photos, and which parts of their faces make them similar.

    explained = explain_photos("a.jpg", "b.jpg")
    explained.write_html("why.html")

What is not known here: how a map is made (`explain`, `faceembed.trainer.gradients.explain`) and drawn (`report.explanation`).
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from faceembed.engine.explain.deletion import Deletion, deletion
from faceembed.engine.explain.face_parts import part_means
from faceembed.engine.explain.occlusion import Chip, Explanation, OcclusionSettings, explain
from faceembed.engine.explain.subject import Notify, Subject, identity, open_subject
from faceembed.engine.photos.listing import encode_path
from faceembed.engine.pipeline.settings import EmbedSettings


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

    def to_json_dict(self) -> dict[str, Any]:
        """The fields of ``explain --json``."""
        found = self.explanation
        maps = [np.round(values.astype(np.float64), 7).tolist() for values in (found.map_a, found.map_b)]
        return {
            "photos": [encode_path(photo) for photo in self.photos],
            "similarity": found.similarity,
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

    def write_png(self, path: str | os.PathLike[str]) -> None:
        """Draw both faces with their maps.

        Raises:
            OSError: the file cannot be written.
        """
        from faceembed.engine.report.explanation import write_explanation_png

        write_explanation_png(path, self)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write faces, maps and figures as one self-contained page.

        Raises:
            OSError: the file cannot be written.
        """
        from faceembed.engine.report.explanation import write_explanation_html

        write_explanation_html(path, self)


def explain_photos(
    photo_a: str | os.PathLike[str],
    photo_b: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    occlusion: OcclusionSettings | None = None,
    notice: Notify = lambda line: None,
) -> Explained:
    """Explain the similarity of the largest faces of two photos by occlusion, on any runtime.

    Args:
        photo_a, photo_b: photo files.
        settings: models and runtime; precision ``auto`` means fp32, as single windows move a similarity little.
        occlusion: how faces are covered.
        notice: called with lines for the user.

    Raises:
        DataError: a photo cannot be read or has no face.
    """
    paths = absolute(photo_a, photo_b)
    subject = open_subject(settings or EmbedSettings(), paths, notice=notice)
    chips = subject.faces(paths)
    return explained(
        subject, paths, explain(subject.encoder, chips[0], chips[1], gated=subject.spec.gated, settings=occlusion)
    )


def explained(subject: Subject, paths: tuple[str, str], explanation: Explanation) -> Explained:
    """Judge an explanation of the faces of two photos, and sum it up."""
    chips = subject.faces(paths)
    encoder = identity(subject.encoder, subject.spec)
    vectors = encoder.encode(chips)[0]
    maps = (explanation.map_a, explanation.map_b)
    first, second = (deletion(encoder, chips[i], vectors[1 - i], values) for i, values in enumerate(maps))
    parts_a, parts_b = (part_means(values, subject.spec.template) for values in maps)
    spec = subject.spec
    return Explained(
        paths,
        (chips[0], chips[1]),
        explanation,
        (parts_a, parts_b),
        (first, second),
        spec.gated,
        spec.name,
        spec.threshold,
        subject.runtime,
    )


def absolute(photo_a: str | os.PathLike[str], photo_b: str | os.PathLike[str]) -> tuple[str, str]:
    """Both paths, absolute."""
    return os.path.abspath(os.fspath(photo_a)), os.path.abspath(os.fspath(photo_b))
