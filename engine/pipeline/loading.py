"""From settings to a pipeline that may run, or to its part that cuts chips: resolves models, chooses runtime and precision,
and passes the parity gate.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from faceembed.engine.detect.kinds import check_decoder, cpu_only, open_detector
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline import warm
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.build_engine import ready
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import choose, for_aligner
from faceembed.engine.runtimes.watch import Watch, spoken
from faceembed.errors import DeviceError, UsageError

Notice = Callable[[str], None]
_GATE_FACES = 32  # faces the parity gate looks at
_GATE_PHOTOS = 256  # photos it searches for them, evenly from all: neighbours in a listing often show one person
_PHOTOS_PER_CARD = 2048  # fewer are done before another card's process has loaded its models


@dataclasses.dataclass(frozen=True)
class Models:
    """The models of a run; ``aligner`` is None for ``--aligner none``."""

    encoder: Model
    aligner: Model | None


def resolve_models(settings: EmbedSettings) -> Models:
    """Find both models, building or refusing as the registry does.

    Raises:
        ModelError: unknown, not yet pulled, damaged, or an aligner this version cannot run.
    """
    return Models(resolve(settings.encoder, task="encoder"), resolve_aligner(settings))


def resolve_aligner(settings: EmbedSettings) -> Model | None:
    """Find the aligner alone; None for ``--aligner none``.

    Raises:
        ModelError: as `resolve_models`.
    """
    if settings.aligner == "none":
        return None
    aligner = resolve(settings.aligner, task="aligner")
    check_decoder(aligner)
    return aligner


def open_pipeline(
    settings: EmbedSettings, models: Models, photos: Sequence[PhotoFile], *, notice: Notice, all_cards: bool = True
) -> Pipeline:
    """Load the models and settle the precision.

    With ``auto``, a fast precision that fails the parity gate, or finds no faces to pass it on, gives way to fp32 and
    ``notice`` says so; one that was asked for is an error instead.

    Args:
        settings: what the user asked for.
        models: from `resolve_models`.
        photos: what will be embedded; the gate takes its faces from some of them.
        notice: called with lines for the user.
        all_cards: use every card of the machine, where no single one was asked for and there are photos for all.

    Raises:
        DeviceError: what was asked for cannot serve.
    """
    with warm.holding():  # threads that open the same at once wait for one, gate and all
        opened = _settled(
            settings,
            lambda choice: _open(settings, models, choice, spoken(notice)),
            photos,
            notice,
            cpu_only=cpu_only(models.aligner),
            unfit=models.encoder.spec.unfit,
        )
    return _on_all_cards(settings, models, opened, photos, notice) if all_cards else opened


def open_cutter(
    settings: EmbedSettings, spec: ModelSpec, aligner: Model | None, photos: Sequence[PhotoFile], *, notice: Notice
) -> Cutter:
    """The same for chips alone: the encoder's network is neither loaded nor needed.

    Args:
        settings: what the user asked for; its encoder is not looked at.
        spec: the encoder that the chips are for.
        aligner: from `resolve_aligner`.
        photos, notice: as for `open_pipeline`.

    Raises:
        DeviceError: what was asked for cannot serve.
    """
    threads = settings.spending.workers
    if aligner is None:
        return Cutter(settings, None, spec, workers=threads)

    def open_with(choice: RuntimeChoice) -> Cutter:
        watch = spoken(notice)
        ready(aligner, for_aligner(choice), watch)
        detector = open_detector(
            aligner,
            choice,
            threads=threads,
            detect_size=settings.detect_size,
            min_score=settings.min_score,
            watch=watch,
        )
        return Cutter(settings, detector, spec, workers=threads)

    return _settled(settings, open_with, photos, notice, cpu_only=cpu_only(aligner))


class _Gated(Protocol):
    """What must pass a parity gate before it may run."""

    workers: int

    @property
    def admitted(self) -> bool: ...

    def admit(self, photos: Sequence[PhotoFile], wanted: int) -> list[str]: ...


G = TypeVar("G", bound=_Gated)


def _settled(
    settings: EmbedSettings,
    open_with: Callable[[RuntimeChoice], G],
    photos: Sequence[PhotoFile],
    notice: Notice,
    *,
    cpu_only: str,
    unfit: Sequence[str] = (),
) -> G:
    """Open something with a runtime and a precision that it may run at."""
    choice = choose(settings.runtime, cpu_only=cpu_only, unfit=unfit)
    if choice.device != "cpu" and settings.memory:
        raise UsageError(
            f"--memory is for processors, and this run computes on a card ({choice.why}); use --gpu-memory"
        )
    if choice.device == "cpu" and (option := settings.of_cards):
        raise UsageError(f"{option} is for an NVIDIA card, and this run computes on the CPU ({choice.why})")
    opened = open_with(choice)
    if not opened.admitted:
        try:
            twice = [photo for photo in photos if photo.size]  # a pipe can be read once, and has no size
            for line in opened.admit(twice[:: -(-len(twice) // _GATE_PHOTOS) or 1], _GATE_FACES):
                notice(line)
        except DeviceError as error:
            if settings.runtime.precision != "auto":
                raise
            choice = dataclasses.replace(choice, precision="fp32", why=f"{error}; fp32 instead")
            opened = open_with(choice)
    threads = f"; {settings.spending.workers} threads" if choice.device == "cpu" else ""
    notice(f"{choice.device}, {choice.runtime}, {choice.precision} ({choice.why}){threads}")
    return opened


def _open(settings: EmbedSettings, models: Models, choice: RuntimeChoice, watch: Watch) -> Pipeline:
    if choice.device != "cpu":
        from faceembed.engine.pipeline.gpu.opening import Opening  # optional: what [gpu] installs

        return Opening(settings, models.encoder, models.aligner, choice, settings.gpu_memory).open(watch)
    threads = settings.spending.workers
    key = (
        models,
        choice.runtime,
        choice.precision,
        threads,
        settings.spending.chips,
        settings.detect_size,
        settings.min_score,
    )
    encoder, detector = warm.warm(key, lambda: _opened(settings, models, choice))
    return Pipeline(settings, detector, encoder, workers=threads)


def _opened(settings: EmbedSettings, models: Models, choice: RuntimeChoice) -> warm.Pair:
    """Both models on the CPU."""
    threads, chips = settings.spending.workers, settings.spending.chips
    with concurrent.futures.ThreadPoolExecutor(1, "faceembed-open") as pool:  # both at once: 0.36 s in place of 0.45
        encoder = pool.submit(Encoder, models.encoder, choice, threads=threads, chunk=chips)
        detector = (
            open_detector(
                models.aligner,
                choice,
                threads=threads,
                detect_size=settings.detect_size,
                min_score=settings.min_score,
            )
            if models.aligner
            else None
        )
        return encoder.result(), detector


def _on_all_cards(
    settings: EmbedSettings, models: Models, opened: Pipeline, photos: Sequence[PhotoFile], notice: Notice
) -> Pipeline:
    """The same on every card, where no single one was asked for and there are photos for all; and in several processes a card."""
    if opened.encoder.choice.device == "cpu":
        return opened
    from faceembed.engine.pipeline.gpu.opening import serving_cards  # optional: what [gpu] installs
    from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline  # optional: what [gpu] installs
    from faceembed.engine.pipeline.gpu.processes import on_cards  # optional: what [gpu] installs

    if not isinstance(opened, DevicePipeline):
        return opened
    cards = serving_cards() if settings.runtime.device in ("auto", "cuda") else []
    if len(photos) < _PHOTOS_PER_CARD * len(cards):
        cards = []
    return on_cards(opened, cards or [opened.encoder.choice.device], models.aligner, photos=len(photos), notice=notice)
