"""A session of the engine's that PyTorch fills: FP16, channels last, a CUDA graph for each shape, behind the same interface as TensorRT's.

For `card.py` on machines that have PyTorch and no TensorRT. Nothing of the engine uses it: TensorRT's engines are what a user's card runs.
Shapes and filling up of batches are those of `runtimes.tensorrt`, so that the path around it is the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch.nn import functional as F

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.base import DeviceSession, RuntimeChoice
from faceembed.engine.runtimes.cuda_memory import open_cuda
from faceembed.engine.runtimes.frontend import normalise, with_entry
from faceembed.engine.runtimes.networks import LOOKS, network_for, profiles_of
from faceembed.engine.runtimes.profile import Profile
from faceembed.trainer.gradients.onnx_network import OnnxGraph

FEW, MANY = 32, 128
"""Chips in a run."""
_ALL = "all outputs, flat"


class _Network(OnnxGraph):
    """A graph of several outputs, which come out one behind the other: (N, sum of their sizes)."""

    def __init__(self, data: bytes, path: str, outputs: Sequence[str]) -> None:
        proto = onnx.load_from_string(data)
        graph = proto.graph
        names = list(outputs) or [value.name for value in graph.output]
        graph.node.extend(helper.make_node("Flatten", [name], [f"{name}, flat"], axis=1) for name in names)
        graph.node.append(helper.make_node("Concat", [f"{name}, flat" for name in names], [_ALL], axis=1))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info(_ALL, onnx.TensorProto.FLOAT, ["N", "M"]))
        super().__init__(proto, Path(path))

    def _compute(self, node: Any) -> Callable[..., Any]:
        if node.op_type == "Resize":  # to twice the size, by repetition: all that our aligner has
            return lambda x, *_: F.interpolate(x, scale_factor=2, mode="nearest")
        return super()._compute(node)


class _Bound:
    """One shape on one stream: fixed input and output, and a graph of the work between."""

    def __init__(self, work: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any, stream: Any) -> None:
        self.given = torch.zeros(shape, dtype=dtype, device="cuda")
        with torch.cuda.stream(stream):
            for _ in range(3):  # cuDNN chooses its algorithms
                work(self.given)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self.result = work(self.given)

    def launch(self) -> None:
        self._graph.replay()


class TorchSession(DeviceSession):
    """One network on a card, or, for a dry run, on the processor in FP32.

    Args:
        model: encoder or one-shot aligner.
        choice: ``cuda:N`` or ``cpu``.
        outputs: those of one of its networks; empty for an encoder.
        batch: inputs in a run: few, and many.
    """

    pads = True

    def __init__(
        self,
        model: Model,
        choice: RuntimeChoice,
        *,
        outputs: Sequence[str] = (),
        batch: tuple[int, int] = (FEW, MANY),
        **_: Any,
    ) -> None:
        self.choice = choice
        network = network_for(model, tuple(outputs))
        self.entry = network.entry
        self._spec = model.spec
        self._few, self._many = batch
        self._profiles: tuple[Profile, ...] = profiles_of(network, (1, batch[1], batch[1]))
        self._size = network.size
        self._on_card = choice.device != "cpu"
        self._device = torch.device(choice.device)
        self._dtype = torch.float16 if self._on_card else torch.float32
        net = _Network(with_entry(model, "chips", outputs=network.outputs), model.path, network.outputs).eval()
        self._net = net.to(self._device, self._dtype).to(memory_format=torch.channels_last)
        mean = torch.tensor(model.spec.mean, dtype=torch.float32, device=self._device)
        self._mean, self._scale = mean.reshape(1, 3, 1, 1), float(model.spec.scale)
        self._bound: dict[tuple[int, tuple[int, ...]], _Bound] = {}
        self._lock = threading.Lock()
        self._outputs = len(network.outputs) or 1

    @torch.inference_mode()
    def _work(self, given: Any) -> Any:
        """What the network says, float32 (N, all)."""
        if self.entry == "pixels":
            planes = given.permute(0, 3, 1, 2)  # channels last already
            planes = planes.flip(1) if self._spec.colour == "bgr" else planes
            given = (planes.float() - self._mean) * self._scale
        return self._net(given.to(self._dtype).contiguous(memory_format=torch.channels_last)).float()

    def shapes_of(self, height: int, width: int) -> list[tuple[int, ...]]:
        """Of each output but for the batch."""
        if self._outputs == 1:
            return []
        return [(15, height // stride, width // stride) for stride in (8, 16, 32)]

    def _apart(self, flat: DeviceArray | NDArray[np.float32], given: tuple[int, ...], part: Callable[..., Any]) -> Any:
        shapes, start, found = self.shapes_of(*given[1:3]), 0, []
        for shape in shapes:
            size = int(np.prod(shape))
            found.append(part(start, size, shape))
            start += size
        return tuple(found)

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        given = np.ascontiguousarray(pixels) if self.entry == "pixels" else normalise(pixels, self._spec)
        told = self._work(torch.from_numpy(given).to(self._device)).cpu().numpy()
        found = self._apart(
            told, given.shape, lambda at, size, shape: told[:, at : at + size].reshape(-1, *shape).copy()
        )
        return found or (told,)

    def run_device(self, pixels: DeviceArray, stream: Any) -> tuple[DeviceArray, ...]:
        cuda, torch_stream = open_cuda(self._device.index or 0), torch.cuda.ExternalStream(int(stream.handle))
        count, size = pixels.shape[0], self._most(pixels.shape)
        parts = []
        with torch.cuda.stream(torch_stream):
            for start in range(0, count, size):
                part = pixels.rows(start, min(start + size, count))
                bound = self._bind((self._padded(part.shape), *part.shape[1:]), stream)
                cuda.copy(bound.given.data_ptr(), part.pointer, part.nbytes, stream)
                bound.launch()
                parts.append(bound.result[: part.shape[0]].clone())
            told = torch.cat(parts) if len(parts) > 1 else parts[0]
            found = self._apart(
                told, pixels.shape, lambda at, size, shape: told[:, at : at + size].reshape(-1, *shape).contiguous()
            ) or (told,)
        return tuple(DeviceArray(one.data_ptr(), tuple(one.shape), np.dtype(np.float32), one) for one in found)

    def warm(self, stream: Any, *, side: int = 0) -> None:
        for profile in self._profiles:
            if side and profile.sides and profile.sides[2] > side:
                continue
            height, width = (profile.sides[2],) * 2 if profile.sides else self._size
            shape = (height, width, 3) if self.entry == "pixels" else (3, height, width)
            for count in {profile.batch[2]} if self.entry == "pixels" else {self._few, self._many}:
                self._bind((count, *shape), stream)
        stream.sync()

    def release(self) -> None:
        self._bound.clear()
        torch.cuda.empty_cache()

    def _most(self, shape: tuple[int, ...]) -> int:
        if self.entry == "chips":
            return self._many
        return self._padded(shape)

    def _padded(self, shape: tuple[int, ...]) -> int:
        if self.entry == "pixels":
            return next(count for canvas, count in LOOKS if max(shape[1:3]) <= canvas)
        return self._few if shape[0] <= self._few else self._many

    def _bind(self, shape: tuple[int, ...], stream: Any) -> _Bound:
        key = (int(stream.handle), shape)
        with self._lock:
            if key not in self._bound:
                dtype = torch.uint8 if self.entry == "pixels" else torch.float16
                self._bound[key] = _Bound(self._work, shape, dtype, torch.cuda.ExternalStream(key[0]))
            return self._bound[key]
