"""TensorRT, and TensorRT for RTX: one session for both, whose Python modules agree.

Each stream that calls has a `Lane`: an execution context, its scratch memory, and for every shape it met fixed inputs and outputs on
the card, so that the launch of all kernels can be a CUDA graph. TensorRT for RTX captures that graph itself; for TensorRT it is
captured here. Calls of different streams run side by side; those of one stream in its order.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.base import DeviceSession, RuntimeChoice
from faceembed.engine.runtimes.cuda_memory import Cuda
from faceembed.engine.runtimes.engine_file import NetworkFacts
from faceembed.engine.runtimes.flavours import Flavour
from faceembed.engine.runtimes.frontend import normalise
from faceembed.engine.runtimes.kernel_cache import KernelCache
from faceembed.engine.runtimes.trt_build import make_logger
from faceembed.errors import DeviceError

_SHAPES = 4  # whose memory a lane keeps at once
_ALIGNMENT = 256


class TensorRtSession(DeviceSession):
    """One network's plan, loaded for one card.

    Args:
        facts: of the plan.
        plan: its bytes.
        spec: of the model, for the normalisation of pixels that come from the host.
        choice: the card and the precision.
        flavour: the package that runs it.
        cuda: the card.
        kernels: those that TensorRT for RTX compiled before, and where it puts new ones; None to keep none.

    Raises:
        DeviceError: TensorRT does not load the plan.
    """

    def __init__(
        self,
        facts: NetworkFacts,
        plan: bytes,
        spec: ModelSpec,
        choice: RuntimeChoice,
        *,
        flavour: Flavour,
        cuda: Cuda,
        kernels: KernelCache | None = None,
    ) -> None:
        trt = flavour.module
        self.choice = choice
        self.entry = facts.entry
        self._facts = facts
        self._spec = spec
        self._flavour = flavour
        self._cuda = cuda
        self._kernels = kernels
        cuda.enter()
        self._log = make_logger(trt)
        self._runtime = trt.Runtime(self._log)  # must live as long as the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise DeviceError(
                f"{flavour.title} does not load the engine of {spec.name} ({self._log.said()}); build it again"
            )
        self._names = _names(trt, self._engine, facts.outputs)
        self._lanes: dict[int, Lane] = {}
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()  # streams of `run` that no call is using

    def run_device(self, pixels: DeviceArray, stream: Any) -> tuple[DeviceArray, ...]:
        self._cuda.enter()
        self._check(pixels)
        lane = self._lane(stream)
        with lane.lock:
            outputs: list[DeviceArray] = []
            size = self._chunk(pixels.shape)
            for start in range(0, len_of(pixels), size):
                part = pixels.rows(start, min(start + size, len_of(pixels)))
                bound = lane.bind(part.shape)
                self._cuda.copy(bound.given.pointer, part.pointer, part.nbytes, stream)
                bound.launch(stream)
                if not outputs:
                    outputs = [self._like(result, len_of(pixels), stream) for result in bound.results]
                for output, result in zip(outputs, bound.results, strict=True):
                    rows = output.rows(start, start + len_of(part))
                    self._cuda.copy(rows.pointer, result.pointer, rows.nbytes, stream)
        return tuple(outputs)

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        given: NDArray[Any] = np.ascontiguousarray(pixels)
        if self.entry == "chips":
            given = normalise(pixels, self._spec)
        self._cuda.enter()
        try:
            stream = self._idle.get_nowait()
        except queue.Empty:
            stream = self._cuda.stream()
        staged = self._cuda.pinned(given.nbytes)
        staged[: given.nbytes] = given.reshape(-1).view(np.uint8)
        memory = self._cuda.allocate(given.nbytes, stream)
        self._cuda.copy(int(memory.handle), staged.ctypes.data, given.nbytes, stream)
        outputs = self.run_device(DeviceArray(int(memory.handle), given.shape, given.dtype, memory), stream)
        copies = []
        for output in outputs:
            host = self._cuda.pinned(output.nbytes)
            self._cuda.copy(host.ctypes.data, output.pointer, output.nbytes, stream)
            copies.append(host)
        stream.sync()
        self._idle.put(stream)
        return tuple(
            host[: output.nbytes].view(np.float32).reshape(output.shape).copy()
            for host, output in zip(copies, outputs, strict=True)
        )

    def _chunk(self, shape: tuple[int, ...]) -> int:
        """The largest batch of this shape that a profile takes."""
        sides = self._sides(shape)
        return max(
            (profile.batch[2] for profile in self._facts.profiles if profile.takes(profile.batch[2], *sides)), default=1
        )

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return (shape[1], shape[2]) if self.entry == "pixels" else (shape[2], shape[3])

    def _check(self, pixels: DeviceArray) -> None:
        kind, channel = (np.dtype(np.uint8), 3) if self.entry == "pixels" else (np.dtype(np.float16), 1)
        shape = pixels.shape
        if pixels.dtype != kind or len(shape) != 4 or shape[channel] != 3 or shape[0] < 1:
            wanted = "uint8 (N, H, W, 3)" if self.entry == "pixels" else "float16 (N, 3, H, W)"
            raise ValueError(f"the network '{self._facts.name}' takes {wanted}, and was given {pixels.dtype} {shape}")
        least, sides = min(shape[0], self._chunk(shape)), self._sides(shape)
        if not any(profile.takes(least, *sides) for profile in self._facts.profiles):
            ranges = " or ".join(
                f"{p.batch[0]} to {p.batch[2]}" + (f" of {p.sides[0]} to {p.sides[2]} pixels" if p.sides else "")
                for p in self._facts.profiles
            )
            raise DeviceError(
                f"the engine of {self._spec.name} ({self._facts.name}) takes batches of {ranges}, not {least} of "
                f"{sides[0]}x{sides[1]}; build one that does: faceembed build-engine --batch MIN,OPT,MAX"
            )

    def _lane(self, stream: Any) -> Lane:
        key = int(stream.handle)
        with self._lock:
            if key not in self._lanes:
                self._lanes[key] = Lane(
                    self._flavour, self._engine, self._names, self._facts, self._cuda, stream, self._log, self._kernels
                )
            return self._lanes[key]

    def _like(self, result: DeviceArray, count: int, stream: Any) -> DeviceArray:
        shape = (count, *result.shape[1:])
        nbytes = int(np.prod(shape, dtype=np.int64)) * result.dtype.itemsize
        memory = self._cuda.allocate(nbytes, stream)
        return DeviceArray(int(memory.handle), shape, result.dtype, memory)


@dataclasses.dataclass(frozen=True)
class Bound:
    """Fixed memory for one shape, and how to launch the network on it."""

    given: DeviceArray
    results: tuple[DeviceArray, ...]
    launch: Callable[[Any], None]


class Lane:
    """What one stream needs of its own: contexts, scratch memory, inputs and outputs. Callers hold `lock`."""

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
            self._bound.popitem(last=False)
        self._bound[shape] = bound = self._make(shape)
        return bound

    def _make(self, shape: tuple[int, ...]) -> Bound:
        context = self._context(shape)
        given = self._array(shape, np.uint8 if self._facts.entry == "pixels" else np.float16)
        context.set_tensor_address(self._input, given.pointer)
        results = []
        for name in self._outputs:
            result = self._array(tuple(int(length) for length in context.get_tensor_shape(name)), np.float32)
            context.set_tensor_address(name, result.pointer)
            results.append(result)
        scratch_bytes = int(context.update_device_memory_size_for_shapes())
        scratch = self._cuda.allocate(scratch_bytes + _ALIGNMENT, self._stream)
        start = -(-int(scratch.handle) // _ALIGNMENT) * _ALIGNMENT
        context.set_device_memory(start, scratch_bytes)
        return Bound(given, tuple(results), self._launch(context, scratch))

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

    def _launch(self, context: Any, scratch: Any) -> Callable[[Any], None]:
        """Queue the network: at first as it is, which TensorRT needs for its own set-up; then, for TensorRT, as a CUDA graph."""
        state: dict[str, Any] = {"runs": 0, "graph": None, "scratch": scratch}

        def plain() -> None:
            if not context.execute_async_v3(int(self._stream.handle)):
                raise DeviceError(f"{self._flavour.title} fails while it runs ({self._log.said()})")

        def launch(stream: Any) -> None:
            if state["runs"] == 1 and not self._flavour.ahead_of_time:
                state["graph"] = self._cuda.capture(stream, plain)
            state["runs"] += 1
            if state["graph"] is None:
                plain()
            else:
                state["graph"](stream)
            if state["runs"] == 1 and self._kernels is not None:
                self._kernels.keep()  # a shape's kernels are compiled by its first run

        return launch

    def _array(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        kind = np.dtype(dtype)
        memory = self._cuda.allocate(int(np.prod(shape, dtype=np.int64)) * kind.itemsize, self._stream)
        return DeviceArray(int(memory.handle), shape, kind, memory)


def len_of(array: DeviceArray) -> int:
    """The length of the first axis."""
    return array.shape[0]


def _names(trt: Any, engine: Any, outputs: tuple[str, ...]) -> tuple[str, list[str]]:
    """The engine's input, and its outputs in the order wanted."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    return inputs[0], list(outputs) or [name for name in names if name not in inputs]
