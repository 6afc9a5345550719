"""OpenVINO on the CPU: the default on x86-64, with BF16 where the processor has it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes import compiled, fixed_batch
from faceembed.engine.runtimes.base import Precision, RuntimeChoice, Session
from faceembed.engine.runtimes.compiled import Facts, Kept
from faceembed.engine.runtimes.frontend import with_pixel_input
from faceembed.engine.runtimes.openvino_import import openvino
from faceembed.engine.runtimes.packing import Packing, with_packed_input
from faceembed.engine.runtimes.signal_stack import kept_signal_stack
from faceembed.engine.runtimes.steady import LARGEST_BYTES, Steady
from faceembed.engine.runtimes.stem import cut_behind
from faceembed.errors import DeviceError

_FIRST_RUN = threading.Lock()
_FIRST_SIDE = 32  # of the first run's input, in pixels, where the model takes any

_PROCESSOR = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def version() -> str:
    """The installed release; it is part of the key under which a parity result is kept."""
    return str(openvino().__version__)


def supported_precisions() -> tuple[Precision, ...]:
    """The precisions this processor runs at full speed, fastest first."""
    with kept_signal_stack():
        capabilities = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("bf16", "fp32") if "BF16" in capabilities else ("fp32",)


class _Program:
    """One compiled network, and an infer request for each call of `run` that is under way at one time.

    Args:
        stages: it as compiled, in one part or in several of which each takes what the one before gives.
        outputs: names of the outputs wanted of the last, in order; empty for all of them.
    """

    def __init__(self, stages: Sequence[Any], outputs: Sequence[str]) -> None:
        self._stages = stages
        self._outputs = [stages[-1].output(name) for name in outputs] or list(stages[-1].outputs)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()  # requests live as long as the session, not a thread

    def run(self, given: Any) -> tuple[NDArray[np.float32], ...]:
        """Run one batch, a tensor of OpenVINO's, whose memory must live as long as this runs.

        What is set by itself costs less than what `infer` is given, which asks the request for its inputs and copies its outputs: 40 to 60 us
        of a run.
        """
        try:
            requests = self._idle.get_nowait()
        except queue.Empty:
            requests = [stage.create_infer_request() for stage in self._stages]
        for request in requests:
            request.set_input_tensor(given)
            request.infer(share_outputs=True)
            given = request.get_output_tensor(0)
        copies = tuple(np.array(requests[-1].get_tensor(output).data, np.float32) for output in self._outputs)
        self._idle.put(requests)
        return copies


class OpenVinoSession(Session):
    """A network compiled for any batch; or, where that pays (`fixed_batch`), once for each of a few, when it is first needed; and small
    networks for the shapes that come often, beside the run (`steady`). Pixels are packed first where its first layer allows (`packing`).

    Args:
        model: the model on disk.
        choice: device and precision.
        outputs: names of the outputs wanted, in order; empty for all of them.
        threads: processor cores to use in all. Each core is a stream of its own: batches run side by side, which costs
            less than splitting one batch (637 against 604 chips/s of `dlib-resnet` in BF16 on 2 busy cores).
    """

    def __init__(self, model: Model, choice: RuntimeChoice, *, outputs: Sequence[str] = (), threads: int) -> None:
        self.choice = choice
        self._model = model
        self._names = outputs
        self._config = {
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # threads are bound to the first cores otherwise, in every process to the same ones
        }
        library = openvino()  # once: the call looks at the whole environment
        self._core = library.Core()
        self._tensor, self._bf16 = library.Tensor, library.Type.bf16
        self._facts = self._everything(threads)
        self._network: Any = None  # as it was read, while more may be compiled of it
        self._packing: Packing | None = None
        self._bytes = 0  # of the network as it was compiled first
        self._programs: dict[int, _Program] = {}  # by batch; 0 is any
        self._compiling = threading.Lock()
        self._steady: Steady[_Program] | None = None
        self._fixed, sides = self._open()
        self._first_run(sides)
        if not self._fixed and self._facts is not None and self._bytes <= LARGEST_BYTES:
            self._steady = Steady()

    def _everything(self, threads: int) -> Facts | None:
        """What a compiled network depends on; None for a model whose digest nobody took, which is not kept."""
        spec, choice = self._model.spec, self.choice
        if not spec.sha256:
            return None
        with kept_signal_stack():
            processor, able = (self._core.get_property("CPU", name) for name in _PROCESSOR)
        return Facts(
            spec.name,
            spec.sha256,
            tuple(self._names),
            choice.precision,
            choice.exact_layers,
            threads,
            version(),
            f"{processor} {' '.join(sorted(able))}",
        )

    def _open(self) -> tuple[bool, tuple[int, ...]]:
        """Take the network in as it was compiled before, or read it. Whether its batch is to be fixed, and an input's sides (0: any)."""
        for fixed in (False, True):
            if sides := self._recall(int(fixed)):
                return fixed, sides
        return self._read()

    def _recall(self, batch: int) -> tuple[int, ...]:
        """Take in what was compiled before for a batch (0: any); nothing if it was not, or OpenVINO will not have it."""
        if self._facts is None or (kept := compiled.find(self._facts, batch)) is None:
            return ()
        if (program := self._taken_in(kept)) is None:
            return ()
        self._programs[batch], self._packing = program, kept.packing
        self._bytes = sum(map(len, kept.parts))
        return kept.sides

    def _taken_in(self, kept: Kept) -> _Program | None:
        """What was compiled before, ready to run; None where OpenVINO will not have it: it is compiled anew, and kept in its place."""
        hints = self._hints()
        if len(kept.parts) != len(hints):
            return None
        try:
            with kept_signal_stack():
                stages = [
                    self._core.import_model(part, "CPU", {**self._config, "INFERENCE_PRECISION_HINT": hint})
                    for part, hint in zip(kept.parts, hints, strict=True)
                ]
        except RuntimeError:
            return None
        return _Program(stages, self._names)

    def _read(self) -> tuple[bool, tuple[int, ...]]:
        """Read the model's file, to be compiled. As `_open`."""
        half = self.choice.precision == "bf16" and not self.choice.exact_layers
        packed = with_packed_input(self._model, self._names, half=half)
        graph, self._packing = packed or (with_pixel_input(self._model, self._names), None)
        with self._explained():
            self._network = self._core.read_model(graph)
        return fixed_batch.gains(graph), self._sides()

    def _sides(self) -> tuple[int, ...]:
        """Of an input in pixels, and its channels; 0 where any will do."""
        dims = list(self._network.inputs[0].partial_shape)[1:]
        sides = tuple(dim.get_length() if dim.is_static else 0 for dim in dims)
        return (*(side * self._packing.step for side in sides[:2]), 3) if self._packing else sides

    def _first_run(self, sides: tuple[int, ...]) -> None:
        """Run one empty input before any other thread may.

        OpenVINO's Python binding fills its table of types at the first call, holding a lock while it may give up the GIL:
        two threads that come first together wait for each other for ever (seen with 2026.4 in one run of ten).
        """
        with _FIRST_RUN:
            self.run(np.zeros((1, *(side or _FIRST_SIDE for side in sides)), np.uint8))

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        if not self._fixed:
            often = self._steady.get(pixels.shape, self._recall_for, self._compile_for) if self._steady else None
            return (often or self._program(pixels.shape, 0)).run(self._given(pixels))
        most = fixed_batch.SIZES[-1]
        parts = [self._run_fixed(pixels[start : start + most]) for start in range(0, len(pixels), most)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]

    def _run_fixed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        batch = fixed_batch.padded(np.ascontiguousarray(pixels))
        outputs = self._program(batch.shape, len(batch)).run(self._given(batch))
        return tuple(output[: len(pixels)] for output in outputs)

    def _given(self, pixels: NDArray[np.uint8]) -> Any:
        """Pixels as the network takes them."""
        if self._packing is None:
            return self._tensor(np.ascontiguousarray(pixels), shared_memory=True)
        packed = self._packing.pack(pixels)
        if not self._packing.half:
            return self._tensor(packed, shared_memory=True)
        return self._tensor(packed, list(packed.shape), self._bf16)  # NumPy has no such numbers

    def _program(self, shape: tuple[int, ...], batch: int) -> _Program:
        """The network for a batch of this length (0: any), compiled at its first use."""
        if found := self._programs.get(batch):
            return found
        with self._compiling:
            if batch not in self._programs and not self._recall(batch):
                self._compile(shape, batch)
            return self._programs[batch]

    def _compile(self, shape: tuple[int, ...], batch: int) -> None:
        if self._network is None:
            self._read()
        with self._explained(), kept_signal_stack():
            self._programs[batch], kept = self._compiled(shape if batch else ())
        self._bytes = sum(map(len, kept.parts))
        if self._facts is not None:
            compiled.keep(self._facts, batch, kept)
        if not batch:
            self._network = None  # nothing more is compiled of it, mostly: its weights need not be kept twice

    def _compiled(self, shape: tuple[int, ...]) -> tuple[_Program, Kept]:
        """The network, for pixels of a shape where there is one, and what is to be kept of it."""
        sides, network = self._sides(), self._network
        if shape:
            network = network.clone()
            network.reshape(self._packing.packed_shape(shape) if self._packing else list(shape))
        stages = [
            self._core.compile_model(part, "CPU", {**self._config, "INFERENCE_PRECISION_HINT": hint})
            for part, hint in zip(self._parts(network), self._hints(), strict=True)
        ]
        parts = () if self._facts is None else tuple(stage.export_model().getvalue() for stage in stages)
        return _Program(stages, self._names), Kept(parts, sides, self._packing)

    def _recall_for(self, shape: tuple[int, ...]) -> _Program | None:
        """What was compiled before for a shape alone."""
        kept = None if self._facts is None else compiled.find(self._facts, shape[0], shape)
        return None if kept is None or kept.packing != self._packing else self._taken_in(kept)

    def _compile_for(self, shape: tuple[int, ...]) -> _Program | None:
        """The network compiled for a shape alone, and kept; None where OpenVINO cannot: it goes on as it is."""
        with self._compiling, contextlib.suppress(DeviceError), self._explained(), kept_signal_stack():
            self._read()
            program, kept = self._compiled(shape)
            self._network = None
            if self._facts is not None:
                compiled.keep(self._facts, shape[0], kept, shape)
            return program
        return None

    def _hints(self) -> list[str]:
        """The precision of each part."""
        hint = _HINTS[self.choice.precision]
        return [_HINTS["fp32"], hint] if self.choice.exact_layers else [hint]

    def _parts(self, network: Any) -> tuple[Any, ...]:
        """What is compiled of a network: all of it, or, where the first layers are to be exact, these and the rest."""
        if not (layers := self.choice.exact_layers):
            return (network,)
        if (parts := cut_behind(openvino(), network, layers)) is None:
            raise DeviceError(f"{self._model.path} cannot be cut behind its first {layers} layers with weights")
        return parts

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DeviceError(f"OpenVINO cannot run {self._model.path} in {self.choice.precision}: {reason}") from error
