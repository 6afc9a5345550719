"""All that the runtimes ask of CUDA, through cuda-core: streams, memory, copies, graphs. Thin, so that all else is tested without a card.

Pointers are plain numbers. What is allocated here is freed when the object that holds it goes.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DeviceError
from faceembed.install import pip_install

_ALIGNMENT = 256  # of what TensorRT works in


class Cuda(Protocol):
    """One card."""

    def enter(self) -> None:
        """Make the card this thread's own."""

    def stream(self) -> Any:
        """A new stream; it has a ``handle``."""

    def named(self, name: str) -> Any:
        """The stream of that name: the same one every time, so that what is prepared for it is prepared once."""

    def allocate(self, nbytes: int, stream: Any) -> Any:
        """Memory on the card, usable from ``stream`` on; ``int(memory.handle)`` is its address, a multiple of 256."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Page-locked memory of the host, which copies run fastest from and to; the array keeps it alive."""

    def copy(self, to: int, source: int, nbytes: int, stream: Any) -> None:
        """Queue a copy between any two places, host's or card's."""

    def arena(self, stream: Any) -> Arena:
        """The scratch memory of a stream."""

    def trim(self) -> None:
        """Give memory that was freed here back to the card, which others allocate from."""

    def capture(self, stream: Any, work: Callable[[], None]) -> Callable[[Any], None]:
        """Record what ``work`` queues on ``stream`` instead of running it; the result queues it all on a stream at once."""


class Arena:
    """Scratch memory of one stream, which all networks there share: they run one after another. It only grows, or goes altogether.

    Args:
        allocate: takes bytes, gives memory on the card, usable from the stream on.
        wait: until the stream's work is done, so that memory may go.
    """

    def __init__(self, allocate: Callable[[int], Any], wait: Callable[[], None]) -> None:
        self._allocate = allocate
        self._wait = wait
        self._memory: Any = None
        self._users: list[Callable[[int], None]] = []
        self._lock = threading.Lock()
        self.nbytes = 0

    def join(self, nbytes: int, move: Callable[[int], None]) -> None:
        """Use the arena from now on.

        Args:
            nbytes: that are needed.
            move: told the address, a multiple of 256, now and whenever it changes. Nothing works there then.
        """
        with self._lock:
            if nbytes > self.nbytes or self._memory is None:
                larger = self._allocate(nbytes + _ALIGNMENT)  # may fail: then all stays as it is
                self._wait()
                self._memory, self.nbytes = larger, nbytes
                for user in self._users:
                    user(self._start())
            self._users.append(move)
            move(self._start())

    def leave(self, move: Callable[[int], None]) -> None:
        """Use it no more; with its last user the memory goes. Nothing of his may be at work."""
        with self._lock:
            self._users.remove(move)
            if not self._users:
                self._memory, self.nbytes = None, 0

    def _start(self) -> int:
        return -(-int(self._memory.handle) // _ALIGNMENT) * _ALIGNMENT


class CoreCuda:
    """`Cuda` through cuda-core."""

    def __init__(self, index: int) -> None:
        core = _core()
        self._core = core
        self._device = core.Device(index)
        self.enter()
        self._named: dict[str, Any] = {}
        self._arenas: dict[int, Arena] = {}
        self._lock = threading.Lock()

    def enter(self) -> None:
        self._device.set_current()

    def stream(self) -> Any:
        return self._device.create_stream()

    def named(self, name: str) -> Any:
        with self._lock:
            if name not in self._named:
                self._named[name] = self.stream()
            return self._named[name]

    def arena(self, stream: Any) -> Arena:
        with self._lock:
            key = int(stream.handle)
            if key not in self._arenas:
                self._arenas[key] = Arena(lambda nbytes: self.allocate(nbytes, stream), stream.sync)
            return self._arenas[key]

    def trim(self) -> None:
        from cuda.bindings import driver

        self._device.sync()  # what is freed on a stream is free when the stream has come so far
        (status,) = driver.cuMemPoolTrimTo(self._device.memory_resource.handle, 0)
        if int(status) != 0:
            raise DeviceError(f"CUDA's cuMemPoolTrimTo failed with {status!r}")

    def allocate(self, nbytes: int, stream: Any) -> Any:
        return self._device.allocate(max(nbytes, 1), stream=stream)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        return pinned(nbytes)

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


def pinned(nbytes: int) -> NDArray[np.uint8]:
    """As `Cuda.pinned`, for the card that is current in this thread; one byte at least."""
    core = _core()
    buffer = core.LegacyPinnedMemoryResource().allocate(max(nbytes, 1))
    view = (ctypes.c_uint8 * max(nbytes, 1)).from_address(int(buffer.handle))
    view.keeps = buffer  # type: ignore[attr-defined]  # the array holds the view, and the view the buffer
    return np.ctypeslib.as_array(view)


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
