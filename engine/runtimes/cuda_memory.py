"""All that the runtimes ask of CUDA, through cuda-core: streams, memory, copies, graphs. Thin, so that all else is tested without a card.

Pointers are plain numbers. What is allocated here is freed when the object that holds it goes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DeviceError
from faceembed.install import pip_install


class Cuda(Protocol):
    """One card."""

    def enter(self) -> None:
        """Make the card this thread's own."""

    def stream(self) -> Any:
        """A new stream; it has a ``handle``."""

    def allocate(self, nbytes: int, stream: Any) -> Any:
        """Memory on the card, usable from ``stream`` on; ``int(memory.handle)`` is its address, a multiple of 256."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Page-locked memory of the host, which copies run fastest from and to; the array keeps it alive."""

    def copy(self, to: int, source: int, nbytes: int, stream: Any) -> None:
        """Queue a copy between any two places, host's or card's."""

    def capture(self, stream: Any, work: Callable[[], None]) -> Callable[[Any], None]:
        """Record what ``work`` queues on ``stream`` instead of running it; the result queues it all on a stream at once."""


class CoreCuda:
    """`Cuda` through cuda-core."""

    def __init__(self, index: int) -> None:
        core = _core()
        self._core = core
        self._device = core.Device(index)
        self.enter()
        self._host = core.LegacyPinnedMemoryResource()

    def enter(self) -> None:
        self._device.set_current()

    def stream(self) -> Any:
        return self._device.create_stream()

    def allocate(self, nbytes: int, stream: Any) -> Any:
        return self._device.allocate(max(nbytes, 1), stream=stream)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        buffer = self._host.allocate(max(nbytes, 1))
        view = (ctypes.c_uint8 * max(nbytes, 1)).from_address(int(buffer.handle))
        view.keeps = buffer  # type: ignore[attr-defined]  # the array holds the view, and the view the buffer
        return np.ctypeslib.as_array(view)

    def copy(self, to: int, source: int, nbytes: int, stream: Any) -> None:
        if nbytes:
            buffer = self._core.Buffer
            buffer.from_handle(to, nbytes).copy_from(buffer.from_handle(source, nbytes), stream=stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Callable[[Any], None]:
        builder = stream.create_graph_builder()
        builder.begin_building("thread_local")
        try:
            work()
        finally:
            builder.end_building()
        graph = builder.complete()
        return lambda target: graph.launch(target)


@functools.cache
def open_cuda(index: int) -> Cuda:
    """A card by its number; one object for each.

    Raises:
        DeviceError: cuda-core is not installed, or the card does not start.
    """
    try:
        return CoreCuda(index)
    except DeviceError:
        raise
    except Exception as error:  # cuda-core raises CUDAError, RuntimeError and ValueError, by version
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DeviceError(f"card cuda:{index} does not start ({reason}); see: faceembed doctor") from error


def _core() -> Any:
    try:
        import cuda.core
    except ImportError as error:
        raise DeviceError(
            f"cuda-core is not installed or does not load ({error}); run: {pip_install('gpu')}"
        ) from error
    return cuda.core
