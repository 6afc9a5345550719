"""Which processes a run gets: one for each card, and more of each where that was asked for or is measured to be faster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from faceembed.engine.models.spec import Model
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.gpu.growing import GrowingPipeline
from faceembed.engine.pipeline.gpu.growth import MOST
from faceembed.engine.pipeline.gpu.opening import Opening
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.gpu.workers import ManyPipelines

PHOTOS = 20_000  # fewer are done before more processes have loaded their models


def on_cards(
    first: DevicePipeline,
    cards: Sequence[str],
    aligner: Model | None,
    *,
    photos: int,
    notice: Callable[[str], None],
) -> Pipeline:
    """The pipeline of a run.

    Args:
        first: opened in this process on the first card, and admitted.
        cards: those to use, as ``cuda:N``.
        aligner: its aligner.
        photos: how many there are to embed.
        notice: called with lines for the user.
    """
    settings = first.settings
    asked, cores = settings.processes, settings.runtime.thread_count
    most = asked or max(1, min(MOST, cores // len(cards)))
    choices = [dataclasses.replace(first.encoder.choice, device=card) for card in cards]
    openings = [
        Opening(settings, first.encoder.model, aligner, choice, settings.gpu_memory, processes=most)
        for choice in choices
    ]
    if asked > 1 or len(cards) > 1:
        times = f"{asked} processes" if asked > 1 else "a process"
        notice(f"{', '.join(cards)}: {times} each")
        spare = [] if asked else [openings] * (most - 1)
        return ManyPipelines(first, openings * max(asked, 1), spare=spare)
    if asked == 1 or most < 2 or photos < PHOTOS:
        return first
    return GrowingPipeline(first, openings[0], most=most)
