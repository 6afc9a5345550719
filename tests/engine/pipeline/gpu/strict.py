"""A card made of the host's memory, as bad-tempered as one may be: what is put into a stream happens when somebody waits, and not before.

It stands in for `cuda.core`, for the functions of `cuda.bindings.driver` that we call, for nvImageCodec, and for TensorRT's contexts. Memory holds `POISON`
until work writes it, and again from the moment that it is freed. A stream comes only as far as a wait needs: another stream's work is
done where an event asks for it, else it is not done. So a wait or an event that is missing shows as pixels and embeddings of poison.

Frees are as late as the order of streams allows, or, with ``eager``, as early: the stream that frees runs ahead of all others then.
"""

from __future__ import annotations

import collections
import ctypes
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from tests.engine.runtimes.test_tensorrt import FakeContext, FakeEngine

POISON = 0xA5
STAGED = 16 << 10  # bytes from pageable memory that the driver takes without a wait; 64 KiB on a real card
Work = Callable[[], None]


class Event:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.position = stream.queued

    @property
    def is_done(self) -> bool:
        return self.stream.done >= self.position


class Stream:
    """`cuda.core.Stream`."""

    def __init__(self, card: Card, number: int) -> None:
        self.card = card
        self.handle = number
        self.queued = 0
        self.done = 0
        self.captured: list[Work] | None = None
        self._work: collections.deque[Work] = collections.deque()

    def put(self, work: Work) -> None:
        with self.card.lock:
            if self.captured is not None:
                self.captured.append(work)
                return
            self.card.bury()
            self._work.append(work)
            self.queued += 1
            if self.card.at_once:
                self.run_to(self.queued)

    def run_to(self, position: int) -> None:
        with self.card.lock:
            while self.done < position:
                self.done += 1
                self._work.popleft()()

    def sync(self) -> None:
        with self.card.lock:
            self.card.waits += 1
            self.card.bury()
            self.run_to(self.queued)

    def record(self, event: None = None, options: None = None) -> Event:
        with self.card.lock:
            return Event(self)

    def wait(self, event_or_stream: Event | Stream) -> None:
        event = event_or_stream if isinstance(event_or_stream, Event) else event_or_stream.record()
        self.put(lambda: event.stream.run_to(event.position))

    def create_graph_builder(self) -> Any:
        def begin(mode: str) -> None:
            self.captured = []

        def complete() -> Any:
            work, self.captured = self.captured or [], None
            self.card.graphs += 1

            def launch(target: Stream) -> None:
                self.card.replays += 1
                for one in work:
                    target.put(one)

            return types.SimpleNamespace(launch=launch)

        return types.SimpleNamespace(begin_building=begin, end_building=lambda: None, complete=complete)


class Memory:
    """`cuda.core.Buffer`; of the host where it has no stream."""

    def __init__(self, card: Card, size: int, stream: Stream | None) -> None:
        self._card, self._stream, self.size = card, stream, size
        self._bytes = np.full(size + 512, POISON, np.uint8)
        self.handle = -(-self._bytes.ctypes.data // 256) * 256
        card.live += size

    def holds(self, address: int) -> bool:
        return self.handle <= address < self.handle + self.size

    def __del__(self) -> None:
        self._card.freed.append((self._bytes, self._stream, self.size))  # seen to when the card is asked next


class Card:
    """One card.

    Args:
        at_once: work happens when it is put: what everything is compared with.
        eager: frees happen as early as they may.
        emulator: runs kernels.
    """

    def __init__(self, emulator: ctypes.CDLL | None = None, *, at_once: bool = False, eager: bool = False) -> None:
        self.lock = threading.RLock()
        self.at_once, self.eager = at_once, eager
        self.emulator = emulator
        self.streams: list[Stream] = []
        self.freed: list[tuple[np.ndarray, Stream | None, int]] = []
        self._graves: list[np.ndarray] = []  # so that a use after a free reads poison, and not somebody's memory
        self.waits = self.graphs = self.replays = self.live = self.allocations = 0
        self.pinned: weakref.WeakSet[Memory] = weakref.WeakSet()
        self.refused: frozenset[int] = frozenset()  # which allocations find no memory

    def new_stream(self) -> Stream:
        self.streams.append(Stream(self, len(self.streams) + 1))
        return self.streams[-1]

    def stream(self, handle: Any) -> Stream:
        return self.streams[int(handle) - 1]

    def bury(self) -> None:
        """What was freed since: poisoned in its stream's order; memory of the host is at once."""
        while self.freed:
            memory, stream, size = self.freed.pop()
            self.live -= size
            self._graves.append(memory)
            if stream is None or self.at_once:
                memory.fill(POISON)
                continue
            stream._work.append(lambda memory=memory: memory.fill(POISON))
            stream.queued += 1
            if self.eager:
                stream.run_to(stream.queued)

    # ---- what stands in for packages ----

    def core(self) -> types.ModuleType:
        """`cuda.core`."""
        card = self
        module = types.ModuleType("cuda.core")

        class Device:
            device_id = 0
            compute_capability = types.SimpleNamespace(major=8, minor=9)
            memory_resource = types.SimpleNamespace(handle="pool")

            def __init__(self, index: int = 0) -> None:
                pass

            def set_current(self) -> None:
                pass

            def create_stream(self, obj: Any = None) -> Stream:
                return card.new_stream()

            def allocate(self, size: int, *, stream: Stream) -> Memory:
                with card.lock:
                    card.bury()
                    card.allocations += 1
                    if card.allocations in card.refused:  # as cuda-core says it
                        raise RuntimeError(
                            "CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate"
                        )
                    return Memory(card, size, stream)

            def sync(self) -> None:
                for stream in card.streams:
                    stream.sync()

        class Buffer:
            def __init__(self, handle: int, size: int) -> None:
                self.handle, self.size = handle, size

            from_handle: Any = classmethod(lambda cls, ptr, size: cls(ptr, size))

            def copy_from(self, src: Buffer, *, stream: Stream) -> None:
                stream.put(lambda: ctypes.memmove(self.handle, src.handle, self.size) and None)

        class ObjectCode:
            from_cubin: Any = classmethod(lambda cls, code, name: cls())

            def get_kernel(self, name: str) -> str:
                return name

        def launch(stream: Stream, config: Any, kernel: str, *values: Any) -> None:
            cells = [np.array([np.uint64(value) if isinstance(value, int) else value]) for value in values]

            def run() -> None:
                pointers = (ctypes.c_void_p * len(cells))(*[cell.ctypes.data for cell in cells])
                assert card.emulator is not None
                problem = card.emulator.emulate(kernel.encode(), pointers, config.grid, config.block, 0, config.grid, 0)
                assert problem is None, problem.decode()

            stream.put(run)

        def page_locked(size: int) -> Memory:
            memory = Memory(card, size, None)
            card.pinned.add(memory)
            return memory

        for name, value in {
            "Device": Device,
            "Stream": Stream,
            "Buffer": Buffer,
            "ObjectCode": ObjectCode,
            "launch": launch,
            "LaunchConfig": lambda grid, block: types.SimpleNamespace(grid=grid, block=block),
            "LegacyPinnedMemoryResource": lambda: types.SimpleNamespace(allocate=page_locked),
        }.items():
            setattr(module, name, value)
        return module

    def driver(self) -> Any:
        """`cuda.bindings.driver`."""

        def to_device(target: int, source: int, size: int, handle: Any) -> tuple[int]:
            if any(memory.holds(source) for memory in self.pinned):
                return move(target, source, size, handle)
            if size > STAGED:
                self.stream(handle).sync()
            data = ctypes.string_at(source, size)  # from pageable memory: read before the call returns
            self.stream(handle).put(lambda: ctypes.memmove(target, data, size) and None)
            return (0,)

        def move(target: int, source: int, size: int, handle: Any) -> tuple[int]:
            self.stream(handle).put(lambda: ctypes.memmove(target, source, size) and None)
            return (0,)

        def fill(target: int, byte: int, size: int, handle: Any) -> tuple[int]:
            self.stream(handle).put(lambda: ctypes.memset(target, byte, size) and None)
            return (0,)

        return types.SimpleNamespace(
            cuMemcpyHtoDAsync=to_device,
            cuMemcpyDtoHAsync=move,
            cuMemcpyDtoDAsync=move,
            cuMemsetD8Async=fill,
            cuMemGetInfo=lambda: (0, 8 << 30, 24 << 30),
            cuMemPoolTrimTo=lambda pool, keep: (0,),
        )

    def nvimgcodec(self) -> Any:
        """`nvidia.nvimgcodec`: OpenCV decodes, and the pixels are there when the stream has come so far."""
        card = self
        nobodys = Stream(self, 0)  # the default stream, for which nobody here waits

        class Decoder:
            def __init__(self, device_id: int, max_num_cpu_threads: int, backends: Any, options: str) -> None:
                assert device_id == 0 and backends is None

            def decode(self, srcs: Sequence[bytes], *, params: Any, cuda_stream: int) -> list[Any]:
                stream = card.stream(cuda_stream) if cuda_stream else nobodys
                return [self._image(data, stream) for data in srcs]

            def _image(self, data: bytes, stream: Stream) -> Any:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
                if pixels is None:
                    return None
                with card.lock:
                    card.bury()
                    memory = Memory(card, pixels.nbytes, stream)
                target = memory.handle
                stream.put(lambda: ctypes.memmove(target, pixels.ctypes.data, pixels.nbytes) and None)
                interface = {"shape": pixels.shape, "typestr": "|u1", "data": (target, False), "version": 3}
                return types.SimpleNamespace(__cuda_array_interface__=interface, memory=memory)

        return types.SimpleNamespace(
            Decoder=Decoder,
            CodeStream=lambda data: data,
            DecodeParams=lambda **options: None,
            ColorSpec=types.SimpleNamespace(SRGB=1),
            Backend=lambda kind: kind,
            BackendKind=types.SimpleNamespace(CPU_ONLY=1),
        )

    def engine(self) -> type[FakeEngine]:
        """TensorRT's engine, whose contexts put their work into streams."""
        card = self

        class Context(FakeContext):
            def execute_async_v3(self, stream: int) -> bool:
                addresses, shape, there = dict(self.addresses), self.shape, weakref.ref(self)

                def run() -> None:
                    context = there()
                    assert context is not None, "a context is gone before its work is done"
                    assert (context.addresses, context.shape) == (addresses, shape)
                    ctypes.memset(context.memory[0], POISON, context.memory[1])  # the arena is his for that long
                    assert FakeContext.execute_async_v3(context, stream)

                card.stream(stream).put(run)
                return True

        class Engine(FakeEngine):
            def create_execution_context(self, config: Any) -> FakeContext:
                super().create_execution_context(config)
                self.contexts.pop()  # who makes them keeps them
                return Context(self)

        return Engine
