"""The GPU path on an NVIDIA card: nvImageCodec or DALI decodes, TensorRT or ONNX Runtime computes, our kernels do the rest.

Each stage has a stream of its own, the same one from first to last, so that the card works on several batches at once and what is
prepared for a stream is prepared once; `finish` and `follow` order them with events, without the host waiting. The host waits twice a
batch, for the faces and for the embeddings. It waits once more for the faces where one face a photo is wanted and the first look leaves a
photo in doubt (`detect`), where more faces are found than a record has room for (`record.ROOM`), and for chips to look at (`pictures`).
Photos that the host decoded add none.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.detect.refine import TEMPLATE
from faceembed.engine.models.oneshot import REFINED_SIDE
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.gpu import kernels, record
from faceembed.engine.pipeline.gpu.decoders import open_decoder
from faceembed.engine.pipeline.gpu.interface import Backend, Scan
from faceembed.engine.pipeline.gpu.lane import CudaLane
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.base import DeviceSession, Session
from faceembed.engine.runtimes.cards import FLOPS_PER_CLOCK, probe
from faceembed.engine.runtimes.cuda_memory import open_cuda
from faceembed.errors import DeviceError

_LARGE = 64  # inputs; for sessions that do not fill up their batches themselves


class CudaBackend(Backend):
    """One card.

    Args:
        index: the card's number.
        threads: of the decoder, for what it does on the processor.
        decoder: as ``--decoder``.

    Raises:
        DeviceError: the decoder, cuda-core, the driver or the card is missing.
    """

    def __init__(self, index: int, *, threads: int = 1, decoder: str = "auto") -> None:
        self.device = f"cuda:{index}"
        self._index = index
        self._cuda = open_cuda(index)
        self._lanes: dict[str, CudaLane] = {}
        self._warm: list[DeviceSession] = []
        self._lock = threading.Lock()
        self.decoder = open_decoder(decoder, device_id=index, threads=threads)
        self._local = threading.local()

    @contextlib.contextmanager
    def lane(self, name: str) -> Iterator[None]:
        self._cuda.enter()
        with self._lock:
            if name not in self._lanes:
                self._lanes[name] = CudaLane(self._cuda.named(name))
            lane = self._lanes[name]
        before = getattr(self._local, "lane", None)
        self._local.lane = lane
        try:
            with self.decoder.lane(lane.stream):
                yield
        finally:
            with contextlib.suppress(Exception):  # a broken card has had its error reported
                lane.stream.sync()
            self._local.lane = before

    @property
    def _lane(self) -> CudaLane:
        lane: CudaLane = self._local.lane
        return lane

    def decode(self, files: Sequence[bytes]) -> list[Any]:
        return self.decoder.decode(files, self._lane.stream)

    def upload(self, pixels: NDArray[np.uint8]) -> Any:
        return self._lane.upload(pixels)

    def run(self, session: Session, pixels: DeviceArray) -> tuple[DeviceArray, ...]:
        assert isinstance(session, DeviceSession)
        count = pixels.shape[0]
        outputs = session.run_device(pixels if session.pads else self._padded(pixels), self._lane.stream)
        return tuple(output.rows(0, count) for output in outputs)

    def look(
        self,
        photos: Sequence[Any],
        scans: Sequence[Scan],
        detector: Session,
        refiner: Session,
        spec: ModelSpec,
        settings: OneShotSettings,
    ) -> Detections:
        assert isinstance(refiner, DeviceSession)
        lane, pixels = self._lane, [DeviceArray.of(photo) for photo in photos]
        if not scans:
            return Detections.none()
        thresholds = record.Thresholds(settings.candidate_score, settings.overlap, settings.blend)
        counts = lane.empty((sum(len(scan.photo) for scan in scans), 2), np.int32)
        found: list[record.Scan] = []
        first = 0
        for scan in scans:
            members, last = [pixels[index] for index in scan.photo.tolist()], first + len(scan.photo)
            canvases = kernels.paint(lane, members, scan.sizes, (scan.shape.height, scan.shape.width))
            levels = self.run(detector, canvases)
            found.append(record.find(lane, levels, scan.scales, scan.photo, thresholds, counts.rows(first, last)))
            first = last

        def refined(faces: record.Record) -> None:
            """As `detect.refine.refine`; rows without a face have no matrix, and so a black crop and the score 0."""
            matrices = kernels.fit(lane, faces.landmarks, TEMPLATE)
            dtype = np.float16 if refiner.entry == "chips" else np.uint8
            size = (REFINED_SIDE, REFINED_SIDE)
            crops = kernels.gather(lane, pixels, faces.photo, matrices, spec, size=size, dtype=dtype)
            (answers,) = self.run(refiner, crops)
            kernels.refine(lane, answers, matrices, TEMPLATE, scores=faces.scores, landmarks=faces.landmarks)

        looks = -(-counts.shape[0] // max(len(photos), 1))  # two in one record, where all faces are wanted
        return record.fetch(lane, counts, found, refined, room=looks * record.ROOM)

    def warp(
        self,
        photos: Sequence[Any],
        owner: NDArray[np.int32],
        matrices: NDArray[np.float64],
        session: Session,
        spec: ModelSpec,
        size: tuple[int, int],
    ) -> DeviceArray:
        assert isinstance(session, DeviceSession)
        pixels = [DeviceArray.of(photo) for photo in photos]
        dtype = np.float16 if session.entry == "chips" else np.uint8
        return kernels.gather(self._lane, pixels, owner, matrices, spec, size=size, dtype=dtype)

    def pictures(
        self,
        photos: Sequence[Any],
        owner: NDArray[np.int32],
        matrices: NDArray[np.float64],
        spec: ModelSpec,
        size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        pixels = [DeviceArray.of(photo) for photo in photos]
        chips = kernels.gather(self._lane, pixels, owner, matrices, spec, size=size, dtype=np.uint8)
        return np.asarray(self._lane.get(chips), np.uint8)

    def host(self, array: DeviceArray) -> NDArray[np.float32]:
        return np.asarray(self._lane.get(array), np.float32)

    def finish(self) -> Any:
        return self._lane.stream.record()

    def follow(self, mark: Any) -> None:
        self._lane.stream.wait(mark)

    def wait(self) -> None:
        self._lane.stream.sync()

    def warm(self, name: str, session: Session, *, side: int = 0) -> None:
        assert isinstance(session, DeviceSession)
        with self.lane(name):
            session.warm(self._lane.stream, side=side)
        self._warm.append(session)

    def release(self) -> None:
        for session in self._warm:
            session.release()
        for lane in self._lanes.values():
            lane.staging.release()
        if dali := sys.modules.get("nvidia.dali.backend"):
            dali.ReleaseUnusedMemory()
        self._cuda.trim()

    def free_bytes(self) -> int | None:
        from cuda.bindings import driver

        self._cuda.enter()
        status, free, _ = driver.cuMemGetInfo()
        if int(status) != 0:
            raise DeviceError(f"{self.device} does not say how much memory is free ({status!r}); give --gpu-memory")
        return int(free)

    def title(self) -> str:
        driver = probe()
        return f"{driver.card(self._index)}, driver {driver.release or 'unknown'}"

    def peak_tflops(self) -> float | None:
        from cuda.bindings import driver

        card = probe().card(self._index)
        status, kilohertz = driver.cuDeviceGetAttribute(
            driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE, self._index
        )
        if int(status) != 0 or card.capability not in FLOPS_PER_CLOCK:
            return None
        return float(FLOPS_PER_CLOCK[card.capability] * card.multiprocessors * kilohertz * 1e3 / 1e12)

    def copy_bandwidth(self, nbytes: int) -> float:
        lane = self._lane
        source, target = (lane.empty((nbytes,), np.uint8) for _ in range(2))
        copies = 20

        def copy(times: int) -> float:
            lane.stream.sync()
            started = time.perf_counter()
            for _ in range(times):
                self._cuda.copy(target.pointer, source.pointer, nbytes, lane.stream)
            lane.stream.sync()
            return time.perf_counter() - started

        copy(3)  # to warm up
        return copies * nbytes / copy(copies)

    def _padded(self, pixels: DeviceArray) -> DeviceArray:
        """A batch of one of few sizes: a runtime prepares itself anew for every size it meets. What is added is never read."""
        count = pixels.shape[0]
        wanted = padded_count(count)
        if wanted == count:
            return pixels
        larger = self._lane.empty((wanted, *pixels.shape[1:]), pixels.dtype)
        self._cuda.copy(larger.pointer, pixels.pointer, pixels.nbytes, self._lane.stream)
        return DeviceArray(larger.pointer, larger.shape, larger.dtype, (larger.owner, pixels))


def padded_count(count: int) -> int:
    """The next power of two up to `_LARGE`, above that its next multiple."""
    return -(-count // _LARGE) * _LARGE if count > _LARGE else 1 << (count - 1).bit_length()
