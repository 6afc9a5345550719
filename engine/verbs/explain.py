"""The verb `explain`: two photos, and which parts of their faces make them similar.

    explained = explain_photos("a.jpg", "b.jpg")
    write_explanation_html("why.html", explained)        # report.explanation

What is not known here: how a map is made (`explain`, `faceembed.trainer.gradients.explain`) and drawn (`report.explanation`).
"""

from __future__ import annotations

import os

from faceembed.engine.explain.deletion import deletion
from faceembed.engine.explain.explained import Explained
from faceembed.engine.explain.face_parts import part_means
from faceembed.engine.explain.occlusion import Explanation, OcclusionSettings, explain
from faceembed.engine.explain.subject import Subject, open_subject
from faceembed.engine.pipeline.encodes import identities, identity
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.realness import Likeness
from faceembed.engine.pipeline.settings import EmbedSettings


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
    subject = open_subject(settings or EmbedSettings(), paths, count=True, notice=notice)
    chips = subject.faces(paths)
    return explained(
        subject, paths, explain(subject.encoder, chips[0], chips[1], gated=subject.spec.gated, settings=occlusion)
    )


def explained(subject: Subject, paths: tuple[str, str], explanation: Explanation) -> Explained:
    """Judge an explanation of the faces of two photos, and sum it up."""
    chips = subject.faces(paths)
    encoder, whole = identity(subject.encoder, subject.spec), subject.vectors(chips)
    vectors = identities(whole) if subject.spec.gated else whole
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
        Likeness.of(whole[0], whole[1], spec),
        (subject.found.get(paths[0], 1), subject.found.get(paths[1], 1)),
    )


def absolute(photo_a: str | os.PathLike[str], photo_b: str | os.PathLike[str]) -> tuple[str, str]:
    """Both paths, absolute."""
    return os.path.abspath(os.fspath(photo_a)), os.path.abspath(os.fspath(photo_b))
