"""Which library decodes on a device: `nvimagecodec` or `dali`."""

from __future__ import annotations

from faceembed.engine.pipeline.gpu.dali import Dali
from faceembed.engine.pipeline.gpu.decoder import Decoder
from faceembed.engine.pipeline.gpu.nvimagecodec import NvImageCodec
from faceembed.errors import UsageError


def open_decoder(name: str, *, device_id: int | None, threads: int) -> Decoder:
    """A library by its name.

    Both give OpenCV's pixels bit for bit on the CPU, where that could be measured. nvImageCodec is the default: a bad file costs no
    other file, and Python spends less on a photo (`benchmarks/gpu_host.py`); which one is faster on a card has not been measured.

    Args:
        name: ``nvimagecodec``, ``dali``, or ``auto`` for the first.
        device_id: the card's number; None for the CPU.
        threads: for what the processor does.

    Raises:
        UsageError: no such library.
        DeviceError: it is not installed, or does not start.
    """
    if name in ("auto", "nvimagecodec"):
        return NvImageCodec(device_id=device_id, threads=threads)
    if name == "dali":
        return Dali("cpu" if device_id is None else "gpu", device_id=device_id, threads=threads)
    raise UsageError(f"--decoder '{name}' is neither 'nvimagecodec' nor 'dali'")
