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

from faceembed.engine.pipeline.gpu.decoder import Decoder
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


def corner_matrix(matrix: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A (2, 3) map between pixel centres at whole numbers, as `warp_affine` wants it: between corners at whole numbers."""
    moved = np.array(matrix, np.float64)
    moved[:, 2] += 0.5 - moved[:, :2].sum(1) / 2
    return moved.astype(np.float32)


class Undecodable(Exception):
    """A batch of files that could not be decoded together.

    Args:
        reason: what DALI said.
        suspects: positions of the files that it named, if it named any.
    """

    def __init__(self, reason: str, suspects: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.suspects = list(suspects)


class Dali(Decoder):
    """Decoding on one device. DALI refuses a whole batch for one bad file, so the batch is taken apart until the file is alone.

    Args:
        device: ``cpu`` or ``gpu``.
        device_id: the card's number; None for the CPU.
        threads: of each lane, for what the processor does.
    """

    title = "DALI"

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

    def decode(self, files: Sequence[bytes], stream: Any = None) -> list[Any]:
        """As `Decoder.decode`: DALI tensors."""
        if not files:
            return []
        try:
            return self.decode_together(files)
        except Undecodable as error:
            if len(files) == 1:
                return [None]
            suspects = sorted(set(error.suspects) & set(range(len(files))))
        if 0 < len(suspects) <= len(files) // 2:
            result: list[Any] = [None] * len(files)
            named = set(suspects)
            rest = [place for place in range(len(files)) if place not in named]
            for place in suspects:
                result[place] = self.decode([files[place]])[0]
            for place, array in zip(rest, self.decode([files[place] for place in rest]), strict=True):
                result[place] = array
            return result
        middle = len(files) // 2
        return [*self.decode(files[:middle]), *self.decode(files[middle:])]

    def decode_together(self, files: Sequence[bytes]) -> list[Any]:
        """Decode all, or none.

        Raises:
            Undecodable: at least one of them is damaged.
        """
        # Of a buffer that may be written DALI makes no array of its own: 3 us a photo in place of 17.
        batch = self.dynamic.as_batch([np.frombuffer(bytearray(data), np.uint8) for data in files])
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
