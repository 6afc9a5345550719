"""DALI's dynamic mode, as far as we use it: decode, and turn upright. The same calls on a card and on the CPU.

`nvidia.dali.experimental.dynamic` calls operators like functions; `EvalMode.sync_cpu` makes errors appear in the call that
caused them, while the card still works asynchronously on the stream of the `EvalContext`.

Pixel centres: `warp_affine` counts coordinates from the corner of the first pixel, OpenCV and we from its centre.
`corner_matrix` translates; left out, everything is half a pixel off. `resize` needs no translation.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.photos.header import PLAIN, Header
from faceembed.engine.photos.whole import is_whole
from faceembed.engine.pipeline.gpu.interface import Undecodable
from faceembed.engine.pipeline.shortage import is_out_of_memory
from faceembed.errors import DeviceError
from faceembed.install import pip_install

_SAMPLE = re.compile(r"sample #(\d+)")


def load() -> Any:
    """The module, imported at first use.

    DALI imports torch wherever it is installed, for conversions that are not used here: seconds and hundreds of MB. It does
    without where the import fails, so for that moment it does.

    Raises:
        DeviceError: it is not installed, or does not load.
    """
    name = "nvidia.dali.experimental.dynamic"
    if name in sys.modules:
        return sys.modules[name]
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from nvidia.dali.experimental import dynamic
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"NVIDIA DALI cannot be loaded ({reason}); run: {pip_install('gpu')}") from error
    finally:
        if hidden:
            del sys.modules["torch"]
    return dynamic


def readable(data: bytes, header: Header) -> bool:
    """Whether DALI reads a file as OpenCV does; others are decoded by OpenCV, and counted.

    * What has a way of its own (`ways`): the still picture of an animated PNG, BMPs with bit masks, lossless JPEGs.
    * TIFF: planes of 16 bits come out grey without an error, and libtiff prints to stderr.
    * WebP: only simple files, none with a `VP8X` header (animation, alpha, EXIF).
    * JPEG: no CMYK, which no decoder of NVIDIA's does on the card.
    * Files without an end: they are damaged most likely, and DALI prints to stderr about them. And those with zeros for their data,
      which `decode` refuses.
    """
    if header.way != PLAIN or not is_whole(data, header):
        return False
    if header.format == "JPEG":
        return _components(data) in (1, 3) and b"\xff\xd9" in data[-1024:]
    if header.format == "PNG":
        return b"IEND" in data[-1024:]
    if header.format == "WebP":
        return data[12:16] in (b"VP8 ", b"VP8L") and len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return header.format == "BMP"


def _components(data: bytes) -> int:
    """Colour components of a JPEG whose header `probe` has read."""
    at = 2
    while at + 9 < len(data):
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 9]
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def corner_matrix(matrix: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A (2, 3) map between pixel centres at whole numbers, as `warp_affine` wants it: between corners at whole numbers."""
    moved = np.array(matrix, np.float64)
    moved[:, 2] += 0.5 - moved[:, :2].sum(1) / 2
    return moved.astype(np.float32)


class Dali:
    """Decoding and scaling on one device.

    Args:
        device: ``cpu`` or ``gpu``.
        device_id: the card's number; None for the CPU.
        threads: of each lane, for what the processor does.
    """

    def __init__(self, device: str, *, device_id: int | None = None, threads: int = 1) -> None:
        self.dynamic = load()
        self.device = device
        self._device_id = device_id
        self._threads = threads

    @contextlib.contextmanager
    def lane(self, stream: Any = None) -> Iterator[None]:
        """What a thread must be inside of to call the other methods.

        Args:
            stream: the CUDA stream to work on (anything with ``__cuda_stream__``).
        """
        options = {} if self._device_id is None else {"device_id": self._device_id, "cuda_stream": stream}
        context = self.dynamic.EvalContext(num_threads=self._threads, **options)
        with context, self.dynamic.EvalMode.sync_cpu:
            yield

    def decode(self, files: Sequence[bytes]) -> list[Any]:
        """As `Backend.decode`: DALI tensors."""
        batch = self.dynamic.as_batch([np.frombuffer(data, np.uint8) for data in files])
        try:
            # Fancy upsampling is what libjpeg-turbo, and so OpenCV, does: on the CPU the two agree bit for bit.
            decoded = self.dynamic.decoders.image(
                batch, device=self.device, jpeg_fancy_upsampling=True, adjust_orientation=True
            )
            decoded.evaluate()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            text = " ".join(str(part) for part in (error, error.__cause__) if part)
            raise Undecodable(text, [int(number) for number in _SAMPLE.findall(text)]) from error
        return list(decoded.tensors)

    def upload(self, pixels: NDArray[np.uint8]) -> Any:
        """As `Backend.upload`: a DALI tensor."""
        tensor = self.dynamic.as_tensor(np.ascontiguousarray(pixels), layout="HWC")
        return tensor if self.device == "cpu" else tensor.gpu(self._device_id)
