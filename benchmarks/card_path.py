"""The engine's own path as `card.py` opens it: on a card with TensorRT or PyTorch, or, in a dry run, on the processor."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect import oneshot
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.photo_file import PhotoFile, photo_file
from faceembed.engine.pipeline import encode
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.gpu import detect as device_detect
from faceembed.engine.pipeline.gpu.decoder import Decoder
from faceembed.engine.pipeline.gpu.opening import Opening
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.gpu.workers import ManyPipelines
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import DeviceSession, RuntimeChoice, Session
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.runtimes.watch import SILENT, Watch

ENCODER, ALIGNER = "faceembed-r29", "faceembed-align"


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the script was asked for."""

    dry: bool
    photos: tuple[Path, ...]
    """Photos of people."""
    networks: str
    """``torch`` or ``tensorrt``; of no account in a dry run, in which the whole path has ONNX Runtime."""
    decoder: str
    count: int
    """Photos through the whole path; files are repeated."""

    @property
    def choice(self) -> RuntimeChoice:
        """What runs the networks."""
        if self.dry:
            return RuntimeChoice("onnxruntime", "cpu", "fp32", "a dry run")
        return RuntimeChoice("tensorrt", "cuda:0", "fp16", "card.py")


class TorchOpening(Opening):
    """An opening whose networks run in PyTorch."""

    def open(self, watch: Watch = SILENT) -> DevicePipeline:
        from torch_session import TorchSession

        for module in (oneshot, encode):
            module.open_session = TorchSession  # type: ignore[attr-defined]
        for ready in (device_detect, encode):
            ready.ready = lambda *_: None  # type: ignore[attr-defined]
        return super().open(watch)


def opening(setup: Setup, *, processes: int = 1) -> Opening:
    """How a pipeline is opened, also by another process."""
    settings = EmbedSettings(decoder=setup.decoder, runtime=RuntimeSettings(threads=2 if setup.dry else 0))
    kind = TorchOpening if setup.networks == "torch" and not setup.dry else Opening
    models = resolve(ENCODER, task="encoder"), resolve(ALIGNER, task="aligner")
    return kind(settings, *models, setup.choice, processes=processes)


def pipeline(setup: Setup) -> DevicePipeline:
    """The whole path in this process."""
    return opening(setup).open()


def on_host(setup: Setup) -> Pipeline:
    """The processor's own path, in FP32: what all is compared with."""
    settings = EmbedSettings(runtime=RuntimeSettings(threads=2 if setup.dry else 0))
    exact = RuntimeChoice("onnxruntime", "cpu", "fp32", "exact")
    threads = settings.runtime.thread_count
    detector = oneshot.OneShotDetector(resolve(ALIGNER, task="aligner"), exact, threads=threads)
    encoder = encode.Encoder(resolve(ENCODER, task="encoder"), exact, threads=threads)
    return Pipeline(settings, detector, encoder, workers=threads)


def photo_files(setup: Setup) -> list[PhotoFile]:
    """So many photos, repeated."""
    files = [photo_file(str(path)) for path in setup.photos]
    return [files[number % len(files)] for number in range(setup.count)]


def embeddings(of: Pipeline, photos: Sequence[PhotoFile]) -> dict[str, NDArray[np.float32]]:
    """Each photo's first face, by path."""
    found: dict[str, NDArray[np.float32]] = {}
    with contextlib.closing(of.run(photos)) as outcomes:
        for outcome in outcomes:
            for row, place in enumerate(outcome.faces.photo.tolist()):
                found.setdefault(outcome.photos[place].path, outcome.faces.embeddings[row])
    return found


def rate(setup: Setup, first: DevicePipeline, photos: Sequence[PhotoFile], processes: int) -> dict[str, Any]:
    """Photos a second, from when all processes have loaded their models."""
    if processes == 1:
        embeddings(first, photos[: len(photos) // 16])  # to warm up
        started = time.perf_counter()
        faces = sum(len(outcome.faces.photo) for outcome in first.run(photos))
        return {"photos_per_second": len(photos) / (time.perf_counter() - started), "faces": faces}
    many = ManyPipelines(first, [opening(setup, processes=processes)] * processes)
    done = faces = since = 0
    began = 0.0
    for outcome in many.run(list(photos) * processes):
        faces += len(outcome.faces.photo)
        done += len(outcome.photos)
        if not began and done >= len(photos) * processes // 4:  # all have loaded their models
            began, since = time.perf_counter(), done
    ended = time.perf_counter()
    return {"photos_per_second": (done - since) / (ended - began), "faces": faces, "by": dict(many.photos_by)}


@contextlib.contextmanager
def starved(setup: Setup, of: DevicePipeline) -> Iterator[None]:
    """Little of the card's memory is left, and the pipeline believes in all of it; in a dry run decoding says so."""
    if setup.dry:
        real = of.backend.decode

        def decode(files: Sequence[bytes]) -> list[Any]:
            if len(files) > 8:
                raise MemoryError("a dry run: no memory for more than 8 photos")
            return real(files)

        of.backend.decode = decode  # type: ignore[method-assign]
        yield
        return
    from cuda.core import Device

    device = Device(0)
    device.set_current()
    stream = device.create_stream()
    free = of.backend.free_bytes() or 0
    held = device.allocate(max(free - (192 << 20), 1), stream=stream)
    stream.sync()
    try:
        yield
    finally:
        del held


class Host:
    """Where decoders are compared: a stream of a card's, or nothing."""

    def __init__(self, lane: Any) -> None:
        self._lane = lane

    def lane(self, decoder: Decoder) -> contextlib.AbstractContextManager[None]:
        """As `Decoder.lane`."""
        return decoder.lane(None if self._lane is None else self._lane.stream)

    def decode(self, decoder: Decoder, files: Sequence[bytes]) -> list[Any]:
        """Decode, and wait."""
        if self._lane is None:
            return decoder.decode(files)
        found = decoder.decode(files, self._lane.stream)
        self._lane.stream.sync()
        return found

    def pixels(self, decoder: Decoder, files: Sequence[bytes]) -> list[NDArray[np.uint8] | None]:
        """The same, as arrays of the host's."""
        from faceembed.engine.runtimes.arrays import DeviceArray

        found = self.decode(decoder, files)
        if self._lane is None:
            return [None if one is None else np.asarray(one) for one in found]
        return [None if one is None else self._lane.get(DeviceArray.of(one)) for one in found]


@contextlib.contextmanager
def decoding(setup: Setup) -> Iterator[Host]:
    """A place to decode."""
    if setup.dry:
        yield Host(None)
        return
    from faceembed.engine.pipeline.gpu.lane import CudaLane

    yield Host(CudaLane())


class Network:
    """One network on a lane of its own."""

    def __init__(self, session: Session, backend: Any) -> None:
        self._session, self._backend = session, backend
        self.peak_tflops: float | None = backend.peak_tflops() if backend else None

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """From the host to the host."""
        return self._session.run(pixels)

    def seconds(self, pixels: NDArray[np.uint8], turns: int) -> float:
        """Of one run of what lies on the card already, many put into the stream one after another."""
        if self._backend is None:
            started = time.perf_counter()
            for _ in range(turns):
                self._session.run(pixels)
            return (time.perf_counter() - started) / turns
        assert isinstance(self._session, DeviceSession)
        from faceembed.engine.runtimes.frontend import normalise

        with self._backend.lane("encode"):
            lane = self._backend._lane
            given = pixels if self._session.entry == "pixels" else normalise(pixels, self._session._spec)  # type: ignore[attr-defined]
            there = lane.put(np.ascontiguousarray(given))
            for _ in range(3):
                self._session.run_device(there, lane.stream)
            lane.stream.sync()
            started = time.perf_counter()
            for _ in range(turns):
                self._session.run_device(there, lane.stream)
            lane.stream.sync()
            return (time.perf_counter() - started) / turns


@contextlib.contextmanager
def network(setup: Setup, model: Model, outputs: Sequence[str], batch: int) -> Iterator[Network]:
    """One network for batches of one size."""
    if setup.networks == "torch" or setup.dry:
        from torch_session import TorchSession

        session: Session = TorchSession(model, setup.choice, outputs=outputs, batch=(batch, batch))
    else:
        from faceembed.engine.pipeline.build_engine import ready
        from faceembed.engine.runtimes.sessions import open_session

        ready(model, setup.choice, SILENT)
        session = open_session(model, setup.choice, outputs=outputs, threads=1)
    backend = None
    if not setup.dry:
        from faceembed.engine.pipeline.gpu.cuda import CudaBackend

        backend = CudaBackend(0, decoder=setup.decoder)
    yield Network(session, backend)
