"""From what the user asked for to a session: which runtime, device and precision, and why. Never a silent fallback."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Sequence

from faceembed.engine.errors import DeviceError, UsageError
from faceembed.engine.models.spec import Model
from faceembed.engine.runtimes.base import Precision, RuntimeChoice, Session

RUNTIMES = ("auto", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclasses.dataclass(frozen=True)
class RuntimeSettings:
    """What to compute with."""

    device: str = "auto"
    """``cpu`` or ``auto``."""
    runtime: str = "auto"
    """One of `RUNTIMES`."""
    precision: str = "auto"
    """One of `PRECISIONS`; ``auto`` takes BF16 only where the processor has it and it passes the parity gate."""
    threads: int = 0
    """Processor cores to use; 0 for all that this process may use."""

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise UsageError(f"runtime '{self.runtime}' is not one of {', '.join(RUNTIMES)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision '{self.precision}' is not one of {', '.join(PRECISIONS)}")
        if self.threads < 0:
            raise UsageError(f"threads is {self.threads}; it must be 0 (all cores) or more")

    @property
    def thread_count(self) -> int:
        """The number of cores, with 0 resolved."""
        return self.threads or available_cores()


def available_cores() -> int:
    """Cores that this process may run on (container and `taskset` limits respected where the system tells them)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose(settings: RuntimeSettings) -> RuntimeChoice:
    """Resolve ``auto``.

    Raises:
        DeviceError: what was asked for explicitly cannot serve on this machine.
    """
    if settings.device not in ("auto", "cpu"):
        raise DeviceError(f"device '{settings.device}': this version computes on the CPU only; use --device cpu")
    installed = [name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name)]
    if settings.runtime == "auto":
        if not installed:
            raise DeviceError("neither OpenVINO nor ONNX Runtime is installed; run: pip install 'faceembed[cpu]'")
        runtime = installed[0]
        why = "the faster runtime on x86-64" if runtime == "openvino" else "OpenVINO is not installed"
    elif settings.runtime in installed:
        runtime, why = settings.runtime, "asked for"
    else:
        raise DeviceError(f"runtime '{settings.runtime}' is not installed; run: pip install 'faceembed[cpu]'")
    precision, reason = _precision(settings.precision, runtime)
    return RuntimeChoice(runtime=runtime, device="cpu", precision=precision, why=f"{why}; {reason}")


def _precision(asked: str, runtime: str) -> tuple[Precision, str]:
    if runtime == "onnxruntime":
        if asked == "bf16":
            raise DeviceError("ONNX Runtime computes in fp32 on the CPU; use --precision fp32 or --runtime openvino")
        return "fp32", "fp32"
    from faceembed.engine.runtimes import openvino

    supported = openvino.supported_precisions()
    if asked == "auto":
        fast = supported[0]
        return fast, "bf16, which this processor computes natively" if fast == "bf16" else "fp32, no native bf16 here"
    if asked == "bf16" and "bf16" not in supported:
        raise DeviceError("this processor has no native bf16 (AVX-512 BF16 or AMX); use --precision fp32")
    return ("bf16" if asked == "bf16" else "fp32"), f"{asked} asked for"


def open_session(model: Model, choice: RuntimeChoice, *, outputs: Sequence[str] = (), threads: int) -> Session:
    """Load a model with the runtime chosen.

    Args:
        model: the model on disk.
        choice: from `choose`.
        outputs: names of the outputs wanted, in order; empty for all.
        threads: how many threads will call `run` side by side.

    Raises:
        DeviceError: the runtime refuses the model.
        ModelError: the file is damaged.
    """
    if choice.runtime == "openvino":
        from faceembed.engine.runtimes.openvino import OpenVinoSession

        return OpenVinoSession(model, choice, outputs=outputs, threads=threads)
    from faceembed.engine.runtimes.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(model, choice, outputs=outputs, threads=threads)
