"""What this machine has of what faceembed can use, what a run would use, and how to mend what is missing.

Nothing here raises for what it finds: a driver that fails is a finding.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import platform
import re
from collections.abc import Callable
from typing import Any, Literal

from faceembed.cores import available_cores, cpu_quota
from faceembed.engine.models import builtin
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.registry import info
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.cards import Driver, probe, without_advice
from faceembed.engine.runtimes.choose import RuntimeSettings, choose
from faceembed.engine.runtimes.flavours import PACKAGES, TITLES, installed, load, why_unserved
from faceembed.engine.runtimes.onnxruntime import CUDA, check_alone, providers, why_not_starting
from faceembed.errors import DeviceError, ModelError
from faceembed.install import pip_install
from faceembed.version import __version__

State = Literal["ok", "missing", "broken"]
_CPU_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    name: str
    state: State
    text: str
    """Its version, or what is wrong."""
    mend: str = ""
    """What to do, where it is missing or broken; empty where nothing needs to be done."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """All findings, and what follows from them."""

    findings: tuple[Finding, ...]
    choice: RuntimeChoice | None
    """What ``--device auto`` uses; None where nothing can compute."""
    problem: str
    """Why not, then."""
    driver: Driver | None

    @property
    def mends(self) -> list[str]:
        """What to do, most needed first, without repeats."""
        return list(dict.fromkeys(finding.mend for finding in self.findings if finding.mend))

    def to_json_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "version": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "driver": dataclasses.asdict(self.driver) if self.driver else None,
            "will_use": dataclasses.asdict(self.choice) if self.choice else None,
            "problem": self.problem,
            "mend": self.mends,
        }


def diagnose() -> Diagnosis:
    """Look at everything."""
    driver, driver_finding = _driver()
    findings = [_processor(), *_cpu_runtimes(), _faiss(), driver_finding, *_cards(driver)]
    findings += [*_tensorrt(driver), _onnxruntime_cuda(driver)]
    findings += [
        _package(name, title, driver)
        for name, title in (
            ("nvidia-nvimgcodec-cu13", "nvImageCodec"),
            ("nvidia-dali-cuda130", "DALI"),
            ("cuda-core", "cuda-core"),
        )
    ]
    findings += [_builtin_models(), _bootstrap_models()]
    try:
        return Diagnosis(tuple(findings), choose(RuntimeSettings()), "", driver)
    except DeviceError as error:
        return Diagnosis(tuple(findings), None, str(error), driver)


def _processor() -> Finding:
    name, flags = platform.processor() or platform.machine(), ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            text = file.read()
        if found := re.search(r"^model name\s*: (.+)$", text, re.MULTILINE):
            name = found[1]
        if found := re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE):
            flags = found[1]
    except OSError:
        pass  # not Linux: the name must do
    here = [feature for feature in _CPU_FEATURES if feature in flags.split()]
    quota = cpu_quota()
    limit = "" if quota is None else f" (the control group's quota: {quota:g})"
    return Finding("processor", "ok", f"{name}, {available_cores()} cores{limit}{'; ' if here else ''}{' '.join(here)}")


def _cpu_runtimes() -> list[Finding]:
    found = []
    either = any(version_of(name) for name in ("openvino", "onnxruntime", "onnxruntime-gpu"))
    mend = "" if either else f"to compute on the CPU: {pip_install('cpu')}"
    version = version_of("openvino")
    found.append(_found("OpenVINO", version) if version else Finding("OpenVINO", "missing", "not installed", mend))
    for name in ("onnxruntime", "onnxruntime-gpu"):
        if version := version_of(name):
            found.append(_guarded("ONNX Runtime", functools.partial(_onnxruntime, version)))
    if not any(finding.name == "ONNX Runtime" for finding in found):
        found.append(Finding("ONNX Runtime", "missing", "not installed", pip_install("cpu")))
    return found


def _onnxruntime(version: str) -> Finding:
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in providers())
    return Finding("ONNX Runtime", "ok", f"{version} ({names})")


def _faiss() -> Finding:
    def look() -> Finding:
        import faiss

        where = f", {faiss.get_num_gpus()} cards" if hasattr(faiss, "StandardGpuResources") else ", CPU"
        return Finding("FAISS", "ok", f"{faiss.__version__}{where}")

    return _guarded("FAISS", look, mend=pip_install("cpu"))


def _driver() -> tuple[Driver | None, Finding]:
    try:
        driver = probe()
    except DeviceError as error:
        reason, _, advice = without_advice(error).partition("; ")
        return None, Finding("driver", "missing", reason, f"to use a card: {advice}" if advice else "")
    release = driver.release or "of unknown release"
    return driver, Finding("driver", "ok", f"{release}, CUDA {driver.cuda[0]}.{driver.cuda[1]}")


def _cards(driver: Driver | None) -> list[Finding]:
    found = []
    for card in driver.cards if driver else ():
        try:
            assert driver is not None
            driver.card(card.index)
            capability = f"compute capability {card.capability[0]}.{card.capability[1]}"
            text = f"{card}, {capability}, {card.multiprocessors} multiprocessors"
            found.append(Finding(f"cuda:{card.index}", "ok", text))
        except DeviceError as error:
            reason, _, advice = without_advice(error).partition("; ")
            found.append(Finding(f"cuda:{card.index}", "broken", reason, advice))
    return found


def _tensorrt(driver: Driver | None) -> list[Finding]:
    found, served = [], False
    for package in PACKAGES:
        if package not in installed():
            continue
        try:
            flavour = load(package)
        except DeviceError as error:
            reason, _, advice = str(error).partition("; ")
            found.append(Finding(TITLES[package], "broken", reason, advice))
            continue
        unserved = [reason for card in (driver.cards if driver else ()) if (reason := why_unserved(flavour, card))]
        builds = f" (builds for {', '.join(flavour.targets())})" if flavour.ahead_of_time else ""
        served = served or not unserved
        text = f"{flavour.version}{builds}{'; ' if unserved else ''}{'; '.join(unserved)}"
        found.append(Finding(TITLES[package], "broken" if unserved else "ok", text))
    if not found:
        found.append(Finding("TensorRT", "missing", "not installed"))
    if driver and not served:
        found[-1] = dataclasses.replace(found[-1], mend="to compute with TensorRT: pip install tensorrt")
    return found


def _onnxruntime_cuda(driver: Driver | None) -> Finding:
    try:
        check_alone()
    except DeviceError as error:
        reason, _, advice = str(error).partition("; run: ")
        return Finding("ONNX Runtime CUDA", "broken", reason, advice)
    if CUDA in providers():
        if not (reason := why_not_starting()):
            return Finding("ONNX Runtime CUDA", "ok", "its provider starts")
        mend = f"for cards without TensorRT: {pip_install('onnx-cuda')}"
        return Finding("ONNX Runtime CUDA", "broken", f"its provider does not start ({reason})", mend if driver else "")
    mend = f"for cards without TensorRT: pip uninstall onnxruntime, then {pip_install('onnx-cuda')}"
    return Finding("ONNX Runtime CUDA", "missing", "not in the installed build", mend if driver else "")


def _package(distribution: str, title: str, driver: Driver | None) -> Finding:
    version = version_of(distribution)
    if version:
        return _found(title, version)
    return Finding(title, "missing", "not installed", f"to use a card: {pip_install('gpu')}" if driver else "")


def _builtin_models() -> Finding:
    names = builtin.names()
    try:
        for name in names:
            builtin.find(name)
    except ModelError as error:
        reason, _, advice = str(error).rpartition("; ")
        return Finding("models inside", "broken", reason, advice)
    return Finding("models inside", "ok", ", ".join(names))


def _bootstrap_models() -> Finding:
    """The models whose weights other packages carry; no command needs them unless it names one, or makes training data."""
    states = {entry.name: info(entry.name).state for entry in CATALOG.values() if entry.importer}
    if missing := [name for name, state in states.items() if state != "ready"]:
        extras = " or ".join(pip_install(extra) for extra in sorted({CATALOG[name].extra for name in missing}))
        text = f"{', '.join(missing)} not installed; only commands that name them, and training, need them ({extras})"
        return Finding("models of others", "missing", text)
    return Finding("models of others", "ok", ", ".join(states))


def _found(title: str, version: str) -> Finding:
    return Finding(title, "ok", version)


def version_of(distribution: str) -> str:
    """The installed version of a package; empty where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _guarded(name: str, look: Callable[[], Finding], *, mend: str = "") -> Finding:
    try:
        return look()
    except ModuleNotFoundError:
        return Finding(name, "missing", "not installed", mend)
    except (ImportError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return Finding(name, "broken", f"installed but does not load ({reason})", mend or "reinstall it")
