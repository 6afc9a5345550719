"""Quantised graphs: what is quantised, where TensorRT wants it, with which scales, and that they still compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from faceembed.engine.models.fp16 import rounded, to_fp16
from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.int8 import BINS, candidates, quantise, raised, scale_of, tensors_of
from faceembed.errors import ModelError


def network(*, gate: bool = False) -> Any:
    """Two convolutions, a residual block, perhaps a gate on channels, a projection: as encoders are built."""
    rng = np.random.default_rng(3)

    def conv(x: str, out: int, into: int, size: int = 3) -> str:
        weight = rng.normal(size=(out, into, size, size)) / np.sqrt(into * size * size)
        return writer.conv(x, weight, rng.normal(size=out) / 4, pad=size // 2)

    writer = GraphWriter("n")
    x = writer.node("Relu", [conv(writer.input("x", ["N", 3, 12, 12]), 8, 3)])  # n.0, n.1
    inner = writer.node("Relu", [conv(x, 8, 8)])  # n.2, n.3
    x = writer.node("Relu", [writer.node("Add", [conv(inner, 8, 8), x])])  # n.4, n.5, n.6
    if gate:
        squeezed = writer.node("Sigmoid", [conv(writer.node("GlobalAveragePool", [x]), 8, 8, 1)])
        x = conv(writer.node("Mul", [x, squeezed]), 8, 8)
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    x = writer.node("MatMul", [x, writer.constant(rng.normal(size=(8, 6)).astype(np.float32))])
    writer.output(x, "y", ["N", 6])
    return onnx.load_from_string(writer.serialise())


def run(proto: Any, x: np.ndarray, *names: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(names) or None, {"x": x})


def chips(count: int = 16) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, 3, 12, 12)).astype(np.float32)


def scales(proto: Any, layers: Any) -> dict[str, float]:
    shown = type(proto).FromString(proto.SerializeToString())
    names = tensors_of(proto, layers)
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    values = run(shown, chips(), *names)
    return {name: float(np.abs(value).max()) / 127 for name, value in zip(names, values, strict=True)}


def test_the_first_the_last_and_gates_are_no_candidates() -> None:
    assert candidates(network()) == ("n.2", "n.4")
    found = candidates(network(gate=True))
    gated = {node.output[0]: node.op_type for node in network(gate=True).graph.node}
    convolutions = [name for name, op in gated.items() if op == "Conv"]
    _, inner, outer, _, last = convolutions
    assert found == (inner, outer, last)  # without the first and the gate; and without the projection


def test_a_layer_with_a_swish_is_a_candidate() -> None:
    """Its result goes into a gate and past it."""
    writer = GraphWriter("n")
    eye = np.eye(3)[:, :, None, None]
    x = writer.input("x", ["N", 3, 4, 4])
    for _ in range(3):
        x = writer.conv(x, eye, np.zeros(3))
        x = writer.node("Mul", [x, writer.node("Sigmoid", [x])])
    writer.output(x, "y", ["N", 3, 4, 4])
    assert candidates(onnx.load_from_string(writer.serialise())) == ("n.3",)


def test_what_is_quantised() -> None:
    """The input of each layer, once; its weights by channel; and the residual summand, which shares the input's scale."""
    proto = raised(network())
    made = quantise(proto, scales(proto, ["n.2", "n.4"]), ["n.2", "n.4"])
    assert tensors_of(proto, ["n.2", "n.4"]) == ("n.1", "n.3")
    onnx.checker.check_model(made, full_check=True)
    nodes = {node.output[0]: node for node in made.graph.node}
    assert sum(node.op_type == "QuantizeLinear" for node in nodes.values()) == 2
    assert nodes["n.2"].input[0] == "n.1.dequantised" and nodes["n.4"].input[0] == "n.3.dequantised"
    assert list(nodes["n.5"].input) == ["n.4", "n.1.dequantised"]
    assert nodes["n.0"].input[0] == "x"
    weights = {weight.name: weight for weight in made.graph.initializer}
    given = nodes[nodes["n.2"].input[1]]
    assert given.op_type == "DequantizeLinear" and helper.get_attribute_value(given.attribute[0]) == 0
    assert weights[given.input[0]].data_type == TensorProto.INT8 and list(weights[given.input[1]].dims) == [8]
    read = {name for node in made.graph.node for name in node.input}
    assert set(weights) <= read  # the float32 weights are gone
    assert list(nodes["n.2"].input)[2] in weights  # a bias stays as it is
    alone = quantise(proto, scales(proto, ["n.2"]), ["n.2"])
    assert {node.output[0]: list(node.input) for node in alone.graph.node}["n.5"] == ["n.4", "n.1"]


def test_it_computes_nearly_the_same() -> None:
    proto = raised(network())
    made = quantise(proto, scales(proto, ["n.2", "n.4"]), ["n.2", "n.4"])
    (expected,), (got,) = run(network(), chips()), run(made, chips())
    cosine = (expected * got).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(got, axis=1)
    assert 0.999 < cosine.min() < 1 - 1e-7


def test_half_precision_around_it() -> None:
    """The types that a strongly typed TensorRT goes by, and the same numbers."""
    proto = raised(network())
    made = quantise(proto, scales(proto, ["n.2", "n.4"]), ["n.2", "n.4"])
    (expected,) = run(made, chips())
    to_fp16(made)
    onnx.checker.check_model(made, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    assert kinds["n.1.int8"] == TensorProto.INT8
    assert {kinds[name] for name in ("n.1", "n.1.dequantised", "n.2", "n.4")} == {TensorProto.FLOAT16}
    np.testing.assert_allclose(run(rounded(made), chips())[0], expected, rtol=0.05, atol=0.02)


def test_weights_keep_their_channels_apart() -> None:
    """A channel that is a thousand times smaller than another is as exact."""
    proto = raised(network())
    (weight,) = [
        one for one in proto.graph.initializer if one.name == {n.output[0]: n for n in proto.graph.node}["n.2"].input[1]
    ]
    values = numpy_helper.to_array(weight) * np.logspace(0, -3, 8, dtype=np.float32)[:, None, None, None]
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    made = quantise(proto, scales(proto, ["n.2"]), ["n.2"])
    parts = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    whole, scale = parts[f"{weight.name}.0.int8"], parts[f"{weight.name}.0.scale"]
    np.testing.assert_array_equal(scale, scale.astype(np.float16))  # as the graph will hold it
    left = np.abs(whole * scale[:, None, None, None] - values).max(axis=(1, 2, 3))
    assert (left <= 0.501 * scale).all() and np.abs(whole).max() == 127


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.linspace(0, 10, 5000), 10 / 127 * 0.95, 10 / 127 * 1.01),  # nothing to clip
        (np.append(np.abs(np.random.default_rng(0).normal(size=100_000)), 30), 19 / 127, 21 / 127),  # one far away
        (np.zeros(10), 1, 1),
    ],
)
def test_scales(values: np.ndarray, low: float, high: float) -> None:
    largest = float(values.max())
    counts = np.histogram(values, bins=BINS, range=(0, largest or 1))[0]
    scale = scale_of(counts, largest)
    assert low <= scale <= high and scale == np.float16(scale)
    if largest:

        def error(one: float) -> float:
            return float(np.square(values - one * np.clip(np.rint(values / one), 0, 127)).sum())

        assert error(scale) <= 1.05 * min(error(largest * k / 64 / 127) for k in range(8, 65))


def test_opsets() -> None:
    assert raised(network()).opset_import[0].version == 19 and network().opset_import[0].version == 17
    newer = network()
    newer.opset_import[0].version = 21
    assert raised(newer).opset_import[0].version == 21
    odd = network()
    odd.graph.node[1].op_type = "Nothing"
    with pytest.raises(ModelError, match=r"cannot be brought to opset 19 for int8 .*use fp16"):
        raised(odd)
