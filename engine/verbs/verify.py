"""The verb `verify`: whether two photos show one person."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.likelihood import probability, strangers_as_alike
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.models.thresholds import threshold_of
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.few_photos import embed_photos
from faceembed.engine.pipeline.progress import Notify
from faceembed.engine.pipeline.realness import Likeness
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, UsageError


@dataclasses.dataclass(frozen=True)
class Verification:
    """The verdict on two photos; the fields of ``verify --json``."""

    similarity: float
    """Cosine, in [-1, 1]."""
    threshold: float
    same: bool
    encoder: str
    threshold_source: str
    identity: float | None = None
    """Cosine of the identities alone, of a gated encoder: whether it is one person, whatever the photos are made of."""
    real: tuple[float, float] | None = None
    """How real the face of each photo looks to a gated encoder, 0 to 1."""
    altered: tuple[bool, bool] | None = None
    """Whether the face of each photo looks altered to it."""
    remark: str | None = None
    """A sentence where the photos show one person by identity and one of them looks altered."""
    faces: tuple[int, int] = (1, 1)
    """How many faces each photo has."""
    chosen: tuple[int, int] | None = None
    """With ``--faces all``: the pair of faces that is most alike, from 0, largest first; None: the largest of each."""
    similarities: list[list[float]] | None = None
    """With ``--faces all``: of each face of the first photo to each of the second."""
    fmr: float | None = None
    """The share of strangers who are as alike, or more; None where no rates were measured for the encoder."""
    fmr_side: str | None = None
    """``about``; or ``below`` or ``above`` where the similarity lies outside of the rates that were measured, and ``fmr`` is the nearest."""
    strangers: str | None = None
    """The same in words."""
    probability: float | None = None
    """That it is one person, at even odds; None where it was not fitted for the encoder."""


def verify(
    photo_a: str | os.PathLike[str],
    photo_b: str | os.PathLike[str],
    *,
    settings: EmbedSettings | None = None,
    threshold: float | None = None,
    fmr: float | None = None,
    every: bool = False,
    notice: Notify = lambda line: None,
) -> Verification:
    """Whether two photos show one person, by the largest face of each.

    Args:
        photo_a: a photo file.
        photo_b: another.
        settings: models and runtime; ``faces`` is as ``every`` says.
        threshold: cosine from which on they count as one person; None takes the encoder's own.
        fmr: the false match rate instead, of those that were measured for the encoder (0.01, 0.001, ...).
        every: compare all faces with all, and judge the pair that is most alike.
        notice: called with lines for the user.

    Raises:
        DataError: a photo cannot be read or has no face.
        UsageError: the encoder has no threshold of its own and none was given, or none at this rate.

    Example:
        faceembed.verify("a.jpg", "b.jpg").same
    """
    settings = settings or EmbedSettings()
    spec = loading.resolve_models(settings).encoder.spec
    limit, source = limit_for(spec, threshold=threshold, fmr=fmr)
    paths = [os.path.abspath(os.fspath(photo)) for photo in (photo_a, photo_b)]
    embedded = embed_photos(paths, settings, every=every, count=True, notice=notice)
    for path in paths:
        if reason := embedded.failures.get(path):
            raise DataError(f"{printable(path)}: {reason}")
    a, b = (embedded.faces[path] for path in paths)
    table = a @ b.T
    best = np.unravel_index(int(table.argmax()), table.shape)
    first, second = int(best[0]), int(best[1])
    verdict = judged(
        a[first],
        b[second],
        spec,
        limit=limit,
        source=source,
        names=[printable(os.path.basename(path)) for path in paths],
    )
    found = [embedded.found.get(path, 1) for path in paths]
    return dataclasses.replace(
        verdict,
        similarity=float(table[first, second]),
        same=float(table[first, second]) >= limit,
        faces=(found[0], found[1]),
        chosen=(first, second) if every else None,
        similarities=[[round(value, 6) for value in row] for row in table.tolist()] if every else None,
    )


def limit_for(spec: ModelSpec, *, threshold: float | None, fmr: float | None) -> tuple[float, str]:
    """The threshold that judges, and where it is from.

    Raises:
        UsageError: the encoder has none of its own and none was given, or none at this rate.
    """
    limit, source = threshold_of(spec, given=threshold, fmr=fmr)
    if limit is None:
        raise UsageError(
            f"encoder {spec.name} has no measured threshold; give one with --threshold (see faceembed eval)"
        )
    return limit, source


def judged(
    a: NDArray[np.float32], b: NDArray[np.float32], spec: ModelSpec, *, limit: float, source: str, names: Sequence[str]
) -> Verification:
    """The verdict on two faces.

    Args:
        a: float32 (D,), unit length.
        b: of the other face.
        spec: the encoder.
        limit, source: from `limit_for`.
        names: what to call the two photos.
    """
    similarity = float(a @ b)
    likeness = Likeness.of(a, b, spec)
    alike = strangers_as_alike(spec, similarity)
    first, second = likeness.altered
    return Verification(
        similarity,
        limit,
        similarity >= limit,
        spec.name,
        source,
        likeness.identity,
        None if likeness.real_a is None or likeness.real_b is None else (likeness.real_a, likeness.real_b),
        None if first is None or second is None else (first, second),
        likeness.remark(similarity, limit, names),
        fmr=None if alike is None else alike.rate,
        fmr_side=None if alike is None else alike.side,
        strangers=None if alike is None else alike.text,
        probability=probability(spec, similarity),
    )
