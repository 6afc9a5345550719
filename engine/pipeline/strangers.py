"""Measures what a model's spec keeps of strangers, on faces of training people: `faceembed.engine.models.strangers` says what.

    spec = described(model, chips, people, source="180 people of people_wild")     # chips that are cut already
    spec = described_on(model, "people_wild", persons, source="...")               # photos, a folder for each person

Training people only: vectors of theirs travel with the model, and a unit measured on test people would be chosen by the test.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.likelihood import fit_odds
from faceembed.engine.models.quality_aware import LEAST_STRANGERS, fit_quality_aware
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.models.strangers import describe
from faceembed.engine.models.thresholds import USUAL, levels, rate_text
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.loading import open_cutter, resolve_aligner
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.errors import DataError

NORMS = 21  # quantiles of the embeddings' lengths: every twentieth


def described(
    model: Model, chips: NDArray[np.uint8], people: Sequence[str], *, source: str, threads: int = 0
) -> ModelSpec:
    """A model's spec with the strangers' spread, templates and thresholds, and the odds of a similarity. Its own threshold, where it has one, stays.

    Args:
        model: an encoder on disk.
        chips: uint8 RGB (N, H, W, 3), faces of training people cut for it.
        people: whose each is.
        source: the people, in words.
        threads: cores to use; 0 for all.

    Raises:
        DataError: fewer than two people, or a face without an embedding.
    """
    settings = RuntimeSettings(device="cpu", precision="fp32", threads=threads)
    encoder = Encoder(model, choose(settings), threads=settings.thread_count)
    embeddings, norms = encoder.encode(chips)
    spread, templates = describe(embeddings, people)
    words = f"{source}: {len(set(people))} people, {len(chips):,} photos, FP32"
    found = levels(embeddings, people)
    photos = collections.Counter(people).values()
    several = max(photos) > 1  # else there is no pair of one person
    enough = several and (len(people) ** 2 - sum(count**2 for count in photos)) // 2 >= LEAST_STRANGERS
    odds = fit_odds(embeddings, people) if several else None
    spec = dataclasses.replace(
        model.spec,
        spread=spread,
        spread_source=words,
        templates=templates,
        thresholds=found,
        odds=odds if odds is not None and odds[0] > 0 else None,  # an encoder that knows nobody has none
        quality_aware=fit_quality_aware(embeddings, norms, people) if enough else None,
        norms=tuple(np.round(np.quantile(norms, np.linspace(0, 1, NORMS)), 4).tolist()),
    )
    usual = next((level for level in found if level.fmr == USUAL), None)
    if spec.threshold is None and usual is not None:
        source = f"FMR {rate_text(usual.fmr)} over strangers: {words}"
        spec = dataclasses.replace(spec, threshold=usual.threshold, threshold_source=source)
    return spec


def described_on(
    model: Model,
    folder: str | os.PathLike[str],
    persons: Collection[str] | None = None,
    *,
    source: str,
    settings: EmbedSettings | None = None,
) -> ModelSpec:
    """The same from photos: the largest face of each.

    Args:
        model: an encoder on disk.
        folder: one folder for each person.
        persons: names of those folders that are taken; all if None.
        source: the people, in words.
        settings: aligner and cores; the aligner computes in fp32 in any case.

    Raises:
        DataError: no face, or fewer than two people.
    """
    settings = settings or EmbedSettings()
    runtime = dataclasses.replace(settings.runtime, device="cpu", precision="fp32")
    settings = dataclasses.replace(settings, runtime=runtime, faces="largest")
    root = Path(os.path.abspath(folder))
    chosen = [root / name for name in sorted(persons)] if persons is not None else [root]
    photos = list_photos(chosen).photos
    cutter = open_cutter(settings, model.spec, resolve_aligner(settings), photos, notice=lambda line: None)
    chips: list[NDArray[np.uint8]] = []
    people: list[str] = []
    with contextlib.closing(cutter.cut(photos)) as cuts:
        for cut in cuts:
            chips.append(cut.chips)
            people += [Path(cut.photos[place].path).relative_to(root).parts[0] for place in cut.faces.photo.tolist()]
    if not people:
        raise DataError(f"no face in the photos of {root} to measure strangers on")
    return described(model, np.concatenate(chips), people, source=source, threads=settings.runtime.threads)
