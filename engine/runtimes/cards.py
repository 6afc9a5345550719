"""What NVIDIA cards and driver this machine has, asked of the driver itself (``libcuda``), with no other package installed.

    driver = probe()                     # raises DeviceError with what is missing and how to mend it
    card = driver.card(0)

It starts CUDA in this process, so a process that asks must not fork afterwards and use a card in the child: start workers with
``spawn``. Nothing is allocated on a card.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
from typing import Any

from faceembed.errors import DeviceError

NEEDED_CUDA = (13, 0)  # what the packages of the extra [gpu] are built for
NEEDED_DRIVER = 580  # the first driver series of CUDA 13.0: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
OLDEST_CARD = (7, 5)  # Turing: the oldest that CUDA 13 and TensorRT for RTX know
_LIBRARY = "libcuda.so.1"
_CPU = "or use --device cpu"

# cuDeviceGetAttribute's numbers, from cuda.h.
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76

# CUresult of cuInit, from cuda.h: what is wrong and what to do.
_WRONG = {
    3: "the driver is shutting down in this process",
    34: f"{_LIBRARY} is the CUDA toolkit's stub, not a driver; take its folder out of LD_LIBRARY_PATH",
    100: "the driver sees no card: is one fitted, given to this container (--gpus all), and not hidden by CUDA_VISIBLE_DEVICES?",
    802: "the card is not ready (NVSwitch systems need nvidia-fabricmanager running)",
    803: "the driver's library and its kernel module are of different versions; reboot, or reinstall the driver",
    804: "forward compatibility was tried on a card that does not have it; take the cuda-compat package away",
    999: "the driver fails for a reason that it does not tell; see dmesg, and reboot or reinstall it",
}

# Dense FP16 operations of the tensor cores per clock and multiprocessor, by compute capability; from NVIDIA's white papers of
# Turing, Ampere GA100 and GA102, Ada, Hopper and Blackwell. Times multiprocessors and clock they give the data sheets' figures.
FLOPS_PER_CLOCK = {
    (7, 0): 1024,
    (7, 5): 1024,
    (8, 0): 2048,
    (8, 6): 1024,
    (8, 9): 1024,
    (9, 0): 4096,
    (10, 0): 8192,
    (10, 3): 8192,
    (12, 0): 1024,
}


@dataclasses.dataclass(frozen=True)
class Card:
    """One card, by the number that CUDA gives it."""

    index: int
    name: str
    capability: tuple[int, int]
    """Compute capability, as in (8, 9)."""
    memory_bytes: int
    multiprocessors: int

    @property
    def sm(self) -> str:
        """The architecture's name, as in ``sm89``."""
        return f"sm{self.capability[0]}{self.capability[1]}"

    def __str__(self) -> str:
        return f"{self.name} ({self.sm}, {self.memory_bytes / 2**30:.0f} GiB)"


@dataclasses.dataclass(frozen=True)
class Driver:
    """The driver and the cards that it shows this process."""

    release: str
    """As in ``580.65.06``; empty where the system does not tell."""
    cuda: tuple[int, int]
    """The newest CUDA that it runs."""
    cards: tuple[Card, ...]

    def card(self, index: int) -> Card:
        """One card that can serve.

        Raises:
            DeviceError: there is no such card, it is too old, or the driver is.
        """
        if index >= len(self.cards):
            there = f"cuda:0 to cuda:{len(self.cards) - 1}" if len(self.cards) > 1 else "cuda:0 alone"
            raise DeviceError(f"device 'cuda:{index}': this machine has {there}")
        if self.cuda < NEEDED_CUDA:
            release = f"driver {self.release}" if self.release else "the NVIDIA driver"
            raise DeviceError(
                f"{release} is too old: it runs CUDA {_dotted(self.cuda)}, and {_dotted(NEEDED_CUDA)} is needed; "
                f"install driver {NEEDED_DRIVER} or newer, {_CPU}"
            )
        card = self.cards[index]
        if card.capability < OLDEST_CARD:
            raise DeviceError(
                f"{card} is too old: compute capability {_dotted(card.capability)}, and {_dotted(OLDEST_CARD)} (Turing) is the "
                f"oldest that is served; use --device cpu"
            )
        return card


def probe() -> Driver:
    """Ask the driver.

    Raises:
        DeviceError: there is none, it does not work, or it shows no card.
    """
    library = _load()
    _check(library.cuInit(0))
    version, count = ctypes.c_int(), ctypes.c_int()
    _check(library.cuDriverGetVersion(ctypes.byref(version)))
    _check(library.cuDeviceGetCount(ctypes.byref(count)))
    if count.value == 0:
        raise DeviceError(f"no NVIDIA card can be used: {_WRONG[100]}")
    cards = tuple(_card(library, index) for index in range(count.value))
    return Driver(_release(), (version.value // 1000, version.value % 1000 // 10), cards)


def index_of(device: str) -> int:
    """The card's number in ``cuda`` or ``cuda:N``.

    Raises:
        DeviceError: neither.
    """
    if device == "cuda":
        return 0
    if found := re.fullmatch(r"cuda:(\d{1,3})", device):
        return int(found[1])
    raise DeviceError(f"device '{device}' is none; give cpu, cuda, cuda:N (as in cuda:1) or auto")


def without_advice(error: DeviceError) -> str:
    """What is wrong, without the advice to use the CPU: where that is what happens, or where it is no help."""
    return re.sub(r"(, or|;) use --device cpu", "", str(error))


def _load() -> Any:
    """The driver's library."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        if not os.path.exists("/proc/driver/nvidia/version"):
            raise DeviceError(
                f"no NVIDIA driver on this machine ({_LIBRARY} is not found); install driver {NEEDED_DRIVER} or newer, {_CPU}"
            ) from error
        raise DeviceError(
            f"the NVIDIA driver is loaded but its library {_LIBRARY} is not found here; in a container, start it with "
            f"--gpus all and the NVIDIA container toolkit, {_CPU}"
        ) from error


def _check(code: int) -> None:
    if code:
        reason = _WRONG.get(code, "see its number in cuda.h")
        raise DeviceError(f"no NVIDIA card can be used: {reason} (CUDA error {code})")


def _card(library: Any, index: int) -> Card:
    device = ctypes.c_int()
    _check(library.cuDeviceGet(ctypes.byref(device), index))
    name = ctypes.create_string_buffer(256)
    _check(library.cuDeviceGetName(name, len(name), device))
    memory = ctypes.c_size_t()
    _check(library.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    values = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
        value = ctypes.c_int()
        _check(library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
        values.append(value.value)
    return Card(index, name.value.decode("utf-8", "replace"), (values[0], values[1]), memory.value, values[2])


def _release() -> str:
    """The driver's own version, which CUDA does not tell."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", file.read())
    except OSError:
        return ""
    return found[1] if found else ""


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
