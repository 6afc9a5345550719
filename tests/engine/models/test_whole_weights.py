"""Weights kept as whole numbers: half the file, and the function that ONNX defines for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from faceembed.engine.models.float_weights import settle
from faceembed.engine.models.fp16 import to_fp16, to_fp32
from faceembed.engine.models.whole_weights import LEVELS, WIDE, round_weights, to_whole_weights


def network() -> Any:
    """3 to 8 to 128 to 5 channels: one wide convolution, whose weights two nodes read."""
    rng = np.random.default_rng(4)
    shapes = {"a": (8, 3, 3, 3), "b": (WIDE, 8, 3, 3), "c": (5, WIDE, 1, 1)}
    weights = [numpy_helper.from_array(rng.normal(0, 0.1, s).astype(np.float32), n) for n, s in shapes.items()]
    weights.append(numpy_helper.from_array(rng.normal(0, 0.1, WIDE).astype(np.float32), "bias"))
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], pads=[1] * 4),
        helper.make_node("Conv", ["p", "b", "bias"], ["q"], pads=[1] * 4),
        helper.make_node("Conv", ["p", "b"], ["r"], pads=[1] * 4),
        helper.make_node("Add", ["q", "r"], ["s"]),
        helper.make_node("Conv", ["s", "c"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 9, 9])
        for name, channels in (("x", 3), ("y", 5))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def run(proto: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def test_the_file_is_half_and_computes_the_same() -> None:
    exact, half, whole = network(), network(), network()
    to_fp16(half)
    to_fp16(whole)
    to_whole_weights(whole)
    onnx.checker.check_model(whole, full_check=True)
    sizes = {weight.name: len(weight.raw_data) for weight in whole.graph.initializer}
    assert sizes["b.int8"] == WIDE * 8 * 9 and "b" not in sizes and "a" in sizes and "c" in sizes
    assert [node.op_type for node in whole.graph.node].count("DequantizeLinear") == 1
    x = np.random.default_rng(5).normal(0, 1, (2, 3, 9, 9)).astype(np.float32)
    wanted = run(exact, x)
    assert np.abs(run(whole, x) - wanted).max() < 0.01 * np.abs(wanted).max()
    settled = type(whole).FromString(whole.SerializeToString())
    assert settle(settled)
    assert {w.name: w.data_type for w in settled.graph.initializer}["b.wide"] == TensorProto.FLOAT16
    assert not [node for node in settled.graph.node if node.op_type == "DequantizeLinear"]
    to_fp32(settled)
    assert np.abs(run(settled, x) - run(whole, x)).max() < 2e-3 * np.abs(wanted).max()
    assert np.abs(run(half, x) - wanted).max() > 0


@given(arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-8, 8, width=32)))
def test_no_weight_is_far_away(values: NDArray[np.float32]) -> None:
    """What is kept leaves no larger a sum of squares than steps of the largest weight's 127th."""
    whole, scale = round_weights(values)
    assert whole.dtype == np.int8 and scale.dtype == np.float16 and np.abs(whole.astype(int)).max() <= LEVELS
    assert (scale > 0).all()
    step = np.maximum(np.abs(values).max((1, 2, 3)) / LEVELS, 2.0**-14) * (1 + 2.0**-10)
    left = np.square(whole * scale.astype(np.float64)[:, None, None, None] - values).sum((1, 2, 3))
    allowed = step / 2 + np.abs(values).max((1, 2, 3)) * 2.0**-10  # the scale is rounded too
    assert (left <= values[0].size * np.square(allowed)).all()


@pytest.mark.parametrize("channels", [0.0, 1e-30])
def test_a_channel_of_zeros(channels: float) -> None:
    whole, scale = round_weights(np.full((2, 4), channels, np.float32))
    assert not whole.any() and (scale > 0).all()
