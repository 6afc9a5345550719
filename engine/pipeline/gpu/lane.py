"""Where kernels run: a card's memory, one stream on it, and the kernels loaded there.

`Lane` is all that `kernels` asks for. `CudaLane` fills it through cuda-core; the tests fill it with the host's memory and run
every thread of every block on the CPU. Everything put into a lane happens in the order it was put.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.pipeline.gpu.compiler import load_or_compile
from faceembed.engine.pipeline.gpu.staging import Staging
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.cuda_memory import pinned
from faceembed.errors import DeviceError
from faceembed.install import pip_install

BLOCK = 256  # threads; `kernels.cu` is written for it
MAX_BLOCKS = 2**31 - 1
Argument = DeviceArray | np.generic


class Lane(Protocol):
    """One stream of work on one device."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """New memory, not initialised."""

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """A copy of a host array; the host may change its own at once."""

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """A copy in the host's memory, once all work put before is done: the only call that waits."""

    def fill(self, array: DeviceArray, byte: int) -> None:
        """Every byte of an array."""

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """From one array of the device to another of the same size."""

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        """Run ``blocks`` blocks of `BLOCK` threads; none for 0."""


class CudaLane:
    """A stream of cuda-core's.

    Args:
        stream: a ``cuda.core.Stream`` of the device that is current in this thread, or anything with ``__cuda_stream__``;
            None: a new one.

    Raises:
        DeviceError: no driver, no card, or no NVRTC.
    """

    def __init__(self, stream: Any = None) -> None:
        self._device = current_device()
        from cuda.core import Stream

        self.stream = stream if isinstance(stream, Stream) else self._device.create_stream(stream)
        self._staged = pinned(0)
        self.staging = Staging()
        self._library = _library(self._device.device_id, architecture(self._device))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        array = DeviceArray(1, shape, np.dtype(dtype), None)  # for its size
        if not array.size:
            return DeviceArray(0, shape, array.dtype, None)
        buffer = self._device.allocate(array.nbytes, stream=self.stream)
        return DeviceArray(int(buffer.handle), shape, array.dtype, buffer)

    def put(self, array: NDArray[Any]) -> DeviceArray:
        source = np.ascontiguousarray(array)
        target = self.empty(source.shape, source.dtype)
        if source.size:  # from pageable memory: read before the call returns
            _driver("cuMemcpyHtoDAsync", target.pointer, source.ctypes.data, source.nbytes, self._handle)
        return target

    def upload(self, array: NDArray[Any]) -> DeviceArray:
        """As `put`, for what is large: the host does not wait for the stream, as long as `staging` has room."""
        piece = self.staging.take(array.nbytes) if array.size else None
        if piece is None:
            return self.put(array)
        target = self.empty(array.shape, array.dtype)
        source = piece[: array.nbytes]
        np.copyto(source.view(array.dtype).reshape(array.shape), array)
        _driver("cuMemcpyHtoDAsync", target.pointer, source.ctypes.data, source.nbytes, self._handle)
        self.staging.keep(piece, self.stream.record())
        return target

    def get(self, array: DeviceArray) -> NDArray[Any]:
        if array.nbytes > self._staged.nbytes:  # page-locked: a copy to other memory would be made in pieces
            self._staged = pinned(2 * array.nbytes)
        if array.size:
            _driver("cuMemcpyDtoHAsync", self._staged.ctypes.data, array.pointer, array.nbytes, self._handle)
        self.stream.sync()
        return self._staged[: array.nbytes].view(array.dtype).reshape(array.shape).copy()

    def fill(self, array: DeviceArray, byte: int) -> None:
        if array.size:
            _driver("cuMemsetD8Async", array.pointer, byte, array.nbytes, self._handle)

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        if source.size:
            _driver("cuMemcpyDtoDAsync", target.pointer, source.pointer, source.nbytes, self._handle)

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        if blocks == 0:
            return
        from cuda.core import LaunchConfig, launch

        values = [argument.pointer if isinstance(argument, DeviceArray) else argument for argument in arguments]
        launch(self.stream, LaunchConfig(grid=blocks, block=BLOCK), _kernel(self._library, kernel), *values)

    @property
    def _handle(self) -> Any:
        return self.stream.handle


def current_device() -> Any:
    """cuda-core's device that is current in this thread, the first one where none is.

    Raises:
        DeviceError: cuda-core, the driver or a card is missing.
    """
    try:
        from cuda.core import Device
    except ImportError as error:
        raise DeviceError(
            f"the CUDA kernels need the package cuda-core ({error}); run: {pip_install('gpu')}"
        ) from error
    try:
        device = Device()
        device.set_current()
    except Exception as error:  # cuda-core raises classes of its own for no driver and for every CUDA error
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise DeviceError(
            f"no NVIDIA card can be used ({reason}); install NVIDIA's driver, check with nvidia-smi, or use --device cpu"
        ) from error
    return device


def architecture(device: Any) -> str:
    """As ``sm_89``."""
    capability = device.compute_capability
    return f"sm_{capability.major}{capability.minor}"


@functools.lru_cache
def _library(device_id: int, arch: str) -> Any:
    """The kernels, loaded once for each device."""
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(load_or_compile(arch), name=f"kernels of cuda:{device_id}")


@functools.lru_cache
def _kernel(library: Any, name: str) -> Any:
    return library.get_kernel(name)


def _driver(function: str, *arguments: Any) -> None:
    from cuda.bindings import driver

    (status, *_) = getattr(driver, function)(*arguments)
    if int(status) != 0:
        # No word of memory here: `shortage` would take it for want of memory, whatever it was.
        raise DeviceError(f"CUDA's {function} failed with {status!r}; if the card is lost, nvidia-smi and dmesg say so")
