"""From what the user asked for to a session: which runtime, device and precision, and why. Never a silent fallback."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence

from faceembed.cores import available_cores
from faceembed.engine.runtimes import openvino
from faceembed.engine.runtimes.base import Precision, RuntimeChoice
from faceembed.engine.runtimes.cards import Card, index_of, probe, without_advice
from faceembed.engine.runtimes.flavours import for_card
from faceembed.engine.runtimes.onnxruntime import (
    CUDA,
    check_alone,
    providers,
)
from faceembed.engine.runtimes.onnxruntime import version as onnxruntime_version
from faceembed.errors import DeviceError, UsageError
from faceembed.install import pip_install

RUNTIMES = ("auto", "openvino", "onnxruntime", "tensorrt")
TITLES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
"""Those that compute on the CPU, as they are called, the faster on x86-64 first."""
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

_GPU_PACKAGES = {"nvidia.dali": "DALI", "cuda.core": "cuda-core"}


@dataclasses.dataclass(frozen=True)
class RuntimeSettings:
    """What to compute with."""

    device: str = "auto"
    """``cpu``, ``cuda`` (the first card), ``cuda:N`` or ``auto``: a card that can serve, else the CPU."""
    runtime: str = "auto"
    """One of `RUNTIMES`."""
    precision: str = "auto"
    """One of `PRECISIONS`; ``auto`` takes FP16 on a card and BF16 on a processor that has it, if it passes the parity gate."""
    threads: int = 0
    """Processor cores to use; 0 for all that this process may use."""

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise UsageError(f"runtime '{self.runtime}' is not one of {', '.join(RUNTIMES)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision '{self.precision}' is not one of {', '.join(PRECISIONS)}")
        if self.threads < 0:
            raise UsageError(f"threads is {self.threads}; it must be 0 (all cores) or more")
        if self.device not in ("auto", "cpu"):
            index_of(self.device)
        self._check_pairs()

    def _check_pairs(self) -> None:
        """Refuse what no machine can do."""
        on_card, on_cpu = self.device.startswith("cuda"), self.device == "cpu"
        if on_cpu and self.runtime == "tensorrt":
            raise UsageError("--runtime tensorrt computes on an NVIDIA card; use --device cuda, or leave --device out")
        if on_card and self.runtime == "openvino":
            raise UsageError(
                f"--runtime openvino computes on the CPU, not on {self.device}; use tensorrt or onnxruntime"
            )
        if on_cpu and self.precision in ("fp16", "int8"):
            raise UsageError(f"--precision {self.precision} is for NVIDIA cards; on the CPU use fp32 or bf16")
        if on_card and self.precision == "bf16":
            raise UsageError(f"--precision bf16 is for the CPU; on {self.device} use fp16 or fp32")
        if self.runtime == "openvino" and self.precision in ("fp16", "int8"):
            raise UsageError(f"--runtime openvino computes in fp32 or bf16 here, not in {self.precision}")
        if self.runtime == "tensorrt" and self.precision == "bf16":
            raise UsageError("--runtime tensorrt computes in fp16, fp32 or int8 here, not in bf16")
        if self.runtime == "onnxruntime" and self.precision == "int8":
            raise UsageError("--runtime onnxruntime computes in fp32 or fp16 here, not in int8")

    @property
    def thread_count(self) -> int:
        """The number of cores, with 0 resolved."""
        return self.threads or available_cores()


def choose(settings: RuntimeSettings, *, cpu_only: str = "", unfit: Sequence[str] = ()) -> RuntimeChoice:
    """Resolve ``auto``.

    Args:
        settings: what the user asked for.
        unfit: runtimes that compute the encoder otherwise than ONNX defines it (`ModelSpec.unfit`).
        cpu_only: why what is to be computed has no way onto a card, as in "aligner 'mtcnn' runs on the CPU only"; empty if it has.

    Raises:
        DeviceError: what was asked for explicitly cannot serve on this machine.
    """
    if settings.device == "cpu":
        return _on_cpu(settings, "", unfit)
    if settings.device != "auto":
        if cpu_only:
            raise DeviceError(f"--device {settings.device}: {cpu_only}")
        return _on_card(settings, index_of(settings.device))
    if settings.runtime == "openvino" or settings.precision == "bf16":
        return _on_cpu(settings, "", unfit)
    must = "tensorrt" if settings.runtime == "tensorrt" else ""
    must = must or (settings.precision if settings.precision in ("fp16", "int8") else "")
    if cpu_only:
        if must:
            raise DeviceError(f"{must} was asked for, which computes on a card: {cpu_only}")
        return _on_cpu(settings, f"{cpu_only}; ", unfit)
    try:
        return _on_card(settings, 0)
    except DeviceError as error:
        if must:
            raise DeviceError(f"{must} was asked for, which computes on a card: {without_advice(error)}") from error
        return _on_cpu(settings, f"{without_advice(error).partition('; ')[0]}; ", unfit)


def _on_cpu(settings: RuntimeSettings, why_not_card: str, unfit: Sequence[str]) -> RuntimeChoice:
    installed = [name for name in TITLES if importlib.util.find_spec(name)]
    if settings.runtime in unfit:
        other = " or ".join(name for name in TITLES if name not in unfit)
        raise DeviceError(f"{otherwise(settings.runtime)}; use --runtime {other}")
    if settings.runtime == "auto":
        if not installed:
            raise DeviceError(f"neither OpenVINO nor ONNX Runtime is installed; run: {pip_install('cpu')}")
        fit = [name for name in installed if name not in unfit]
        if not fit:
            raise DeviceError(f"{otherwise(installed[0])}, and no other runtime is here; run: {pip_install('cpu')}")
        runtime = fit[0]
        why = "the faster runtime on x86-64" if runtime == "openvino" else "OpenVINO is not installed"
        if runtime != installed[0]:
            why = otherwise(installed[0])
    elif settings.runtime in installed:
        runtime, why = settings.runtime, "asked for"
    else:
        raise DeviceError(f"runtime '{settings.runtime}' is not installed; run: {pip_install('cpu')}")
    precision, reason = _precision(settings.precision, runtime)
    return RuntimeChoice(runtime=runtime, device="cpu", precision=precision, why=f"{why_not_card}{why}; {reason}")


def otherwise(runtime: str) -> str:
    """Why a runtime of `ModelSpec.unfit` is not used."""
    return f"{TITLES[runtime]} computes this encoder otherwise than ONNX defines it (found when it was imported)"


def _on_card(settings: RuntimeSettings, index: int) -> RuntimeChoice:
    """A card, if everything that the way through it needs is there.

    Raises:
        DeviceError: something is missing; the message says what, and how to mend it.
    """
    card = probe().card(index)
    if missing := [f"{title} ({package})" for package, title in _GPU_PACKAGES.items() if not _is_here(package)]:
        raise DeviceError(
            f"{' and '.join(missing)} not installed, which {card} needs; run: {pip_install('gpu')}, or use --device cpu"
        )
    check_alone()
    runtime, why = _runtime_on(settings.runtime, card)
    precision: Precision = "fp16"
    if settings.precision in ("fp32", "int8"):
        precision = settings.precision  # type: ignore[assignment]
    if precision == "int8" and runtime != "tensorrt":
        raise DeviceError(f"--precision int8 needs TensorRT, and {why}; use --precision fp16")
    asked = "" if settings.precision == "auto" else " asked for"
    return RuntimeChoice(runtime, f"cuda:{card.index}", precision, f"{card}; {why}; {precision}{asked}")


def _runtime_on(asked: str, card: Card) -> tuple[str, str]:
    """TensorRT where it serves the card, else ONNX Runtime; and why."""
    reason = ""
    if asked in ("auto", "tensorrt"):
        try:
            return "tensorrt", for_card(card).title
        except DeviceError as error:
            if asked == "tensorrt":
                raise
            reason = f"{error}; "
    if CUDA in providers():
        return "onnxruntime", f"{reason}ONNX Runtime CUDA"
    raise DeviceError(
        f"{reason}ONNX Runtime {'is here without' if providers() else 'is not installed, nor'} its CUDA provider; run: "
        f"pip uninstall onnxruntime, then {pip_install('onnx-cuda')}, or use --device cpu"
    )


def _is_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of a package that holds the one asked for
        return False


def _precision(asked: str, runtime: str) -> tuple[Precision, str]:
    if runtime == "onnxruntime":
        if asked == "bf16":
            raise DeviceError("ONNX Runtime computes in fp32 on the CPU; use --precision fp32 or --runtime openvino")
        return "fp32", "fp32"
    supported = openvino.supported_precisions()
    if asked == "auto":
        fast = supported[0]
        return fast, "bf16, which this processor computes natively" if fast == "bf16" else "fp32, no native bf16 here"
    if asked == "bf16" and "bf16" not in supported:
        raise DeviceError("this processor has no native bf16 (AVX-512 BF16 or AMX); use --precision fp32")
    return ("bf16" if asked == "bf16" else "fp32"), f"{asked} asked for"


def runtime_version(choice: RuntimeChoice) -> str:
    """The release of what was chosen: a parity result holds for one."""
    if choice.runtime == "openvino":
        return openvino.version()
    if choice.runtime == "tensorrt":
        return for_card(probe().card(index_of(choice.device))).title
    return onnxruntime_version()


def for_aligner(choice: RuntimeChoice) -> RuntimeChoice:
    """The same for an aligner, which runs in half precision beside an encoder in INT8."""
    return dataclasses.replace(choice, precision="fp16") if choice.precision == "int8" else choice
