"""From settings to a pipeline on a device: backend, detector, encoder. Picklable, so that a worker's process can do it."""

from __future__ import annotations

import contextlib
import dataclasses

from faceembed.engine.detect.kinds import check_decoder, cpu_only, least_score
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.models.spec import Model
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu.budget import DEFAULT_SHARE
from faceembed.engine.pipeline.gpu.cpu import CpuBackend
from faceembed.engine.pipeline.gpu.cuda import CudaBackend
from faceembed.engine.pipeline.gpu.detect import DeviceOneShotDetector
from faceembed.engine.pipeline.gpu.interface import Backend
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.cards import probe
from faceembed.engine.runtimes.choose import for_aligner
from faceembed.engine.runtimes.networks import LOOKS
from faceembed.engine.runtimes.watch import SILENT, Watch
from faceembed.errors import DeviceError

USUAL_SIDE = LOOKS[1][0]  # of the second look's canvas where nobody asks for small faces: 12 * 40
HOST_MEMORY = 1 << 30  # what batches in flight take at most where the "device" is the host


@dataclasses.dataclass(frozen=True)
class Opening:
    """How to open a pipeline on one device."""

    settings: EmbedSettings
    encoder: Model
    aligner: Model | None
    choice: RuntimeChoice
    """``choice.device`` is the device: ``cuda:N``, or ``cpu``."""
    memory: int = 0
    """Bytes for batches in flight, of all processes together; 0 for a share of what is free once the models are loaded."""
    processes: int = 1
    """How many open on that device at most."""

    @property
    def device(self) -> str:
        """As the user names it."""
        return self.choice.device

    def open(self, watch: Watch = SILENT) -> DevicePipeline:
        """Load everything.

        Args:
            watch: told of engines that must be built first.

        Raises:
            DeviceError: the device cannot serve, or the aligner has no path there.
        """
        check_aligner(self.aligner)
        settings = self.settings
        backend = open_backend(self.choice, threads=settings.runtime.thread_count, decoder=settings.decoder)
        detector = None
        if self.aligner is not None:
            looks = OneShotSettings(detect_side=self.settings.detect_size)
            choice = for_aligner(self.choice)
            sure = least_score(self.aligner, self.settings.min_score)
            detector = DeviceOneShotDetector(self.aligner, choice, backend, settings=looks, min_score=sure, watch=watch)
        encoder = Encoder(self.encoder, self.choice, threads=1, watch=watch)
        self._warm(backend, detector, encoder)
        memory = (self.memory or free_memory(backend)) // self.processes
        return DevicePipeline(self.settings, detector, encoder, backend, memory=memory)

    def _warm(self, backend: Backend, detector: DeviceOneShotDetector | None, encoder: Encoder) -> None:
        """Prepare all shapes that a run will meet; the large canvases only where the settings may ask for them."""
        if detector is not None:
            large = self.settings.min_face or self.settings.detect_size
            for session in detector.sessions:
                backend.warm("detect", session, side=0 if large else USUAL_SIDE)
        backend.warm("encode", encoder.session)


def check_aligner(aligner: Model | None) -> None:
    """Refuse an aligner that has no path on a device.

    Raises:
        DeviceError: it is not of kind `one-shot`.
        ModelError: nobody reads its outputs.
    """
    if aligner is not None:
        check_decoder(aligner)
        if reason := cpu_only(aligner):
            raise DeviceError(reason)


def open_backend(choice: RuntimeChoice, *, threads: int, decoder: str = "auto") -> Backend:
    """The backend of the device that was chosen.

    Raises:
        DeviceError: it, or a package it needs, is not there.
    """
    if choice.device == "cpu":
        return CpuBackend(threads=threads, decoder=decoder)
    return CudaBackend(int(choice.device.rpartition(":")[2] or 0), threads=threads, decoder=decoder)


def free_memory(backend: Backend) -> int:
    """Bytes for batches in flight where the user did not say how many."""
    free = backend.free_bytes()
    return HOST_MEMORY if free is None else int(free * DEFAULT_SHARE)


def serving_cards() -> list[str]:
    """All cards of this machine that can serve, as ``cuda:N``."""
    driver = probe()
    names = []
    for card in driver.cards:
        with contextlib.suppress(DeviceError):  # too old: the others do its work
            driver.card(card.index)
            names.append(f"cuda:{card.index}")
    return names
