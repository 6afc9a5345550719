"""The GPU path without a card: a decoder's CPU backend, any CPU session, and the CPU build of the kernels.

It runs the whole path in tests, on real photos, and shows what a card would compute. ``--device cuda`` never comes here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.canvas import GREY
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.detect.refine import refine
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.native import _native
from faceembed.engine.pipeline.gpu.decoders import open_decoder
from faceembed.engine.pipeline.gpu.interface import Backend, Scan
from faceembed.engine.runtimes.base import Session
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.errors import DeviceError

CHUNK = 32


class CpuBackend(Backend):
    """Everything in the host's memory.

    Args:
        threads: for decoding.
        decoder: as ``--decoder``.
    """

    device = "cpu"

    def __init__(self, *, threads: int = 1, decoder: str = "auto") -> None:
        self.decoder = open_decoder(decoder, device_id=None, threads=threads)

    def lane(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self.decoder.lane()

    def decode(self, files: Sequence[bytes]) -> list[Any]:
        return self.decoder.decode(files)

    def upload(self, pixels: NDArray[np.uint8]) -> Any:
        return pixels

    def run(self, session: Session, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        return run_in_chunks(session, pixels, chunk=CHUNK, step=8)

    def look(
        self,
        photos: Sequence[Any],
        scans: Sequence[Scan],
        detector: Session,
        refiner: Session,
        spec: ModelSpec,
        settings: OneShotSettings,
    ) -> Detections:
        pixels = [np.asarray(photo) for photo in photos]  # views of the decoder's memory
        parts = [self._scan(pixels, scan, detector, settings) for scan in scans]
        return refine(refiner, pixels, Detections.concatenate(parts))

    def _scan(
        self, photos: Sequence[NDArray[np.uint8]], scan: Scan, session: Session, settings: OneShotSettings
    ) -> Detections:
        canvases = np.full((len(scan.photo), scan.shape.height, scan.shape.width, 3), GREY, np.uint8)
        for canvas, index, (rows, columns) in zip(canvases, scan.photo.tolist(), scan.sizes.tolist(), strict=True):
            _native.resize_into(photos[index], canvas, 0, 0, rows, columns)
        thresholds = {
            "logit": math.log(settings.candidate_score / (1 - settings.candidate_score)),
            "overlap": settings.overlap,
            "blend": settings.blend,
        }
        levels = list(self.run(session, canvases))
        photo, boxes, landmarks, scores, broken = _native.find_faces(levels, scan.scales, scan.photo, **thresholds)
        if broken:
            raise DeviceError("the aligner's outputs are not all numbers; is its file damaged?")
        return Detections(photo, boxes, landmarks, scores)

    def warp(
        self,
        photos: Sequence[Any],
        owner: NDArray[np.int32],
        matrices: NDArray[np.float64],
        session: Session,
        spec: ModelSpec,
        size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        return self.pictures(photos, owner, matrices, spec, size)

    def pictures(
        self,
        photos: Sequence[Any],
        owner: NDArray[np.int32],
        matrices: NDArray[np.float64],
        spec: ModelSpec,
        size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        pixels = [np.asarray(photo) for photo in photos]  # views of the decoder's memory
        mean = np.array(spec.mean, np.float32)
        chips: NDArray[np.uint8] = _native.gather(
            pixels, owner, matrices, *size, mean=mean, scale=spec.scale, dtype="uint8"
        )
        return chips

    def host(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        return array

    def finish(self) -> None:
        return None

    def follow(self, mark: object) -> None:
        return None

    def wait(self) -> None:
        return None

    def warm(self, name: str, session: Session, *, side: int = 0) -> None:
        return None

    def release(self) -> None:
        return None

    def free_bytes(self) -> int | None:
        return None

    def title(self) -> str:
        return "the CPU backend"

    def peak_tflops(self) -> float | None:
        return None

    def copy_bandwidth(self, nbytes: int) -> float:
        source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
        started = time.perf_counter()
        np.copyto(target, source)
        return nbytes / (time.perf_counter() - started)
