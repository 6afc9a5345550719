"""A device, runtime or precision that is asked for is that or an error; `auto` says what it took and why."""

from __future__ import annotations

import re
import types
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from faceembed.engine.runtimes import choose as module
from faceembed.engine.runtimes import flavours
from faceembed.engine.runtimes.choose import RuntimeSettings, choose, for_aligner
from faceembed.engine.runtimes.onnxruntime import CUDA
from faceembed.errors import DeviceError, UsageError
from faceembed.install import pip_install

H100 = ("NVIDIA H100", (9, 0))
RTX = ("NVIDIA GeForce RTX 4090", (8, 9))


class ComputeCapability:
    __members__: ClassVar = {"NONE": 0, "CURRENT": 1, "SM75": 75, "SM86": 86, "SM89": 89, "SM120": 120}


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install packages: ``packages("tensorrt", "nvidia.dali", "cuda.core", providers=[...])``."""

    def install(*names: str, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        ours = {"tensorrt", "tensorrt_rtx", "nvidia.dali", "cuda.core"}
        found = module.importlib.util.find_spec
        monkeypatch.setattr(
            module.importlib.util, "find_spec", lambda name: (name in names or None) if name in ours else found(name)
        )
        fake = types.SimpleNamespace(__version__="11.1", ComputeCapability=ComputeCapability)
        real = flavours.importlib.import_module

        def load(name: str) -> Any:
            if name not in ours:
                return real(name)
            if name not in names:
                raise ModuleNotFoundError(name)
            return fake

        monkeypatch.setattr(flavours.importlib, "import_module", load)
        monkeypatch.setattr(module, "providers", lambda: tuple(providers))

    return install


GPU = ("nvidia.dali", "cuda.core")


def test_a_card_with_everything(fit: Any, packages: Any) -> None:
    fit(cards=[RTX, H100])
    packages(*GPU, "tensorrt", "tensorrt_rtx")
    for device in ("auto", "cuda", "cuda:0"):
        choice = choose(RuntimeSettings(device=device))
        assert (choice.device, choice.runtime, choice.precision) == ("cuda:0", "tensorrt", "fp16")
        assert "RTX 4090" in choice.why and "TensorRT 11.1" in choice.why
    second = choose(RuntimeSettings(device="cuda:1", precision="fp32"))
    assert (second.device, second.precision) == ("cuda:1", "fp32") and "H100" in second.why


def test_the_flavour_that_serves_the_card(fit: Any, packages: Any) -> None:
    fit(cards=[RTX])
    packages(*GPU, "tensorrt_rtx")
    assert "TensorRT for RTX 11.1" in choose(RuntimeSettings(device="cuda")).why
    fit(cards=[H100])
    with pytest.raises(
        DeviceError,
        match=r"serves sm75, sm86, sm89, sm120, not NVIDIA H100 \(sm90, 24 GiB\); run: pip install tensorrt",
    ):
        choose(RuntimeSettings(device="cuda", runtime="tensorrt"))
    packages(*GPU, "tensorrt_rtx", providers=[CUDA, "CPUExecutionProvider"])
    portable = choose(RuntimeSettings(device="cuda"))
    assert (portable.runtime, portable.device) == ("onnxruntime", "cuda:0")
    assert "not NVIDIA H100" in portable.why  # why not TensorRT


def test_onnxruntime_on_a_card_when_asked(fit: Any, packages: Any) -> None:
    fit()
    packages(*GPU, "tensorrt", providers=[CUDA])
    assert choose(RuntimeSettings(device="cuda", runtime="onnxruntime")).runtime == "onnxruntime"
    packages(*GPU, "tensorrt")
    with pytest.raises(
        DeviceError, match=r"ONNX Runtime is here without its CUDA provider; run: pip uninstall onnxruntime"
    ):
        choose(RuntimeSettings(device="cuda", runtime="onnxruntime"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("cuda.core", "tensorrt"),
            r"^DALI \(nvidia\.dali\) not installed, which NVIDIA GeForce RTX 4090 .* needs; run: "
            + re.escape(pip_install("gpu")),
        ),
        (("tensorrt",), r"^DALI \(nvidia\.dali\) and cuda-core \(cuda\.core\) not installed"),
        (
            GPU,
            r"^TensorRT is not installed; run: pip install tensorrt-rtx .*; ONNX Runtime is here without its CUDA provider",
        ),
    ],
)
def test_what_is_missing_is_said(fit: Any, packages: Any, names: tuple[str, ...], message: str) -> None:
    fit()
    packages(*names)
    with pytest.raises(DeviceError, match=message):
        choose(RuntimeSettings(device="cuda"))
    automatic = choose(RuntimeSettings())  # and `auto` says it too, with what it takes instead
    assert automatic.device == "cpu" and "not installed" in automatic.why


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch, packages: Any) -> None:
    def missing() -> None:
        raise DeviceError("no NVIDIA driver on this machine; install driver 580, or use --device cpu")

    monkeypatch.setattr(module, "probe", missing)
    packages(*GPU, "tensorrt")
    with pytest.raises(
        DeviceError, match=r"^no NVIDIA driver on this machine; install driver 580, or use --device cpu$"
    ):
        choose(RuntimeSettings(device="cuda:0"))
    assert choose(RuntimeSettings()).why.startswith("no NVIDIA driver on this machine; ")
    for asked in ({"runtime": "tensorrt"}, {"precision": "fp16"}, {"precision": "int8"}):
        with pytest.raises(
            DeviceError,
            match=rf"^{next(iter(asked.values()))} was asked for, which computes on a card: no NVIDIA driver",
        ):
            choose(RuntimeSettings(**asked))


def test_too_old_a_driver_is_said_by_both(fit: Any, packages: Any) -> None:
    fit(version=12080)
    packages(*GPU, "tensorrt")
    with pytest.raises(DeviceError, match=r"is too old: it runs CUDA 12\.8"):
        choose(RuntimeSettings(device="cuda"))
    assert "is too old: it runs CUDA 12.8" in choose(RuntimeSettings()).why


def test_int8_is_for_tensorrt_and_encoders(fit: Any, packages: Any) -> None:
    fit(cards=[RTX])
    packages(*GPU, "tensorrt_rtx")
    choice = choose(RuntimeSettings(precision="int8"))
    assert (choice.runtime, choice.precision) == ("tensorrt", "int8") and choice.why.endswith("int8 asked for")
    assert for_aligner(choice).precision == "fp16" and for_aligner(choice).device == choice.device
    exact = choose(RuntimeSettings(device="cuda", precision="fp32"))
    assert for_aligner(exact) is exact
    packages(*GPU, providers=[CUDA])
    with pytest.raises(
        DeviceError, match=r"^--precision int8 needs TensorRT, and TensorRT is not installed.*; use --precision fp16$"
    ):
        choose(RuntimeSettings(device="cuda", precision="int8"))


def test_what_runs_on_the_cpu_only(fit: Any, packages: Any) -> None:
    fit()
    packages(*GPU, "tensorrt")
    reason = "aligner 'mtcnn' runs on the CPU only"
    automatic = choose(RuntimeSettings(), cpu_only=reason)
    assert automatic.device == "cpu" and automatic.why.startswith(reason)
    with pytest.raises(DeviceError, match=f"^--device cuda:0: {reason}"):
        choose(RuntimeSettings(device="cuda:0"), cpu_only=reason)
    with pytest.raises(DeviceError, match=f"fp16 was asked for, which computes on a card: {reason}"):
        choose(RuntimeSettings(precision="fp16"), cpu_only=reason)


def test_the_cpu_when_it_is_asked_for(fit: Any, packages: Any) -> None:
    fit()
    packages(*GPU, "tensorrt")
    for asked in ({"device": "cpu"}, {"runtime": "openvino"}):
        assert choose(RuntimeSettings(precision="fp32", **asked)).device == "cpu"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "cpu", "runtime": "tensorrt"}, "--runtime tensorrt computes on an NVIDIA card"),
        ({"device": "cuda", "runtime": "openvino"}, "--runtime openvino computes on the CPU, not on cuda"),
        ({"device": "cpu", "precision": "fp16"}, "--precision fp16 is for NVIDIA cards"),
        ({"device": "cuda:1", "precision": "bf16"}, "--precision bf16 is for the CPU; on cuda:1 use fp16"),
        ({"runtime": "tensorrt", "precision": "bf16"}, "computes in fp16, fp32 or int8 here"),
        ({"runtime": "openvino", "precision": "fp16"}, "computes in fp32 or bf16 here"),
        ({"device": "cpu", "precision": "int8"}, "--precision int8 is for NVIDIA cards"),
        ({"runtime": "onnxruntime", "precision": "int8"}, "computes in fp32 or fp16 here, not in int8"),
    ],
)
def test_settings_that_contradict_each_other(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RuntimeSettings(**asked)


def test_a_device_that_is_none() -> None:
    with pytest.raises(DeviceError, match="device 'gpu' is none"):
        RuntimeSettings(device="gpu")
