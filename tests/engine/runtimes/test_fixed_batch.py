"""Networks with attention run in a few fixed batches, padded: the same rows, each batch compiled once, others untouched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.runtimes import fixed_batch
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.frontend import with_pixel_input
from faceembed.engine.runtimes.openvino import OpenVinoSession
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DeviceError


def network(folder: Path, *, attention: bool = True) -> Model:
    """16 tokens of 8 numbers from 16x16 pixels, mixed by each other or by a constant."""
    random = np.random.default_rng(0)
    writer = GraphWriter("net")
    x = writer.conv(
        writer.input("chips", ["N", 3, 16, 16]), random.normal(size=(8, 3, 4, 4)) / 20, np.zeros(8), stride=4
    )
    x = writer.node("Reshape", [x, writer.constant(np.array([0, 8, 16]))])
    if attention:
        likeness = writer.node(
            "Softmax", [writer.node("MatMul", [x, writer.node("Transpose", [x], perm=[0, 2, 1])])], axis=-1
        )
        x = writer.node("MatMul", [likeness, x])
    x = writer.node("MatMul", [x, writer.constant(random.normal(size=(16, 4)).astype(np.float32))])
    x = writer.node("Flatten", [x])
    writer.output(x, "embedding", ["N", 32])
    path = folder / "net.onnx"
    path.write_bytes(writer.serialise())
    template = tuple((x / 8, y / 8) for x, y in ARCFACE_TEMPLATE)
    return Model(ModelSpec("net", "encoder", (16, 16), dimension=32, template=template), str(path))


def choice(runtime: str) -> RuntimeChoice:
    return RuntimeChoice(runtime, "cpu", "fp32", "test")


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 31, 32, 33, 70])
def test_rows_are_those_of_another_runtime(tmp_path: Path, attention: bool, count: int) -> None:
    model = network(tmp_path, attention=attention)
    chips = pixels(count)
    (found,) = open_session(model, choice("openvino"), threads=1).run(chips)
    (wanted,) = open_session(model, choice("onnxruntime"), threads=1).run(chips)
    assert found.shape == (count, 32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_each_batch_is_compiled_once_when_it_is_needed(tmp_path: Path) -> None:
    session = OpenVinoSession(network(tmp_path), choice("openvino"), threads=2)
    assert set(session._programs) == {1}  # of the first run
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda count: session.run(pixels(count))[0], [20, 3, 20, 3, 32, 1, 8, 20]))
    assert set(session._programs) == set(fixed_batch.SIZES)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(found[0][:3], session.run(pixels(20)[:3])[0], rtol=1e-4, atol=1e-4)


def test_a_network_without_attention_is_compiled_for_any_batch(tmp_path: Path) -> None:
    session = OpenVinoSession(network(tmp_path, attention=False), choice("openvino"), threads=1)
    session.run(pixels(13))
    assert set(session._programs) == {0} and session._network is None


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("faceembed-r29", False), ("dlib-resnet", False), ("sface", False), ("faceembed-accurate", False)],
)
def test_networks_of_convolutions_have_nothing_to_gain(name: str, fixed: bool) -> None:
    """Nor has a product with a constant, by which `faceembed-accurate` samples its chip."""
    assert fixed_batch.gains(with_pixel_input(resolve(name, task="encoder"))) is fixed


def test_a_batch_that_cannot_be_compiled_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = OpenVinoSession(network(tmp_path), choice("openvino"), threads=1)

    def fails(*_: Any) -> Any:
        raise RuntimeError("first line\nno kernel for this shape")

    monkeypatch.setattr(session, "_core", type("Core", (), {"compile_model": fails}))
    with pytest.raises(DeviceError, match=r"OpenVINO cannot run .* in fp32: no kernel for this shape"):
        session.run(pixels(8))
