#!/usr/bin/env bash
# OpenVINO's CPU plugin gives the slopes of a PRelu to channels where ONNX gives them to columns, if there are as many of both.
#
# ONNX (PRelu): "slope ... unidirectional broadcastable to first input X", and broadcasting aligns the last axes: a slope of shape
# [C] belongs to the last axis, the columns. With as many columns as channels both readings are valid shapes, and OpenVINO takes
# the other one: no error, no warning, other numbers.
# This script installs the pinned packages, makes such a graph, and fails if what was seen has changed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__, "openvino", openvino.__version__)
slope = np.array([0.0, 0.25, 0.5, 0.75], np.float32)


def run(shape):
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 4, 4])
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("PRelu", ["x", "slope"], ["y"])], "g", [value("x")], [value("y")],
            [numpy_helper.from_array(slope.reshape(shape), "slope")],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    data, x = model.SerializeToString(), np.full((1, 4, 4, 4), -1, np.float32)
    compiled = openvino.Core().compile_model(openvino.Core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "onnx.reference": ReferenceEvaluator(model).run(None, {"x": x})[0],
        "onnxruntime": onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0],
        "openvino": np.array(compiled([x])[0]),
    }


for shape in ((4,), (4, 1, 1)):
    found = run(shape)
    for name, y in found.items():
        print(f"slope {shape}: {name:<15} along channels {y[0, :, 0, 0].tolist()}, along columns {y[0, 0, 0, :].tolist()}")
    assert np.array_equal(found["onnxruntime"], found["onnx.reference"]), "ONNX Runtime differs from the definition"
    same = np.array_equal(found["openvino"], found["onnx.reference"])
    if shape == (4,):
        by_channel = -np.broadcast_to(slope.reshape(1, 4, 1, 1), (1, 4, 4, 4))
        assert not same, "CHANGED: OpenVINO now gives [C] to the columns"
        assert np.array_equal(found["openvino"], by_channel), "CHANGED: OpenVINO does yet another thing"
    else:
        assert same, "CHANGED: OpenVINO differs for (C, 1, 1) too"
print("as recorded: OpenVINO takes [C] for channels, ONNX for columns")
PYTHON
