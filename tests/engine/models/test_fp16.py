"""Half precision graphs are strongly typed, keep float32 where ONNX or range demands it, and compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from faceembed.engine.models.fp16 import rounded, to_fp16, to_fp32
from faceembed.errors import ModelError

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def weight(name: str, *shape: int, kind: Any = np.float32) -> Any:
    return numpy_helper.from_array((np.random.default_rng(len(name)).normal(size=shape) / 4).astype(kind), name)


def model(nodes: list[Any], weights: list[Any], result_shape: tuple[Any, ...] = ("N", 4, 8, 8)) -> Any:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(result_shape))
    graph = helper.make_graph(nodes, "g", [given], [result], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    return proto


def run(proto: Any, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def kinds(proto: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def resized() -> Any:
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], mode="nearest"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    return model(nodes, [weight("w", 4, 3, 1, 1), scales], ("N", 4, 16, 16))


def normalised() -> Any:
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["raw"]),
        helper.make_node("Mul", ["raw", "big"], ["large"]),
        helper.make_node("ReduceL2", ["large"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["large", "length"], ["y"]),
    ]
    return model(nodes, [weight("w", 192, 16), numpy_helper.from_array(np.array(300, np.float32), "big")], ("N", 16))


def stored_in_half() -> Any:
    nodes = [
        helper.make_node("Cast", ["h"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    return model(nodes, [weight("h", 4, 3, 1, 1, kind=np.float16)])


@pytest.mark.parametrize("make", [resized, normalised, stored_in_half])
@pytest.mark.parametrize("half_inputs", [False, True])
def test_it_computes_the_same(make: Any, half_inputs: bool) -> None:
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    expected = run(make(), x)
    proto = make()
    to_fp16(proto, half_inputs=half_inputs)
    onnx.checker.check_model(proto, full_check=True)
    got = run(proto, x.astype(np.float16) if half_inputs else x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0.01, atol=0.01)


def test_types() -> None:
    proto = resized()
    to_fp16(proto)
    found = kinds(proto)
    assert found["x"] == found["y"] == TensorProto.FLOAT
    assert {kind for name, kind in found.items() if name not in ("x", "y")} == {TensorProto.FLOAT16}
    assert {entry.name: entry.data_type for entry in proto.graph.initializer} == {
        "w": TensorProto.FLOAT16,
        "scales": TensorProto.FLOAT,  # as ONNX demands
    }


def test_lengths_are_summed_in_float32() -> None:
    """Squares of these numbers leave half precision's range: without the casts the result would be 0."""
    proto = normalised()
    to_fp16(proto)
    (node,) = [node for node in proto.graph.node if node.op_type == "ReduceL2"]
    found = kinds(proto)
    assert found[node.input[0]] == found[node.output[0]] == TensorProto.FLOAT


def test_weights_stored_in_half_are_read_as_they_are() -> None:
    proto = stored_in_half()
    to_fp16(proto, half_inputs=True)
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Cast"]
    assert proto.graph.node[0].input[1] == "h"


@pytest.mark.parametrize("make", [resized, normalised, stored_in_half, lambda: steps(1 / 3, 7, 1.1)])
@pytest.mark.parametrize("half_inputs", [False, True])
def test_there_and_back(make: Any, half_inputs: bool) -> None:
    """A file in half precision becomes a float32 graph with rounded weights, and half precision of that is what the file was."""
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    file = make()
    to_fp16(file, half_inputs=half_inputs)
    proto = type(file).FromString(file.SerializeToString())
    to_fp32(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert set(kinds(proto).values()) == {TensorProto.FLOAT}
    assert not any(node.op_type == "Cast" for node in proto.graph.node)
    assert TensorProto.FLOAT16 not in {entry.data_type for entry in proto.graph.initializer}
    np.testing.assert_allclose(run(proto, x), run(make(), x), rtol=0.01, atol=0.01)
    to_fp16(proto, half_inputs=half_inputs)
    onnx.checker.check_model(proto, full_check=True)
    given = x.astype(np.float16) if half_inputs else x
    np.testing.assert_array_equal(run(rounded(proto), given), run(rounded(file), given))


def test_what_is_only_stored_in_half_stays() -> None:
    proto = stored_in_half()
    to_fp32(proto)
    assert proto == stored_in_half()


def test_branches_are_refused() -> None:
    branch = helper.make_graph([], "b", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match=r"a graph with 'If' cannot be turned into fp16; use --precision fp32"):
        to_fp16(model([node], []))


def steps(*factors: float) -> Any:
    """1x1 convolutions that each multiply by a factor."""
    nodes, weights = [], []
    for number, factor in enumerate(factors):
        name = "x" if number == 0 else f"v{number}"
        result = "y" if number == len(factors) - 1 else f"v{number + 1}"
        nodes.append(helper.make_node("Conv", [name, f"w{number}"], [result]))
        diagonal = (np.eye(3) * factor)[:, :, None, None].astype(np.float32)
        weights.append(numpy_helper.from_array(diagonal, f"w{number}"))
    return model(nodes, weights, ("N", 3, 8, 8))


@pytest.mark.parametrize("half_inputs", [False, True])
def test_rounding_between_layers_is_that_of_half_precision(half_inputs: bool) -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)
    proto = steps(1 / 3, 7, 1.1)
    to_fp16(proto, half_inputs=half_inputs)
    expected = x.astype(np.float16)
    for factor in (1 / 3, 7, 1.1):
        expected = (expected.astype(np.float32) * np.float32(np.float16(factor))).astype(np.float16)
    given = x.astype(np.float16) if half_inputs else x
    before = proto.SerializeToString()
    np.testing.assert_array_equal(run(rounded(proto), given), expected.astype(np.float32))
    assert proto.SerializeToString() == before


def test_an_overflow_between_layers_is_seen() -> None:
    """The CPU alone does not see it: it computes in float32."""
    x = np.ones((1, 3, 8, 8), np.float32)
    proto = steps(300, 300, 1e-4)
    to_fp16(proto)
    assert np.isfinite(run(proto, x)).all()
    assert not np.isfinite(run(rounded(proto), x)).all()


@pytest.mark.parametrize("make", [resized, normalised, stored_in_half])
def test_rounded_graphs_are_valid(make: Any) -> None:
    proto = make()
    to_fp16(proto)
    checked = rounded(proto)
    onnx.checker.check_model(checked, full_check=True)
    x = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(checked, x), run(make(), x), rtol=0.02, atol=0.02)
