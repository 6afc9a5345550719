"""Aligners of kind `dfa`: CVLface's differentiable face aligner as a graph for any batch. Needs no PyTorch.

    data, spec = build("model.safetensors")        # of huggingface.co/minchul/cvlface_DFA_mobilenet, or its model.pt

The network (https://arxiv.org/abs/2403.14852, supplement; github.com/mk-minchul/CVLface, MIT: differentiable_face_aligner/__init__.py and
dfa/models/retinaface.py) looks for one face in a picture of 160x160 pixels: a RetinaFace with anchors of its own, the answers of whose 1,050
anchors three MLP-Mixer blocks and a linear layer weigh against each other, so that they are averaged into one: box, both classes' scores,
five points. What their module does beside that, cut out the aligned picture (by `thetas`) and say where the points lie in it, follows from
the five points, and is done by whoever aligns here.

The graph's output `face` (N, 15) is the score as a logit, then the box (x1, y1, x2, y2), then x and y of five points, all these as shares
of the picture's side. `detect.dfa` reads them.

Pixels: BGR, (value - 127.5) / 127.5 (their Normalize(0.5, 0.5), then `x.flip(1)`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from faceembed.engine.models.oneshot import STRIDES
from faceembed.engine.models.refiner import add_refiner
from faceembed.engine.models.retinaface import Array, Network
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.models.torch_file import read_state
from faceembed.errors import ModelError

SIDE = 160
"""Of the picture in pixels: `input_size` of aligners/configs/dfa.yaml."""
OUTPUT = "face"
SQUARES = {8: (64, 80), 16: (96, 112), 32: (128, 144)}
"""Sides in pixels of the anchors by stride: `min_sizes` of dfa/layers/functions/prior_box.py."""
_CENTRE, _SIZE = 0.1, 0.2  # `variances` there
_BLOCKS = 3
_NUMBERS = (4, 2, 10)  # of the box, the classes and the points, in the order in which they are weighed
_EPS = 1e-6  # of the layer norms (timm models/mlp_mixer.py, `MixerBlock`)


def build(path: str | Path) -> tuple[bytes, ModelSpec]:
    """Rewrite a checkpoint.

    Args:
        path: `model.safetensors`, `model.pt` or `mobilenet0.25.pth` of one of their DFA models, either trunk.

    Returns:
        The ONNX bytes and the spec (its ``sha256`` still empty).

    Raises:
        ModelError: unreadable, or not the weights of this network; one line that says why.
    """
    network = Network(path, _within(path), "CVLface's DFA")
    writer = network.writer
    small = network.is_small
    levels = network.levels(network.input("N", SIDE, SIDE))
    parts = [
        _flat(network, levels, head, count)
        for head, count in zip(("BboxHead", "ClassHead", "LandmarkHead"), _NUMBERS, strict=True)
    ]
    middles, sides = _priors()
    boxes, points = _decoded(network, parts[0], parts[2], middles, sides)
    said = writer.node("Concat", [boxes, parts[1], points], axis=2)  # (N, priors, 16)
    weights = writer.node("Softmax", [_weighed(network, said)], axis=1)
    axes = writer.constant(np.array([1], np.int64))
    face = writer.node("ReduceSum", [writer.node("Mul", [said, weights]), axes], keepdims=0)
    # As `oneshot` has it: the score first, of two classes' the difference, which is the logit of a face.
    order = np.zeros((16, 15), np.float32)
    order[[4, 5], 0] = -1, 1
    order[[0, 1, 2, 3, *range(6, 16)], range(1, 15)] = 1
    writer.output(writer.node("MatMul", [face, writer.constant(order)]), OUTPUT, ["N", 15])
    network.check_all_read("DFA")
    spec = ModelSpec(
        name="dfa-mobilenet" if small else "dfa-resnet50",
        task="aligner",
        input_size=(SIDE, SIDE),
        colour="bgr",
        mean=(127.5, 127.5, 127.5),
        scale=1 / 127.5,
        decoder="dfa",
        licence="MIT",
        source="https://github.com/mk-minchul/CVLface",
    )
    import onnx  # when it is needed, as everywhere in this room

    proto = onnx.load_from_string(writer.serialise())
    add_refiner(proto, colour=spec.colour, mean=spec.mean, scale=spec.scale)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data, spec


def _within(path: str | Path) -> dict[str, Array]:
    """The network's weights under its own names: files have it as it is, as ``net`` of the aligner, or in a wrapper around that."""
    state = read_state(path)
    for prefix in ("", "net.", "model.net.", "module.net.", "module."):
        if any(f"{prefix}body.{first}.weight" in state for first in ("stage1.0.0", "conv1")):
            return {
                name.removeprefix(prefix): np.asarray(values, np.float32)
                for name, values in state.items()
                if name.startswith(prefix)
            }
    raise ModelError(f"{path} is not a checkpoint of CVLface's DFA: it has no 'body' of a network")


def _priors() -> tuple[Array, Array]:
    """Middles (1, P, 2) and sides (1, P, 1) of the anchors, as shares of the picture's side."""
    found = [
        ((column + 0.5) * stride, (row + 0.5) * stride, side)
        for stride in STRIDES
        for row in range(SIDE // stride)
        for column in range(SIDE // stride)
        for side in SQUARES[stride]
    ]
    values: Array = np.array(found, np.float32)[None] / np.float32(SIDE)
    return values[..., :2], values[..., 2:]


def _flat(network: Network, levels: list[str], head: str, count: int) -> str:
    """What a head says of all anchors, (N, P, count)."""
    writer = network.writer
    shape = writer.constant(np.array([0, -1, count], np.int64))
    parts = []
    for index, x in enumerate(levels):
        at = f"{head}.{index}.conv1x1"
        said = writer.conv(x, network.get(f"{at}.weight"), network.get(f"{at}.bias"))
        parts.append(writer.node("Reshape", [writer.node("Transpose", [said], perm=[0, 2, 3, 1]), shape]))
    return writer.node("Concat", parts, axis=1)


def _decoded(network: Network, boxes: str, points: str, middles: Array, sides: Array) -> tuple[str, str]:
    """Corners and points from what is said of them (`decode_batch` and `decode_landm_batch` of their prior boxes)."""
    writer = network.writer
    middle, way = writer.constant(middles), writer.constant(sides * np.float32(_CENTRE))
    axis = writer.constant(np.array([2], np.int64))

    def part(first: int) -> str:
        start, end = (writer.constant(np.array([at], np.int64)) for at in (first, first + 2))
        return writer.node("Slice", [boxes, start, end, axis])

    centre = writer.node("Add", [writer.node("Mul", [part(0), way]), middle])
    grown = writer.node("Exp", [writer.node("Mul", [part(2), writer.constant(np.array(_SIZE, np.float32))])])
    half = writer.node("Mul", [grown, writer.constant(sides / 2)])
    corners = [writer.node("Sub", [centre, half]), writer.node("Add", [centre, half])]
    anchored = writer.constant(np.tile(middles, 5))
    placed = writer.node("Add", [writer.node("Mul", [points, way]), anchored])
    return writer.node("Concat", corners, axis=2), placed


def _weighed(network: Network, x: str) -> str:
    """(N, P, 1): the blocks of MLP-Mixer and the linear layer behind them."""
    for block in range(_BLOCKS):
        at = f"aggregator.{block}"
        across = network.writer.node("Transpose", [_norm(network, x, f"{at}.norm1")], perm=[0, 2, 1])
        mixed = network.writer.node("Transpose", [_mlp(network, across, f"{at}.mlp_tokens")], perm=[0, 2, 1])
        x = network.writer.node("Add", [x, mixed])
        x = network.writer.node("Add", [x, _mlp(network, _norm(network, x, f"{at}.norm2"), f"{at}.mlp_channels")])
    return _linear(network, x, f"aggregator.{_BLOCKS}")


def _norm(network: Network, x: str, at: str) -> str:
    weights = [network.writer.constant(network.get(f"{at}.{kind}")) for kind in ("weight", "bias")]
    return network.writer.node("LayerNormalization", [x, *weights], axis=-1, epsilon=_EPS)


def _mlp(network: Network, x: str, at: str) -> str:
    """Two linear layers around GELU, x (1 + erf(x / sqrt 2)) / 2."""
    writer = network.writer
    x = _linear(network, x, f"{at}.fc1")
    scaled = writer.node("Mul", [x, writer.constant(np.array(0.5**0.5, np.float32))])
    grown = writer.node("Add", [writer.node("Erf", [scaled]), writer.constant(np.array(1, np.float32))])
    halved = writer.node("Mul", [x, writer.constant(np.array(0.5, np.float32))])
    return _linear(network, writer.node("Mul", [halved, grown]), f"{at}.fc2")


def _linear(network: Network, x: str, at: str) -> str:
    writer = network.writer
    weight, bias = writer.constant(network.get(f"{at}.weight").T), writer.constant(network.get(f"{at}.bias"))
    return writer.node("Add", [writer.node("MatMul", [x, weight]), bias])
