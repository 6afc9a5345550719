"""TensorRT, and TensorRT for RTX: one session for both, whose Python modules agree.

Each stream that calls has a `Lane`. For every shape it has an execution context and fixed inputs and outputs on the card, so that the
launch of all kernels can be a CUDA graph; the contexts of a stream share its arena of scratch memory. TensorRT for RTX captures that
graph itself; for TensorRT it is captured here. Calls of different streams run side by side; those of one stream in its order.

A batch is run as one of few shapes: of chips `_FEW` or as many as the engine takes, of pictures always as many as it takes at their size.
What fills it up is whatever lies there, and its results are read by nobody. So a folder of any photos needs no more than two contexts a
network and size, and `warm` makes them all before the first batch.
"""

from __future__ import annotations

import queue
import threading
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
from faceembed.engine.runtimes.networks import LANES
from faceembed.engine.runtimes.profile import Profile
from faceembed.engine.runtimes.tensorrt_lane import Lane
from faceembed.engine.runtimes.trt_build import make_logger
from faceembed.errors import DeviceError

_FEW = 32  # chips; more are run as many as the engine takes


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

    pads = True

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
        self._size = self._fixed_size()
        self._lanes: dict[int, Lane] = {}
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()  # streams of `run` that no call is using
        self._idle.put(cuda.named(LANES.get(facts.name, facts.name)))

    def _fixed_size(self) -> tuple[int, int]:
        """Height and width of an input whose pictures all have one size."""
        shape = tuple(int(length) for length in self._engine.get_tensor_shape(self._names[0]))
        return self._sides(shape)

    def run_device(self, pixels: DeviceArray, stream: Any) -> tuple[DeviceArray, ...]:
        self._cuda.enter()
        profile = self._check(pixels)
        lane = self._lane(stream)
        with lane.lock:
            outputs: list[DeviceArray] = []
            count, size = pixels.shape[0], profile.batch[2]
            for start in range(0, count, size):
                part = pixels.rows(start, min(start + size, count))
                bound = lane.bind((self._padded(part.shape[0], profile), *part.shape[1:]))
                self._cuda.copy(bound.given.pointer, part.pointer, part.nbytes, stream)
                bound.launch()
                if not outputs:
                    outputs = [self._like(result, count, stream) for result in bound.results]
                for output, result in zip(outputs, bound.results, strict=True):
                    rows = output.rows(start, start + part.shape[0])
                    self._cuda.copy(rows.pointer, result.pointer, rows.nbytes, stream)
        return tuple(outputs)

    def warm(self, stream: Any, *, side: int = 0) -> None:
        self._cuda.enter()
        lane = self._lane(stream)
        shapes = [
            (count, *self._shape(profile))
            for profile in self._facts.profiles
            if not (side and profile.sides and side <= self._before(profile))
            for count in sorted({self._padded(1, profile), profile.batch[2]})
        ]
        with lane.lock:
            for bound in [lane.bind(shape) for shape in shapes]:  # all first: the arena is as large as it gets then
                for _ in range(2):  # the second is a graph
                    bound.launch()
            stream.sync()
        self._keep_kernels()

    def release(self) -> None:
        self._cuda.enter()
        with self._lock:
            lanes = list(self._lanes.values())
        for lane in lanes:
            with lane.lock:
                lane.clear()

    def _before(self, profile: Profile) -> int:
        """The largest side that the profiles before one take."""
        place = self._facts.profiles.index(profile)
        return max((one.sides[2] for one in self._facts.profiles[:place] if one.sides), default=0)

    def _shape(self, profile: Profile) -> tuple[int, ...]:
        """Of one input of the largest size that a profile takes."""
        height, width = (profile.sides[2], profile.sides[2]) if profile.sides else self._size
        return (height, width, 3) if self.entry == "pixels" else (3, height, width)

    def _padded(self, count: int, profile: Profile) -> int:
        """How many inputs a batch is filled up to."""
        least, _, most = profile.batch
        few = max(least, min(_FEW, most))
        return few if self.entry == "chips" and count <= few else most

    def _keep_kernels(self) -> None:
        if self._kernels is not None:
            self._kernels.keep()

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        given: NDArray[Any] = np.ascontiguousarray(pixels)
        if self.entry == "chips":
            given = normalise(pixels, self._spec)
        self._cuda.enter()
        try:
            stream = self._idle.get_nowait()
        except queue.Empty:
            stream = self._cuda.stream()
        known = self._contexts()
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
        if self._contexts() != known:
            self._keep_kernels()  # a shape's kernels are compiled by its first run
        return tuple(
            host[: output.nbytes].view(np.float32).reshape(output.shape).copy()
            for host, output in zip(copies, outputs, strict=True)
        )

    def _contexts(self) -> int:
        """How many were made so far, in all lanes."""
        with self._lock:
            return sum(lane.made for lane in self._lanes.values())

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return (shape[1], shape[2]) if self.entry == "pixels" else (shape[2], shape[3])

    def _check(self, pixels: DeviceArray) -> Profile:
        """The profile that takes the input.

        Raises:
            ValueError, DeviceError: there is none.
        """
        kind, channel = (np.dtype(np.uint8), 3) if self.entry == "pixels" else (np.dtype(np.float16), 1)
        shape = pixels.shape
        if pixels.dtype != kind or len(shape) != 4 or shape[channel] != 3 or shape[0] < 1:
            wanted = "uint8 (N, H, W, 3)" if self.entry == "pixels" else "float16 (N, 3, H, W)"
            raise ValueError(f"the network '{self._facts.name}' takes {wanted}, and was given {pixels.dtype} {shape}")
        sides = self._sides(shape)
        for profile in self._facts.profiles:
            if profile.takes(profile.batch[2], *sides):
                return profile
        ranges = " or ".join(f"{p.sides[0]} to {p.sides[2]}" for p in self._facts.profiles if p.sides)
        raise DeviceError(
            f"the engine of {self._spec.name} ({self._facts.name}) takes pictures of {ranges} pixels, not of {sides[0]}x{sides[1]}; "
            "build it again: faceembed build-engine"
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


def _names(trt: Any, engine: Any, outputs: tuple[str, ...]) -> tuple[str, list[str]]:
    """The engine's input, and its outputs in the order wanted."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    return inputs[0], list(outputs) or [name for name in names if name not in inputs]
