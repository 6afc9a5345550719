"""Where a training computes: one CPU, one GPU, several GPUs or several machines, through accelerate.

Several processes are started by `accelerate launch -m faceembed train ...` or `torchrun`; this process then is one of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from faceembed.engine.errors import DeviceError
from faceembed.trainer.settings import Loop

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@contextlib.contextmanager
def open_accelerator(config: Loop, *, notice: Callable[[str], None]) -> Iterator[Accelerator]:
    """What places modules and batches; the settings of accelerate are those of the process, so one is open at a time.

    Args:
        config: device and precision.
        notice: told what ``auto`` chose.

    Raises:
        DeviceError: the device or precision cannot serve.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        why = "" if device == "cuda" else ", as PyTorch finds no CUDA device"
        notice(f"device: {device}{why}")
    if device != "cpu" and not device.startswith("cuda"):
        raise DeviceError(f"loop.device is '{device}'; expected auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        _choose_gpu(device)
    elif config.precision == "fp16":
        raise DeviceError("loop.precision 'fp16' trains on CUDA devices only; use bf16 or fp32 on a CPU")
    AcceleratorState._reset_state(reset_partial_state=False)
    GradientState._reset_state()
    # Batches that do not divide evenly never occur: every process gets equally many (sampling.py).
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=_PRECISIONS[config.precision])
    try:
        yield accelerator
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=False)


def _choose_gpu(device: str) -> None:
    if not torch.cuda.is_available():
        raise DeviceError(f"loop.device is '{device}', but PyTorch finds no CUDA device; use loop.device=cpu")
    _, colon, number = device.partition(":")
    if not colon:
        return
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise DeviceError(
            f"loop.device is '{device}', but there are {torch.cuda.device_count()} CUDA devices, from cuda:0"
        )
    torch.cuda.set_device(int(number))


def share_buffers(module: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the first one's buffers (batch statistics), so that all validate the same network."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
