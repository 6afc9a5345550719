"""From settings to a pipeline that may run: resolves models, chooses runtime and precision, and passes the parity gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from faceembed.engine.errors import DeviceError, ModelError
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.photos import PhotoFile
from faceembed.engine.pipeline import Pipeline
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import choose
from faceembed.engine.settings import EmbedSettings

Notice = Callable[[str], None]
_GATE_FACES = 32  # faces the parity gate looks at
_GATE_PHOTOS = 256  # photos it searches for them


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
    encoder = resolve(settings.encoder, task="encoder")
    if settings.aligner == "none":
        return Models(encoder, None)
    aligner = resolve(settings.aligner, task="aligner")
    if aligner.spec.name != "mtcnn":
        raise ModelError(f"aligner '{aligner.spec.name}': this version runs 'mtcnn' only; use --aligner mtcnn or none")
    return Models(encoder, aligner)


def open_pipeline(settings: EmbedSettings, models: Models, photos: Sequence[PhotoFile], *, notice: Notice) -> Pipeline:
    """Load the models and settle the precision.

    With ``auto``, a fast precision that fails the parity gate, or finds no faces to pass it on, gives way to fp32 and
    ``notice`` says so; one that was asked for is an error instead.

    Args:
        settings: what the user asked for.
        models: from `resolve_models`.
        photos: what will be embedded; the gate takes its faces from the first of them.
        notice: called with lines for the user.

    Raises:
        DeviceError: what was asked for cannot serve.
    """
    choice = choose(settings.runtime)
    pipeline = _open(settings, models, choice)
    if not pipeline.admitted:
        try:
            for line in pipeline.admit(photos[:_GATE_PHOTOS], _GATE_FACES):
                notice(line)
        except DeviceError as error:
            if settings.runtime.precision != "auto":
                raise
            choice = dataclasses.replace(choice, precision="fp32", why=f"{error}; fp32 instead")
            pipeline = _open(settings, models, choice)
    notice(f"{choice.device}, {choice.runtime}, {choice.precision} ({choice.why}); {pipeline.workers} threads")
    return pipeline


def _open(settings: EmbedSettings, models: Models, choice: RuntimeChoice) -> Pipeline:
    from faceembed.engine.detect.mtcnn import MtcnnDetector
    from faceembed.engine.encode import Encoder

    workers = settings.runtime.thread_count
    detector = MtcnnDetector(models.aligner, choice, threads=workers) if models.aligner else None
    return Pipeline(settings, detector, Encoder(models.encoder, choice, threads=workers), workers=workers)
