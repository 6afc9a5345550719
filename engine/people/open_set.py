"""From which similarity on a face is somebody of a gallery, where most faces may be of nobody in it.

    limit = open_set_limit(spec, people=500, fpir=0.01)
    limit = carried(limit, spec, photos, templates)
    limit.threshold, limit.source

A stranger is compared with everybody: where one comparison is false with probability FMR, and comparisons are taken as independent, one
of N is with

    FPIR = 1 - (1 - FMR)^N          ISO/IEC 19795-1, false positive identification rate

so a gallery of N people at a stated FPIR needs the threshold at FMR = 1 - (1 - FPIR)^(1 / N). Between the rates that were measured for
an encoder (`thresholds`) it is interpolated in the logarithm of the rate; below the lowest the last slope goes on, and that is said.

Those rates are of single photos. A mean of several photos lies nearer to everybody, strangers too: at the threshold of single photos a
stated FPIR of 1 % became 6 to 10 % on people outside the choice. So the threshold is carried over by the vectors of strangers that a spec
keeps (`strangers`): as many standard deviations above the mean of their cosines with the gallery's templates as it lies above that with
its single photos (`carried`). What came of it is in `docs/guides/people.md`.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.models.strangers import read_templates
from faceembed.engine.models.thresholds import rate_text
from faceembed.engine.people.templates import Templates
from faceembed.errors import UsageError

_LEAST_STRANGERS = 16  # fewer say nothing about a spread
FPIR = 0.01
"""Of a hundred photos of strangers one is given a name."""


@dataclasses.dataclass(frozen=True)
class OpenSetLimit:
    """The similarity that makes a face somebody's, and why."""

    threshold: float
    source: str
    fpir: float | None
    """The stated rate; None where the threshold was given."""
    fmr: float | None
    """The false match rate of one comparison that it needs."""


def fmr_of(fpir: float, people: int) -> float:
    """The false match rate of one comparison at which a stranger who is compared with so many people matches somebody at ``fpir``."""
    return -math.expm1(math.log1p(-fpir) / max(people, 1))


def open_set_limit(
    spec: ModelSpec, *, people: int, fpir: float | None = None, threshold: float | None = None
) -> OpenSetLimit:
    """The threshold of a gallery.

    Args:
        spec: the encoder.
        people: in the gallery.
        fpir: the share of strangers who may be given a name; None is `FPIR`.
        threshold: the user's own instead.

    Raises:
        UsageError: both were given, one out of range, or the encoder has no thresholds by rate and none was given.
    """
    if threshold is not None:
        if fpir is not None:
            raise UsageError("--threshold and --fpir both say who counts as known; give one of them")
        if not -1 <= threshold <= 1:
            raise UsageError(f"a threshold of {threshold:g} is no cosine between -1 and 1")
        return OpenSetLimit(threshold, "given", None, None)
    stated = FPIR if fpir is None else fpir
    if not 0 < stated < 1:
        raise UsageError(f"--fpir {stated:g} is no share between 0 and 1")
    if not spec.thresholds:
        raise UsageError(
            f"encoder {spec.name} has no thresholds by rate, so a stated FPIR says nothing; give --threshold (see faceembed eval), or "
            "measure them: faceembed export --strangers"
        )
    rate = fmr_of(stated, people)
    value, beyond = _interpolated(spec, rate)
    source = f"FPIR {rate_text(stated)} with {people:,} {'person' if people == 1 else 'people'}: FMR {rate:.2g} of one comparison"
    return OpenSetLimit(value, source + (f", beyond what was measured ({beyond:g})" if beyond else ""), stated, rate)


def carried(limit: OpenSetLimit, spec: ModelSpec, photos: NDArray[np.float32], templates: Templates) -> OpenSetLimit:
    """A threshold of single photos as one of templates.

    Args:
        limit: from `open_set_limit`; one that was given stays as it is.
        spec: the encoder; one that keeps no strangers leaves the threshold as it is, and that is said.
        photos: float32 (N, D), unit length, all photos that the templates are made of.
        templates: of the gallery.

    Raises:
        ModelError: the spec's strangers are damaged.
    """
    if limit.fpir is None or len(photos) == len(templates):
        return limit
    strangers = read_templates(spec)
    if len(strangers) < _LEAST_STRANGERS:
        return dataclasses.replace(limit, source=f"{limit.source}, as of single photos: {spec.name} keeps no strangers")
    one, several = photos @ strangers.T, templates.scores(strangers)
    spread = float(one.std())
    above = (limit.threshold - float(one.mean())) / spread if spread else 0.0
    value = float(several.mean()) + above * float(several.std())
    return dataclasses.replace(
        limit,
        threshold=min(math.ceil(1e4 * value) / 1e4, 1.0),
        source=f"{limit.source}; {limit.threshold:g} for single photos",
    )


def _interpolated(spec: ModelSpec, rate: float) -> tuple[float, float | None]:
    """The threshold at a rate, and the nearest measured rate where it lies outside of those."""
    points = sorted((math.log10(level.fmr), level.threshold) for level in spec.thresholds)
    wanted = math.log10(rate)
    if len(points) == 1:
        points = [(points[0][0] - 1, 1.0), *points]  # nothing to go by but that 1 is never passed
    place = min(max(sum(at < wanted for at, _ in points), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    value = y0 + (y1 - y0) * (wanted - x0) / (x1 - x0)
    measured = sorted(level.fmr for level in spec.thresholds)
    outside = measured[0] if rate < measured[0] else measured[-1] if rate > measured[-1] else None
    return min(math.ceil(1e4 * value) / 1e4, 1.0), outside
