"""The pipeline: from photo files to embedded faces, batch by batch, in the order of the files.

    read ahead (a few threads) ─► decode ─► detect ─► align ─► encode
                                  └── one batch a core, side by side ──┘

`chips` says how batches are made and run, and does all but the last stage.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.interface import Detector
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batch import Cut, Faces, Read
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.intake import Boundary
from faceembed.engine.pipeline.quality import sharpness
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.shortage import in_halves
from faceembed.engine.pipeline.side_by_side import without_memory
from faceembed.engine.pipeline.sound import only_sound
from faceembed.engine.runtimes.unit import is_sound


@dataclasses.dataclass(frozen=True)
class FaceBatch(Faces):
    """F embedded faces of one batch."""

    norms: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    """(F, D), unit length."""
    sharpness: NDArray[np.float32] | None = None
    """(F,) as `quality.sharpness` has it; None where chips stay on a card."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one batch of photos: each is in ``faces`` or in ``failures``."""

    photos: Sequence[PhotoFile]
    faces: FaceBatch
    failures: list[Failure]
    seconds: dict[str, float]
    """Seconds that one thread spent in each stage."""


@dataclasses.dataclass(frozen=True)
class Look:
    """One batch of photos that were in memory, with the faces' chips."""

    cut: Cut
    embeddings: NDArray[np.float32]
    """(F, D), unit length."""
    norms: NDArray[np.float32]
    """(F,)."""


def looked_at(cutter: Cutter, encoder: Encoder, read: Read) -> list[Look]:
    """What `Pipeline.look` does on the CPU."""

    def look(part: Read) -> Look:
        cut = cutter.cut_batch(part, 0.0)
        embeddings, norms = encoder.encode(cut.chips)
        sound = is_sound(embeddings)
        return Look(only_sound(cut, sound), embeddings[sound], norms[sound])

    return in_halves(look, read, instead=without_memory)


class Pipeline:
    """The models of one run, ready to embed any number of photos.

    Args:
        settings: what to look for and how to batch.
        detector: finds faces; None where photos are aligned crops already (``--aligner none``).
        encoder: must have passed its parity gate before `run`.
        workers: cores to compute on.
    """

    def __init__(self, settings: EmbedSettings, detector: Detector | None, encoder: Encoder, *, workers: int) -> None:
        self.cutter = Cutter(settings, detector, encoder.model.spec, workers=workers)
        self.intake = self.cutter.intake
        """Of `run`."""
        self.settings = settings
        self.detector = detector
        self.encoder = encoder
        self.workers = workers

    def run(self, photos: Sequence[PhotoFile], *, boundary: Boundary = 0) -> Generator[Outcome, None, None]:
        """Embed photos.

        Args:
            photos: what to embed.
            boundary: no batch reaches across it.

        Yields:
            The batches in the order of ``photos``. To be closed by whoever may stop before the end (`contextlib.closing`): threads
            compute until then.

        Raises:
            FaceEmbedError: the set-up is bad; a bad photo is a failure in its outcome.
        """
        return self.cutter.run(photos, self._process, boundary=boundary)

    @property
    def batch_size(self) -> int:
        """Photos in a batch, at most."""
        return self.intake.batch

    @property
    def batches_at_once(self) -> int:
        """How many batches `run` processes side by side."""
        return self.cutter.batches_at_once

    @property
    def admitted(self) -> bool:
        """Whether both models may run at their precision."""
        return self.encoder.admitted and self.cutter.admitted

    def admit(self, photos: Sequence[PhotoFile], wanted: int) -> list[str]:
        """Pass the parity gates that are still to be passed.

        Args:
            photos: taken from the front until there are enough faces; drawn ones stand in where there are none.
            wanted: faces to compare on.

        Returns:
            What was measured, as lines for the user.

        Raises:
            DeviceError: a model does not agree with fp32.
        """
        decoded, chips = self.cutter.sample(photos, wanted)
        lines = [] if self.encoder.admitted else [self.encoder.admit(chips)]
        return lines + self.cutter.admit_on(decoded, chips)

    def chips(self, photos: Sequence[PhotoFile], wanted: int) -> NDArray[np.uint8]:
        """Aligned faces of the first photos that have any: uint8 RGB (up to ``wanted``, H, W, 3)."""
        return self.cutter.sample(photos, wanted)[1]

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        """Each stage as a function of one batch, from what the stage before gave to what the next takes (for `bench`).

        ``read`` takes one of `batches`; photos that fail are dropped on the way.
        """
        return {**self.cutter.stages(), "encode": self.encoder.encode}

    def look(self, read: Read) -> list[Look]:
        """Embed photos that are in memory, chips and all. May be called from several threads at once.

        Args:
            read: from this pipeline's `intake`; any number of them.

        Returns:
            What became of them, in their order; several parts where memory was short.
        """
        return looked_at(self.cutter, self.encoder, read)

    def batches(self, photos: Sequence[PhotoFile]) -> list[list[PhotoFile]]:
        """The runs of photos that are read together."""
        return list(self.intake.groups(photos))

    def remarks(self) -> list[str]:
        """What the user should know of the runs so far, as lines."""
        return self.cutter.remarks()

    def _process(self, read: Read, read_seconds: float) -> Outcome:
        cut = self.cutter.cut_batch(read, read_seconds)
        started = time.perf_counter()
        embeddings, norms = self.encoder.encode(cut.chips)
        seconds = {**cut.seconds, "encode": time.perf_counter() - started}
        sound = is_sound(embeddings)
        cut = only_sound(cut, sound)
        faces = FaceBatch(
            **vars(cut.faces), norms=norms[sound], embeddings=embeddings[sound], sharpness=sharpness(cut.chips)
        )
        return Outcome(cut.photos, faces, cut.failures, seconds)
