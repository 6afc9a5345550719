"""Runtimes that compute a valid file otherwise than ONNX defines it: seen at import, kept in the spec, not used for that model.

Where a test fails because OpenVINO computes one of these as ONNX does, it has been mended there: say so in `parity/definition.py`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from faceembed.engine.models.graph import GraphWriter
from faceembed.engine.models.import_file import import_model
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, Model, ModelSpec
from faceembed.engine.parity import definition
from faceembed.engine.parity.definition import checked
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DeviceError, ModelError

SPEC = ModelSpec(name="net", task="encoder", input_size=(112, 112), dimension=16, template=ARCFACE_TEMPLATE)
OTHERWISE = ("antialias", "slopes-of-columns")


def network(kind: str) -> bytes:
    """A few layers, one of them of the kind in question."""
    random = np.random.default_rng(0)
    writer = GraphWriter("net")
    x = writer.input("chips", ["N", 3, 112, 112])
    if kind in ("antialias", "bilinear"):
        scales = writer.constant(np.array([1, 1, 0.25, 0.25], np.float32))
        more = {"antialias": 1} if kind == "antialias" else {}
        x = writer.node("Resize", [x, "", scales], mode="linear", **more)
        channels = 3
    else:  # 28 channels of 28x28 pixels
        x = writer.conv(x, random.normal(size=(28, 3, 4, 4)), np.zeros(28), stride=4)
        shape = {"slopes-of-columns": (28,), "slopes-of-channels": (28, 1, 1)}[kind]
        x = writer.node("PRelu", [x, writer.constant(random.uniform(0, 0.9, shape).astype(np.float32))])
        channels = 28
    x = writer.conv(x, random.normal(size=(16, channels, 7, 7)), np.zeros(16), stride=7)
    x = writer.node("Flatten", [writer.node("Relu", [x])])
    x = writer.node("MatMul", [x, writer.constant(random.normal(size=(256, 16)).astype(np.float32))])
    writer.output(x, "embedding", ["N", 16])
    if kind != "antialias":
        return writer.serialise()
    with pytest.MonkeyPatch.context() as patch:  # the flag is of a newer operator set than our own writer's
        patch.setattr("faceembed.engine.models.graph.OPSET", 18)
        return writer.serialise()


@pytest.mark.parametrize("kind", ["antialias", "bilinear", "slopes-of-columns", "slopes-of-channels"])
def test_openvino_is_not_used_where_it_differs(kind: str) -> None:
    said: list[str] = []
    spec = checked(network(kind), SPEC, notice=said.append)
    assert spec == dataclasses.replace(SPEC, unfit=("openvino",) if kind in OTHERWISE else ())
    assert len(said) == len(spec.unfit)
    for line in said:
        assert "computes it otherwise than ONNX defines it" in line and "so OpenVINO is not used for this model" in line
        assert "\n" not in line


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    (tmp_path / "net.onnx").write_bytes(network("slopes-of-columns"))
    return import_model(
        tmp_path / "net.onnx", name="mine", colour="rgb", mean=(127.5,) * 3, scale=1 / 127.5, agree=checked
    )


def test_it_is_remembered_and_another_runtime_is_chosen(imported: Model) -> None:
    model = resolve("mine", task="encoder")
    assert model == imported and model.spec.unfit == ("openvino",)
    choice = choose(RuntimeSettings(device="cpu"), unfit=model.spec.unfit)
    assert choice.runtime == "onnxruntime" and "OpenVINO computes this encoder otherwise" in choice.why
    pixels = definition._pixels(model.spec)
    found = open_session(model, choice, threads=1).run(pixels)[0]
    wanted = definition._by_definition(model, pixels)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_the_runtime_that_differs_is_refused_where_it_is_asked_for(imported: Model) -> None:
    settings = RuntimeSettings(device="cpu", runtime="openvino")
    with pytest.raises(DeviceError, match=r"otherwise than ONNX defines it.*; use --runtime onnxruntime"):
        choose(settings, unfit=imported.spec.unfit)
    with pytest.raises(DeviceError, match="mine: OpenVINO computes this encoder otherwise"):
        open_session(imported, RuntimeChoice("openvino", "cpu", "fp32", "test"), threads=1)


def test_the_only_runtime_here_differs(imported: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def there(name: str) -> object:
        return None if name == "onnxruntime" else object()

    monkeypatch.setattr("faceembed.engine.runtimes.choose.importlib.util.find_spec", there)
    with pytest.raises(DeviceError, match="no other runtime is here; run: pip install"):
        choose(RuntimeSettings(device="cpu"), unfit=imported.spec.unfit)


def test_a_network_that_no_runtime_computes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition, "_by_definition", lambda *_: np.ones((2, 16), np.float32))
    with pytest.raises(ModelError, match=r"net: no runtime here computes it .*OpenVINO.*ONNX Runtime"):
        checked(network("bilinear"), SPEC)


@pytest.mark.parametrize("wrong", [np.nan, 0.01])
def test_what_counts_as_another_result(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    """One number of one of the two embeddings that is not one, or is 2 % of the length away."""
    true = definition._by_definition

    def changed(*given: Any) -> Any:
        found = true(*given)
        found[1, 3] += wrong if np.isnan(wrong) else 2 * wrong * np.linalg.norm(found[1])
        return found

    monkeypatch.setattr(definition, "_by_definition", changed)
    with pytest.raises(ModelError):
        checked(network("bilinear"), SPEC)


def test_what_the_definition_cannot_run_is_said() -> None:
    """An operator of one runtime's own."""
    proto = onnx.load_from_string(network("bilinear"))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.graph.node[-1].CopyFrom(
        helper.make_node("QuickGelu", list(proto.graph.node[-1].input), ["embedding"], domain="com.microsoft")
    )
    said: list[str] = []
    assert checked(proto.SerializeToString(), SPEC, notice=said.append) == SPEC
    assert len(said) == 1 and said[0].startswith(
        "net: not compared with ONNX's definition, which cannot be run for it ("
    )
