"""From a trained aligner to the ONNX file that the engine runs, proved equal to PyTorch before it is written.

    export_aligner("runs/aligner", "faceembed-align.onnx", name="faceembed-align", licence="Apache-2.0", ...)

Both networks go into one file, so that a model is one file:

| network  | input                  | outputs                                                           |
| -------- | ---------------------- | ----------------------------------------------------------------- |
| one-shot | `images` (N, 3, H, W)  | `level_8`, `level_16`, `level_32`: `faceembed.engine.detect.oneshot` |
| refiner  | `faces` (M, 3, 56, 56) | `refined` (M, 11): `faceembed.engine.detect.refine`              |

Batch normalisations are folded into the convolutions before them. Weights are stored in half precision and computed with in
single precision (each is cast once, when a runtime loads the file), so that the file is half as large and every runtime takes
it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.oneshot import CHANNELS, OUTPUTS, STRIDES
from faceembed.engine.models.oneshot import REFINED as OUTPUT
from faceembed.engine.models.oneshot import REFINED_SIDE as SIDE
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.onnxruntime import OnnxRuntimeSession
from faceembed.errors import ModelError, UsageError
from faceembed.files import atomic_write
from faceembed.outputs import check_output
from faceembed.trainer.aligner.loop import to_network
from faceembed.trainer.aligner.network import AlignerNet
from faceembed.trainer.aligner.refiner import RefinerNet
from faceembed.trainer.aligner.train import LAST, load_network
from faceembed.trainer.aligner.train_refiner import FILE, load_refiner

Floats = NDArray[np.float32]
TOLERANCE = 0.02
"""Most that an answer of the file may differ from PyTorch's: 2 % of a stride, of a distance, or of a pixel."""


def export_aligner(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    name: str,
    licence: str,
    source: str,
    pixels: NDArray[np.uint8],
) -> Model:
    """Write the averaged networks of a run as ONNX, the spec beside it.

    Args:
        run: the folder that `train` and `train_refiner` wrote.
        path: ends in ``.onnx``.
        name: the model's.
        licence, source: for its spec.
        pixels: uint8 RGB (N, H, W, 3) photos to compare both on, H and W multiples of 32.

    Returns:
        The model on disk.

    Raises:
        ModelError: not such a checkpoint, or the file does not answer as PyTorch does.
        UsageError: the path does not end in ``.onnx``.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise UsageError(f"{path} must end in .onnx, as in: -o aligner.onnx")
    network, _ = load_network(Path(run) / LAST)
    refiner, _ = load_refiner(Path(run) / FILE)
    data = to_onnx(network, refiner, name)
    spec = ModelSpec(
        name=name,
        task="aligner",
        input_size=(0, 0),
        decoder="one-shot",
        licence=licence,
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    apart = parity(network, refiner, data, spec, pixels)
    if not apart <= TOLERANCE:
        raise ModelError(
            f"{name}: the exported network's answers are up to {apart:.4f} off PyTorch's, at most {TOLERANCE} wanted"
        )
    check_output(target, "model")
    with atomic_write(target.with_suffix(".json"), "w") as file:
        file.write(spec.to_json())
    with atomic_write(target) as file:
        file.write(data)
    return Model(spec, str(target))


def to_onnx(network: AlignerNet, refiner: RefinerNet, name: str) -> bytes:
    """Both networks as the bytes of one ONNX file."""
    writer = _HalfWriter(name)
    _write_one_shot(writer, network)
    x = writer.block(writer.input("faces", ["M", 3, SIDE, SIDE]), refiner.body)
    writer.output(x, OUTPUT, ["M", 11])
    return writer.serialise()


def _write_one_shot(writer: _HalfWriter, network: AlignerNet) -> None:
    x = writer.block(writer.input("images", ["N", 3, "H", "W"]), network.stem)
    maps = []
    for stage, lateral in zip(network.stages, network.laterals, strict=True):
        layers = list(cast(nn.Sequential, stage))
        x = writer.block(x, nn.Sequential(*layers[:3]))
        for residual in layers[3:]:
            branch = writer.block(x, cast(nn.Sequential, residual.body))
            x = writer.node("Relu", [writer.node("Add", [x, branch])])
        maps.append(writer.block(x, cast(nn.Sequential, lateral)))
    for finer in range(len(maps) - 2, -1, -1):
        maps[finer] = writer.node("Add", [maps[finer], writer.doubled(maps[finer + 1])])
    for stride, output, level, head in zip(STRIDES, OUTPUTS, maps, network.heads, strict=True):
        x = writer.block(writer.node("Relu", [level]), cast(nn.Sequential, head))
        writer.output(x, output, ["N", CHANNELS, f"H/{stride}", f"W/{stride}"])


class _HalfWriter(GraphWriter):
    """Writes PyTorch's modules, weights in half precision."""

    def block(self, x: str, modules: nn.Sequential) -> str:
        """Convolutions with or without batch normalisation, fully connected layers, ReLUs."""
        layers = list(modules)
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                follower = layers[index + 1] if index + 1 < len(layers) else None
                weight, bias = _folded(layer, follower if isinstance(follower, nn.BatchNorm2d) else None)
                x = self._half_conv(x, weight, bias, stride=layer.stride[0], pad=cast(int, layer.padding[0]))
            elif isinstance(layer, nn.Linear):
                weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
                x = self.node("Gemm", [x, *self._wide(weight, bias)], transB=1)
            elif isinstance(layer, nn.Flatten):
                x = self.node("Flatten", [x])
            elif isinstance(layer, nn.ReLU):
                x = self.node("Relu", [x])
        return x

    def doubled(self, x: str) -> str:
        """Each value four times, as PyTorch's nearest interpolation by 2 does."""
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.node(
            "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def _half_conv(self, x: str, weight: Floats, bias: Floats, *, stride: int, pad: int) -> str:
        inputs = [x, *self._wide(weight, bias)]
        return self.node("Conv", inputs, kernel_shape=list(weight.shape[2:]), strides=[stride] * 2, pads=[pad] * 4)

    def _wide(self, *arrays: Floats) -> list[str]:
        """Weights, kept in half and used in single precision."""
        from onnx import TensorProto

        return [self.node("Cast", [self.constant(array.astype(np.float16))], to=TensorProto.FLOAT) for array in arrays]


def _folded(layer: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Floats, Floats]:
    """Weight and bias of a convolution with the normalisation after it."""
    weight = layer.weight.detach().double()
    bias = layer.bias.detach().double() if layer.bias is not None else torch.zeros(weight.shape[0], dtype=torch.float64)
    if norm is not None:
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.detach().double()
    return weight.float().numpy(), bias.float().numpy()


def parity(network: AlignerNet, refiner: RefinerNet, data: bytes, spec: ModelSpec, pixels: NDArray[np.uint8]) -> float:
    """The largest difference between PyTorch's answers and those of the file in ONNX Runtime; scores as probabilities."""
    choice = RuntimeChoice("onnxruntime", "cpu", "fp32", "the reference")
    crops = np.ascontiguousarray(pixels[:, :SIDE, :SIDE])
    with tempfile.TemporaryDirectory(prefix="faceembed-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        model = Model(spec, str(path))
        given = OnnxRuntimeSession(model, choice, outputs=OUTPUTS, threads=1).run(pixels)
        (exact,) = OnnxRuntimeSession(model, choice, outputs=(OUTPUT,), threads=1).run(crops)
    with torch.no_grad():
        wanted = [level.numpy() for level in network.eval()(to_network(torch.from_numpy(pixels)))]
        worst = float(np.abs(exact - refiner.eval()(to_network(torch.from_numpy(crops))).numpy()).max())
    for ours, theirs in zip(given, wanted, strict=True):
        for values in (ours, theirs):
            values[:, 0] = 1 / (1 + np.exp(-values[:, 0]))
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst
