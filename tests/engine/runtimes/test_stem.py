"""First layers in fp32, the rest at another precision: cut where everything goes through one tensor, and nowhere else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.models.store import file_sha256
from faceembed.engine.runtimes import openvino
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DeviceError

EXACT = RuntimeChoice("openvino", "cpu", "fp32", "test")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """conv, conv, a residual block of two, conv, product: six layers with weights."""
    rng = np.random.default_rng(3)

    def conv(x: str, into: int, out: int) -> str:
        return writer.conv(x, rng.normal(size=(out, into, 3, 3)) / np.sqrt(9 * into), rng.normal(size=out) / 8, pad=1)

    writer = GraphWriter("net")
    x = writer.node("Relu", [conv(writer.input("chips", ["N", 3, 16, 16]), 3, 8)])
    x = writer.node("Relu", [conv(x, 8, 8)])
    inner = writer.node("Relu", [conv(x, 8, 8)])
    x = writer.node("Relu", [writer.node("Add", [conv(inner, 8, 8), x])])
    x = writer.node("Relu", [conv(x, 8, 8)])
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    x = writer.node("MatMul", [x, writer.constant(rng.normal(size=(8, 16)).astype(np.float32))])
    writer.output(x, "embedding", ["N", 16])
    path = tmp_path_factory.mktemp("stem") / "net.onnx"
    path.write_bytes(writer.serialise())
    spec = ModelSpec("net", "encoder", (16, 16), dimension=16, template=ARCFACE_TEMPLATE, sha256=file_sha256(path))
    return Model(spec, str(path))


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def run(model: Model, layers: int, precision: str = "fp32", count: int = 5) -> np.ndarray:
    choice = dataclasses.replace(EXACT, precision=precision, exact_layers=layers)
    return open_session(model, choice, threads=2).run(pixels(count))[0]


@pytest.mark.parametrize("layers", [1, 2, 4, 5])
def test_a_cut_network_computes_the_same(model: Model, layers: int) -> None:
    for count in (1, 5):
        np.testing.assert_allclose(run(model, layers, count=count), run(model, 0, count=count), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [3, 6, 60])
def test_a_residual_connection_or_the_end_cannot_be_cut(model: Model, layers: int) -> None:
    with pytest.raises(DeviceError, match=rf"cannot be cut behind its first {layers} layers with weights"):
        run(model, layers)


@pytest.mark.skipif("bf16" not in openvino.supported_precisions(), reason="no BF16 in this processor")
def test_exact_first_layers_bring_bf16_nearer(model: Model) -> None:
    exact = run(model, 0, count=64)
    errors = [float(np.abs(run(model, layers, "bf16", 64) - exact).mean()) for layers in (0, 4)]
    assert 0 < errors[1] < errors[0]
