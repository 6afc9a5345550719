"""What one stream needs to run a network of TensorRT's: contexts, and their inputs, outputs and scratch memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.cuda_memory import Cuda
from faceembed.engine.runtimes.engine_file import NetworkFacts
from faceembed.engine.runtimes.flavours import Flavour
from faceembed.engine.runtimes.kernel_cache import KernelCache
from faceembed.errors import DeviceError

_SHAPES = 8  # whose memory a lane keeps at once


class Bound:
    """One shape on one stream: an execution context with fixed memory, and how to launch it.

    Args:
        context: ready but for its scratch memory.
        given, results: its input and outputs.
        arena: of the stream.
        stream: where it runs.
        ahead_of_time: whether TensorRT captures a CUDA graph by itself.
    """

    def __init__(
        self,
        context: Any,
        given: DeviceArray,
        results: tuple[DeviceArray, ...],
        *,
        cuda: Cuda,
        stream: Any,
        ahead_of_time: bool,
        said: Callable[[], str],
    ) -> None:
        self.given = given
        self.results = results
        self._context = context
        self._cuda = cuda
        self._stream = stream
        self._ahead_of_time = ahead_of_time
        self._said = said
        self._runs = 0
        self._graph: Callable[[Any], None] | None = None
        self._scratch_bytes = int(context.update_device_memory_size_for_shapes())
        self._arena = cuda.arena(stream)
        self._arena.join(self._scratch_bytes, self._move)

    def launch(self) -> None:
        """Queue the network: at first as it is, which TensorRT needs for its own set-up; then, for TensorRT, as a CUDA graph."""
        if self._runs == 1 and not self._ahead_of_time:
            self._graph = self._cuda.capture(self._stream, self._plain)
        self._runs += 1
        if self._graph is None:
            self._plain()
        else:
            self._graph(self._stream)

    def close(self) -> None:
        """Leave the arena; nothing of it may be at work."""
        self._graph = None
        self._arena.leave(self._move)

    def _plain(self) -> None:
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise DeviceError(f"TensorRT fails while it runs ({self._said()})")

    def _move(self, start: int) -> None:
        """The arena lies elsewhere: a graph that was captured would work where it lay."""
        context = self._context
        context.set_device_memory(start, self._scratch_bytes)
        self._graph, self._runs = None, 0


class Lane:
    """What one stream needs of its own: contexts, inputs and outputs. Callers hold `lock`."""

    def __init__(
        self,
        flavour: Flavour,
        engine: Any,
        names: tuple[str, list[str]],
        facts: NetworkFacts,
        cuda: Cuda,
        stream: Any,
        log: Any,
        kernels: KernelCache | None,
    ) -> None:
        self.lock = threading.Lock()
        self.made = 0
        """Contexts so far."""
        self._flavour = flavour
        self._engine = engine
        self._input, self._outputs = names
        self._facts = facts
        self._cuda = cuda
        self._stream = stream
        self._log = log
        self._kernels = kernels
        self._bound: OrderedDict[tuple[int, ...], Bound] = OrderedDict()

    def bind(self, shape: tuple[int, ...]) -> Bound:
        """Memory for a shape and its launch, made at the first call with it; the shape that was used longest ago makes room."""
        if shape in self._bound:
            self._bound.move_to_end(shape)
            return self._bound[shape]
        while len(self._bound) >= _SHAPES:
            self._stream.sync()  # a context may not go while it works
            self._bound.popitem(last=False)[1].close()
        self._bound[shape] = bound = self._make(shape)
        return bound

    def clear(self) -> None:
        """Let all memory go."""
        self._stream.sync()
        while self._bound:
            self._bound.popitem()[1].close()

    def _make(self, shape: tuple[int, ...]) -> Bound:
        context = self._context(shape)
        self.made += 1
        given = self._array(shape, np.uint8 if self._facts.entry == "pixels" else np.float16)
        context.set_tensor_address(self._input, given.pointer)
        results = []
        for name in self._outputs:
            result = self._array(tuple(int(length) for length in context.get_tensor_shape(name)), np.float32)
            context.set_tensor_address(name, result.pointer)
            results.append(result)
        return Bound(
            context,
            given,
            tuple(results),
            cuda=self._cuda,
            stream=self._stream,
            ahead_of_time=self._flavour.ahead_of_time,
            said=self._log.said,
        )

    def _context(self, shape: tuple[int, ...]) -> Any:
        """An execution context of the shape's own, so that its addresses and its graph stay as they are."""
        trt = self._flavour.module
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._flavour.ahead_of_time:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._kernels is not None:
            self._kernels.attach(config)
        context = self._engine.create_execution_context(config)
        if context is None:
            raise DeviceError(f"{self._flavour.title} makes no execution context ({self._log.said()})")
        sides = (shape[1], shape[2]) if self._facts.entry == "pixels" else (shape[2], shape[3])
        fitting = [index for index, profile in enumerate(self._facts.profiles) if profile.takes(shape[0], *sides)]
        if not context.set_optimization_profile_async(
            fitting[0], int(self._stream.handle)
        ) or not context.set_input_shape(self._input, shape):
            raise DeviceError(f"{self._flavour.title} refuses an input of shape {shape} ({self._log.said()})")
        return context

    def _array(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        kind = np.dtype(dtype)
        memory = self._cuda.allocate(int(np.prod(shape, dtype=np.int64)) * kind.itemsize, self._stream)
        return DeviceArray(int(memory.handle), shape, kind, memory)
