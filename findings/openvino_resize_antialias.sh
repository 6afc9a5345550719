#!/usr/bin/env bash
# OpenVINO's CPU plugin reads ONNX's Resize with antialias=1 and resizes without it: no error, no warning, other numbers.
#
# ONNX (Resize, operator set 18): "antialias: If set to 1, 'linear' and 'cubic' interpolation modes will use an antialiasing filter
# when downscaling". A network that scales its input down by it so computes something else in OpenVINO than in ONNX Runtime.
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


def graph(antialias):
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=antialias)
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, None, None])
    scales = numpy_helper.from_array(np.array([1, 1, 0.25, 0.25], np.float32), "scales")
    model = helper.make_model(
        helper.make_graph([node], "g", [value("x")], [value("y")], [scales]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


x = np.zeros((1, 1, 16, 16), np.float32)
x[..., ::4] = 1.0  # a line in every fourth column: a quarter of the picture, whatever its size
seen = {}
for antialias in (0, 1):
    model = graph(antialias)
    data = model.SerializeToString()
    compiled = openvino.Core().compile_model(openvino.Core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen[antialias] = {
        "onnx.reference": ReferenceEvaluator(model).run(None, {"x": x})[0],
        "onnxruntime": onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0],
        "openvino": np.array(compiled([x])[0]),
    }
    for name, y in seen[antialias].items():
        print(f"antialias={antialias} {name:<15} mean {y.mean():.4f}, row 0: {np.round(y[0, 0, 0], 4).tolist()}")
flag, plain = seen[1], seen[0]
assert np.allclose(flag["onnxruntime"], flag["onnx.reference"], atol=1e-5), "ONNX Runtime differs from the definition"
assert np.allclose(plain["openvino"], plain["onnx.reference"], atol=1e-5), "OpenVINO differs without the flag too"
assert not np.allclose(flag["openvino"], flag["onnx.reference"], atol=0.01), "CHANGED: OpenVINO now antialiases"
assert np.array_equal(flag["openvino"], plain["openvino"]), "CHANGED: OpenVINO's result depends on the flag now"
print("as recorded: OpenVINO gives the same with and without the flag")
PYTHON
