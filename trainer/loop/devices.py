"""Where a training computes: one CPU, one GPU, several GPUs or several machines, through accelerate.

Several processes are started by `accelerate launch -m faceembed train ...` or `torchrun`; this process then is one of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import threadpoolctl
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from faceembed.errors import DeviceError
from faceembed.trainer.recipes.steps import Loop

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def settle(config: Loop, *, notice: Callable[[str], None]) -> Loop:
    """The same settings with device and precision chosen where they are ``auto``.

    Raises:
        DeviceError: a device or precision that was asked for cannot serve.
    """
    device, why = config.device, ""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        why = "" if device == "cuda" else ", as PyTorch finds no CUDA device"
    if device != "cpu" and not device.startswith("cuda"):
        raise DeviceError(f"loop.device is '{device}'; expected auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        _check_gpu(device)
    precision, because = config.precision, ""
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
        because = ", which it computes natively" if precision == "bf16" else ", as it has no native bf16"
    elif precision == "bf16" and not _has_bf16(device):
        raise DeviceError(f"{device} has no native bf16, without which bf16 is many times slower than fp32; use fp32")
    elif precision == "fp16" and device == "cpu":
        raise DeviceError("loop.precision 'fp16' trains on CUDA devices only; use bf16 or fp32 on a CPU")
    if why or because:
        notice(f"device {device}{why}; precision {precision}{because}")
    return dataclasses.replace(config, device=device, precision=precision)


def _has_bf16(device: str) -> bool:
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch computes bf16 convolutions without these instructions too: 10 times slower than fp32 (resnet29, AVX2).
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


@contextlib.contextmanager
def open_accelerator(config: Loop) -> Iterator[Accelerator]:
    """What places modules and batches; the settings of accelerate are those of the process, so one is open at a time.

    Args:
        config: from `settle`.
    """
    if config.device.startswith("cuda:"):
        torch.cuda.set_device(int(config.device.partition(":")[2]))
    AcceleratorState._reset_state(reset_partial_state=False)
    GradientState._reset_state()
    # Batches that do not divide evenly never occur: every process gets equally many (sampling.py).
    accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision=_PRECISIONS[config.precision])
    try:
        yield accelerator
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=False)


@contextlib.contextmanager
def sharing_cores(device: torch.device, *, making: bool) -> Iterator[None]:
    """Training steps on a CPU share its cores with threads that make deepfakes.

    These solve small systems of equations, for which NumPy's BLAS would wake a thread on every core each time, and those of PyTorch
    would wait for them: 87 pairs/s on two cores, 156 with one thread for BLAS and half of the cores' for PyTorch.

    Args:
        device: what the steps are computed on.
        making: whether deepfakes are made meanwhile.
    """
    if not making:
        yield
        return
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(before // 2, 1))
    try:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def _check_gpu(device: str) -> None:
    if not torch.cuda.is_available():
        raise DeviceError(f"loop.device is '{device}', but PyTorch finds no CUDA device; use loop.device=cpu")
    _, colon, number = device.partition(":")
    if colon and (not number.isdigit() or int(number) >= torch.cuda.device_count()):
        raise DeviceError(
            f"loop.device is '{device}', but there are {torch.cuda.device_count()} CUDA devices, from cuda:0"
        )


def share_buffers(module: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the first one's buffers (batch statistics), so that all validate the same network."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
