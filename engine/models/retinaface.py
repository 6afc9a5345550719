"""Aligners of kind `retinaface`: checkpoints of biubug6's Pytorch_Retinaface as a graph for any batch and any size. Needs no PyTorch.

    data, spec = build("mobilenet0.25_Final.pth")        # or Resnet50_Final.pth

The network (https://arxiv.org/abs/1905.00641; github.com/biubug6/Pytorch_Retinaface, MIT: models/net.py and retinaface.py) is a trunk,
MobileNetV1 with a quarter of its filters or ResNet-50, a pyramid over three of its maps, a context module and three 1x1 convolutions on
each. Batch norms are folded into the convolutions before them. What the last convolutions say is kept as it is, one output a stride,
(N, 30, H/stride, W/stride): for two anchors a cell, the score as a logit, the box in four numbers, five points in ten. `detect.anchored`
reads them.

Pixels: BGR, 0 to 255, less (104, 117, 123).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.oneshot import OUTPUTS, STRIDES
from faceembed.engine.models.refiner import add_refiner
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.models.torch_file import read_state
from faceembed.errors import ModelError

Array = NDArray[np.float32]
ANCHORS = 2
CHANNELS = ANCHORS * (1 + 4 + 10)
_EPS = 1e-5  # of every batch norm
_LEAK = 0.1  # of the small network; the large one has plain ReLU
_RESNET = (3, 4, 6, 3)  # blocks a stage


def build(path: str | Path) -> tuple[bytes, ModelSpec]:
    """Rewrite a checkpoint.

    Args:
        path: ``mobilenet0.25_Final.pth``, ``Resnet50_Final.pth``, or one of such a network that was trained anew.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty).

    Raises:
        ModelError: unreadable, or not the weights of this network; one line that says why.
    """
    state = {name.removeprefix("module."): values for name, values in read_state(path).items()}
    if any("aggregator." in name for name in state):
        raise ModelError(f"{path} is no RetinaFace alone but CVLface's DFA, which is made of one; take --arch dfa")
    network = Network(path, state)
    small = network.is_small
    network.heads(network.levels(network.input("N", "H", "W")))
    network.check_all_read("RetinaFace")
    spec = ModelSpec(
        name="retinaface-mobilenet0.25" if small else "retinaface-resnet50",
        task="aligner",
        input_size=(0, 0),
        colour="bgr",
        mean=(104.0, 117.0, 123.0),
        scale=1.0,
        decoder="retinaface",
        min_score=0.6,
        min_score_source="the project's own vis_thres; not measured here",
        licence="MIT",
        source="https://github.com/biubug6/Pytorch_Retinaface",
    )
    import onnx  # when it is needed, as everywhere in this room

    proto = onnx.load_from_string(network.writer.serialise())
    add_refiner(proto, colour=spec.colour, mean=spec.mean, scale=spec.scale)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data, spec


class Network:
    """Writes the graph of trunk, pyramid and context modules, and notes which weights it has read."""

    def __init__(
        self, path: str | Path, state: Mapping[str, NDArray[np.generic]], project: str = "Pytorch_Retinaface"
    ) -> None:
        self._path = path
        self._state = state
        self._project = project
        self._used: set[str] = set()
        self.writer = GraphWriter("retinaface")

    @property
    def is_small(self) -> bool:
        """Whether the trunk is MobileNet, not ResNet."""
        return "body.stage1.0.0.weight" in self._state

    def get(self, name: str) -> Array:
        """A weight.

        Raises:
            ModelError: the file has none of that name.
        """
        if name not in self._state:
            raise ModelError(f"{self._path} is not a checkpoint of {self._project}: it has no '{name}'")
        self._used.add(name)
        return np.asarray(self._state[name], np.float32)

    def check_all_read(self, network: str) -> None:
        """Raises ModelError if the file holds weights that no part asked for."""
        left = sorted(name for name in self._state.keys() - self._used if not name.endswith("num_batches_tracked"))
        if left:
            raise ModelError(f"{self._path} holds {len(left)} weights that {network} has not, such as '{left[0]}'")

    def input(self, count: int | str, height: int | str, width: int | str) -> str:
        """The input of pixels."""
        return self.writer.input("input", [count, 3, height, width])

    def _conv(self, x: str, conv: str, norm: str, *, stride: int = 1, pad: int = 0, leak: float | None = None) -> str:
        """A convolution without bias and the batch norm behind it, as one; then a ReLU that leaks so much, or none."""
        weight = self.get(f"{conv}.weight")
        scale = self.get(f"{norm}.weight") / np.sqrt(self.get(f"{norm}.running_var") + _EPS)
        bias = self.get(f"{norm}.bias") - self.get(f"{norm}.running_mean") * scale
        constants = [self.writer.constant(values) for values in (weight * scale[:, None, None, None], bias)]
        group = weight.shape[0] if weight.shape[1] == 1 and weight.shape[0] > 1 and weight.shape[2] > 1 else 1
        x = self.writer.node(
            "Conv",
            [x, *constants],
            kernel_shape=list(weight.shape[2:]),
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=group,
        )
        return self._relu(x, leak)

    def _relu(self, x: str, leak: float | None) -> str:
        if leak is None:
            return x
        return self.writer.node("LeakyRelu", [x], alpha=leak) if leak else self.writer.node("Relu", [x])

    def _mobilenet(self, x: str) -> list[str]:
        """The three maps of the small trunk."""
        maps = []
        strides = {1: (2, 1, 2, 1, 2, 1), 2: (2, 1, 1, 1, 1, 1), 3: (2, 1)}
        for stage, steps in strides.items():
            for block, stride in enumerate(steps):
                at = f"body.stage{stage}.{block}"
                x = self._conv(x, f"{at}.0", f"{at}.1", stride=stride, pad=1, leak=_LEAK)
                if (stage, block) != (1, 0):
                    x = self._conv(x, f"{at}.3", f"{at}.4", leak=_LEAK)
            maps.append(x)
        return maps

    def _resnet(self, x: str) -> list[str]:
        """The three maps of ResNet-50, as torchvision names its layers."""
        x = self._conv(x, "body.conv1", "body.bn1", stride=2, pad=3, leak=0)
        x = self.writer.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        maps = []
        for stage, blocks in enumerate(_RESNET, 1):
            for block in range(blocks):
                at, stride = f"body.layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
                y = self._conv(x, f"{at}.conv1", f"{at}.bn1", leak=0)
                y = self._conv(y, f"{at}.conv2", f"{at}.bn2", stride=stride, pad=1, leak=0)
                y = self._conv(y, f"{at}.conv3", f"{at}.bn3")
                if block == 0:
                    x = self._conv(x, f"{at}.downsample.0", f"{at}.downsample.1", stride=stride)
                x = self.writer.node("Relu", [self.writer.node("Add", [x, y])])
            maps.append(x)
        return maps[1:]

    def levels(self, x: str) -> list[str]:
        """The trunk, the pyramid over three of its maps and the context module of each: one map a stride."""
        maps = self._mobilenet(x) if self.is_small else self._resnet(x)
        leak = _LEAK if self.get("fpn.output1.0.weight").shape[0] <= 64 else 0.0
        levels = [
            self._conv(x, f"fpn.output{number}.0", f"fpn.output{number}.1", leak=leak)
            for number, x in enumerate(maps, 1)
        ]
        twice = self.writer.constant(np.array([1, 1, 2, 2], np.float32))
        for number in (2, 1):
            larger = self.writer.node(
                "Resize",
                [levels[number], "", twice],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            merged = self.writer.node("Add", [levels[number - 1], larger])
            at = f"fpn.merge{number}"
            levels[number - 1] = self._conv(merged, f"{at}.0", f"{at}.1", pad=1, leak=leak)
        return [self._context(x, f"ssh{index}", leak) for index, x in enumerate(levels, 1)]

    def heads(self, levels: list[str]) -> None:
        """What is said at every cell, one output a stride."""
        for index, (x, stride, output) in enumerate(zip(levels, STRIDES, OUTPUTS, strict=True)):
            weight, bias = self._said(index)
            shape: list[int | str] = ["N", CHANNELS, f"H/{stride}", f"W/{stride}"]
            self.writer.output(self.writer.conv(x, weight, bias), output, shape)

    def _context(self, x: str, at: str, leak: float) -> str:
        def step(x: str, name: str, leak: float | None = None) -> str:
            return self._conv(x, f"{at}.{name}.0", f"{at}.{name}.1", pad=1, leak=leak)

        five = step(x, "conv5X5_1", leak)
        parts = [step(x, "conv3X3"), step(five, "conv5X5_2"), step(step(five, "conv7X7_2", leak), "conv7x7_3")]
        return self.writer.node("Relu", [self.writer.node("Concat", parts, axis=1)])

    def _said(self, index: int) -> tuple[Array, Array]:
        """The last convolutions of a level as one; of the two classes' scores the difference, which is the logit of a face."""

        def head(name: str) -> tuple[Array, Array]:
            at = f"{name}.{index}.conv1x1"
            return self.get(f"{at}.weight"), self.get(f"{at}.bias")

        parts = [head("ClassHead"), head("BboxHead"), head("LandmarkHead")]
        weights, biases = (
            np.concatenate([scores[1::2] - scores[0::2], boxes, points])
            for scores, boxes, points in zip(*parts, strict=True)
        )
        if weights.shape[0] != CHANNELS:
            raise ModelError(f"{self._path} answers {weights.shape[0]} numbers a cell, expected {CHANNELS}")
        return weights, biases
