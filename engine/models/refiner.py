"""The built-in aligner's second network, for the files of other aligners: it makes landmarks exact, whoever found the face.

    add_refiner(proto)        # the file has the output `refined` now, beside its own

`detect.refine` says what it takes and gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from faceembed.engine.models import builtin
from faceembed.engine.models.oneshot import REFINED, REFINED_CHANNELS, REFINED_SIDE
from faceembed.engine.models.spec import Colour
from faceembed.errors import ModelError

SOURCE = "faceembed-align"
SHA256 = "13ff00f9c910bf0e0bf51436451b100942a04dd705763ced32fd53f83773e157"
"""Of the built-in aligner that others' scores were chosen with: where it changes, so does this line, and what was built is built anew."""
FACES = "faces"
"""The network's input, (M, 3, `REFINED_SIDE`, `REFINED_SIDE`)."""
_PREFIX = "refiner."


def add_refiner(
    proto: Any, *, colour: Colour = "bgr", mean: Sequence[float] = (0.0, 0.0, 0.0), scale: float = 1.0
) -> None:
    """Put the network into a file, and have it take pixels in the form that the file's own takes them; in place.

    Args:
        proto: an ONNX ``ModelProto`` of our operator set (`graph.OPSET`).
        colour, mean, scale: of the file's `ModelSpec`: what it takes is (value - mean) * scale in that order of colours.

    Raises:
        ModelError: the built-in aligner is damaged, or not the one that this was written for.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inside = builtin.find(SOURCE)
    if inside is None or inside.spec.sha256 != SHA256:
        raise ModelError(f"the model '{SOURCE}' inside faceembed is another one; reinstall faceembed")
    other = onnx.load(inside.path).graph
    makers = {name: node for node in other.node for name in node.output}
    wanted, reached = [REFINED], set()
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted.extend(makers[name].input if name in makers else ())
    (given,) = [value.name for value in other.input if value.name in reached]
    order = [2, 1, 0] if colour == "bgr" else [0, 1, 2]
    subtracted = np.asarray(mean, np.float64)[order]  # in the order red, green, blue
    floats = {
        "mean": ((np.asarray(inside.spec.mean) - subtracted) * scale).astype(np.float32).reshape(1, 3, 1, 1),
        "scale": np.array(inside.spec.scale / scale, np.float32),
        "rgb": np.array(order, np.int64),
    }

    def called(name: str) -> str:
        return name if name == REFINED else _PREFIX + name

    graph = proto.graph
    graph.initializer.extend(numpy_helper.from_array(array, _PREFIX + name) for name, array in floats.items())
    graph.node.extend(
        [
            helper.make_node("Gather", [FACES, _PREFIX + "rgb"], [_PREFIX + "turned"], axis=1),
            helper.make_node("Sub", [_PREFIX + "turned", _PREFIX + "mean"], [_PREFIX + "centred"]),
            helper.make_node("Mul", [_PREFIX + "centred", _PREFIX + "scale"], [called(given)]),
        ]
    )
    for node in other.node:
        if reached.intersection(node.output):
            copy = type(node).FromString(node.SerializeToString())
            copy.name = ""
            copy.input[:] = [called(name) for name in node.input]
            copy.output[:] = [called(name) for name in node.output]
            graph.node.append(copy)
    for weight in other.initializer:
        if weight.name in reached:
            copy = type(weight).FromString(weight.SerializeToString())
            copy.name = called(weight.name)
            graph.initializer.append(copy)
    side = REFINED_SIDE
    graph.input.append(helper.make_tensor_value_info(FACES, TensorProto.FLOAT, ["M", 3, side, side]))
    graph.output.append(helper.make_tensor_value_info(REFINED, TensorProto.FLOAT, ["M", REFINED_CHANNELS]))
