"""What the stages of the GPU path ask of a device. Every stage is written once, against `Backend`.

Two kinds fill it: `cuda.CudaBackend` (a `decoder` on the card, TensorRT or ONNX Runtime CUDA, our kernels) and `cpu.CpuBackend` (the
decoder's CPU backend, ONNX Runtime, the CPU build of the same kernels). The CPU one runs the whole path where there is no card, in tests
and for comparison. It is never what ``--device cuda`` falls back to.

What an array is, is the backend's own business: the stages hand it from one call to the next and never look inside.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.canvas import Shape
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.oneshot import OneShotSettings
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.gpu.decoder import Decoder
from faceembed.engine.runtimes.base import Session

Array = Any
"""Numbers where the backend has them: a DALI tensor, a `DeviceArray`, a NumPy array."""


@dataclasses.dataclass(frozen=True, slots=True)
class DevicePhoto:
    """A photo decoded on a device, upright and whole; stands where `decode.Photo` does."""

    pixels: Array
    """uint8 RGB (H, W, 3); it has a ``shape``."""
    width: int
    height: int
    reduction: int = 1
    offset: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, pixels: Array) -> DevicePhoto:
        """A photo of that size."""
        height, width, _ = pixels.shape
        return cls(pixels, int(width), int(height))


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """Photos that are searched on canvases of one shape, in one run of the network."""

    photo: NDArray[np.int32]
    """(N,) which of a batch's photos."""
    shape: Shape
    """Of the canvases."""
    sizes: NDArray[np.int64]
    """(N, 2) height and width of each copy."""
    scales: NDArray[np.float32]
    """(N, 2) canvas pixels per photo pixel, x then y."""


class Backend(abc.ABC):
    """One device. Each stage calls from a thread of its own, inside a `lane`."""

    device: str
    """As the user names it: ``cuda:0``."""
    decoder: Decoder

    @abc.abstractmethod
    def lane(self, name: str) -> contextlib.AbstractContextManager[None]:
        """What the thread of a stage must be inside of: the device, and the stage's own stream, the same one every time."""

    @abc.abstractmethod
    def decode(self, files: Sequence[bytes]) -> list[Array | None]:
        """Decode pictures, EXIF orientation applied: uint8 RGB (H, W, 3) each, None for one that the decoder refuses."""

    @abc.abstractmethod
    def upload(self, pixels: NDArray[np.uint8]) -> Array:
        """The same for a picture that the host decoded."""

    @abc.abstractmethod
    def run(self, session: Session, pixels: Array) -> tuple[Array, ...]:
        """Run any number of inputs through a session, in batches that suit it."""

    @abc.abstractmethod
    def look(
        self,
        photos: Sequence[Array],
        scans: Sequence[Scan],
        detector: Session,
        refiner: Session,
        spec: ModelSpec,
        settings: OneShotSettings,
    ) -> Detections:
        """Search photos for faces: scale them, antialiased, into the top-left corners of grey canvases, run the one-shot network, decode,
        suppress what overlaps, average what agrees, and make landmarks and scores exact with the refiner. Waited for once.

        Args:
            photos: of `decode` or `upload`.
            scans: which of them are shown how large.
            detector, refiner: sessions of the aligner's two networks.
            spec: of the aligner.
            settings: thresholds.

        Returns:
            Faces in pixels of the photos, on the host, in the order of the scans.
        """

    @abc.abstractmethod
    def warp(
        self,
        photos: Sequence[Array],
        owner: NDArray[np.int32],
        matrices: NDArray[np.float64],
        session: Session,
        spec: ModelSpec,
        size: tuple[int, int],
    ) -> Array:
        """Cut chips out of whole photos, antialiased.

        Args:
            photos: of `decode` or `upload`.
            owner: (F,) each chip's photo.
            matrices: (F, 2, 3) chip pixel to photo pixel, centres at whole numbers.
            session: what the chips are for.
            spec: of its model.
            size: height and width of a chip.

        Returns:
            F chips, as `run` takes them for that session.
        """

    @abc.abstractmethod
    def pictures(
        self,
        photos: Sequence[Array],
        owner: NDArray[np.int32],
        matrices: NDArray[np.float64],
        spec: ModelSpec,
        size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        """The same chips to look at: uint8 RGB (F, height, width, 3), in the host's memory. Arguments as of `warp`."""

    @abc.abstractmethod
    def host(self, array: Array) -> NDArray[np.float32]:
        """A copy in the host's memory, once the work that makes the array is done."""

    @abc.abstractmethod
    def finish(self) -> Any:
        """Called at the end of a stage: what the next stage's `follow` waits for."""

    @abc.abstractmethod
    def follow(self, mark: Any) -> None:
        """Called at the start of a stage: its work comes after that of `finish`."""

    @abc.abstractmethod
    def wait(self) -> None:
        """Wait until this lane's work is done: memory that it reads may go then."""

    @abc.abstractmethod
    def warm(self, name: str, session: Session, *, side: int = 0) -> None:
        """Prepare a session for the lane of that name; ``side`` as `DeviceSession.warm`."""

    @abc.abstractmethod
    def release(self) -> None:
        """Give memory that is cached or prepared, but not in use, back to the device."""

    @abc.abstractmethod
    def free_bytes(self) -> int | None:
        """Memory of the device that is free now; None where that is no measure."""

    @abc.abstractmethod
    def title(self) -> str:
        """What the device is, for a report."""

    @abc.abstractmethod
    def peak_tflops(self) -> float | None:
        """What its tensor cores do in FP16, 1e12 operations a second; None where it is not known."""

    @abc.abstractmethod
    def copy_bandwidth(self, nbytes: int) -> float:
        """Bytes a second of a copy of so many bytes from the device's memory to itself, measured now."""
