"""ONNX Runtime's way onto a card, with the CPU's provider in place of CUDA's: binding, order of streams, and no silent CPU."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

import numpy as np
import pytest

from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes import onnxruntime as module
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.engine.runtimes.frontend import normalise
from faceembed.engine.runtimes.networks import graph_of, networks_of
from faceembed.engine.runtimes.onnxruntime import CUDA, GraphSession, OnnxRuntimeCudaSession, OnnxRuntimeSession
from faceembed.errors import DeviceError
from faceembed.install import pip_install


def chips(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def reference(model: Model, pixels: np.ndarray) -> np.ndarray:
    return OnnxRuntimeSession(model, RuntimeChoice("onnxruntime", "cpu", "fp32", ""), threads=1).run(pixels)[0]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_binding(
    monkeypatch: pytest.MonkeyPatch, tiny: Model, cuda: Any, to_card: Any, from_card: Any, precision: Any
) -> None:
    monkeypatch.setattr(module, "_device", lambda index, stream: ("cpu", "CPUExecutionProvider"))
    own, stream = cuda.stream(), cuda.stream()
    choice = RuntimeChoice("onnxruntime", "cuda:0", precision, "test")
    session = OnnxRuntimeCudaSession(tiny, choice, stream=own)
    assert session.entry == "chips"
    for count in (3, 7):
        (output,) = session.run_device(to_card(normalise(chips(count), tiny.spec)), stream)
        np.testing.assert_allclose(from_card(output), reference(tiny, chips(count)), rtol=0.02, atol=0.02)
        np.testing.assert_allclose(session.run(chips(count))[0], from_card(output), rtol=1e-3, atol=1e-3)
    assert own.waited_for == [stream, stream] and stream.waited_for == [own, own]


def test_the_provider_is_the_cards(tiny: Model) -> None:
    kind, (provider, options) = module._device(2, 4711)
    assert (kind, provider) == ("cuda", CUDA)
    assert options["device_id"] == "2" and options["user_compute_stream"] == "4711"


def test_a_provider_that_does_not_start_is_an_error(tiny: Model, cuda: Any) -> None:
    """ONNX Runtime takes the CPU by itself where CUDA's libraries do not load, as in a build without them."""
    choice = RuntimeChoice("onnxruntime", "cuda:0", "fp16", "test")
    if CUDA in module.providers():
        pytest.skip("this build has the provider")
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(DeviceError, match=r"CUDAExecutionProvider does not start|cannot run"),
    ):
        OnnxRuntimeCudaSession(tiny, choice, stream=cuda.stream())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_graph_of_a_card_on_the_cpu(tiny: Model, precision: str) -> None:
    (network,) = networks_of(tiny)
    session = GraphSession(
        tiny, network, graph_of(tiny, network, precision), RuntimeChoice("onnxruntime", "cpu", "fp32", "")
    )
    np.testing.assert_allclose(session.run(chips(5))[0], reference(tiny, chips(5)), rtol=0.02, atol=0.02)
    np.testing.assert_array_equal(session.run_entry(normalise(chips(5), tiny.spec))[0], session.run(chips(5))[0])


def test_a_provider_is_tried_for_real() -> None:
    """In a process of its own, with the installed build: what it has starts, what it lacks says why."""
    assert module.why_not_starting("CPUExecutionProvider") == ""
    if CUDA not in module.providers():
        assert module.why_not_starting()


def test_cudas_libraries_are_loaded_before_the_first_session(
    monkeypatch: pytest.MonkeyPatch, tiny: Model, cuda: Any
) -> None:
    """pip's own lie where the system's loader does not look; what ONNX Runtime prints meanwhile is no result of ours."""
    import onnxruntime

    order: list[str] = []
    real = module._load

    def load(*arguments: Any) -> Any:
        order.append("session")
        return real(*arguments)

    def preload() -> None:
        order.append("libraries")
        print("Failed to load libcurand.so.10")

    monkeypatch.setattr(module, "_device", lambda index, stream: ("cpu", "CPUExecutionProvider"))
    monkeypatch.setattr(module, "_load", load)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    module.load_cuda_libraries.cache_clear()
    choice = RuntimeChoice("onnxruntime", "cuda:0", "fp16", "test")
    for _ in range(2):
        OnnxRuntimeCudaSession(tiny, choice, stream=cuda.stream())
    assert order == ["libraries", "session", "session"]
    assert module.load_cuda_libraries() == "Failed to load libcurand.so.10"
    module.load_cuda_libraries.cache_clear()


def test_both_packages_of_onnx_runtime_are_refused(
    monkeypatch: pytest.MonkeyPatch, tiny: Model, cuda: Any, fit: Any
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.31")
    message = (
        r"^onnxruntime and onnxruntime-gpu are installed beside each other, and each has overwritten files of the other; "
        rf"run: pip uninstall -y onnxruntime onnxruntime-gpu, then {re.escape(pip_install('onnx-cuda'))}"
    )
    with pytest.raises(DeviceError, match=message):
        OnnxRuntimeCudaSession(tiny, RuntimeChoice("onnxruntime", "cuda:0", "fp16", "test"), stream=cuda.stream())
    fit()
    with pytest.raises(DeviceError, match=message):
        choose(RuntimeSettings(device="cuda"))
