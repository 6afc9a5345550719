"""From the CUDA sources in `engine/native` to machine code for one kind of card, by NVRTC, kept on disk for the next time.

No card and no driver is needed to compile; only NVRTC is, a library that comes from PyPI. What a kernel does and how it is
launched is none of its business.

Example::

    machine_code = load_or_compile("sm_89")
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import re
from pathlib import Path
from typing import Any

from faceembed.engine.models.store import home
from faceembed.errors import DeviceError
from faceembed.files import atomic_write
from faceembed.install import pip_install

SOURCE = Path(__file__).parents[2] / "native" / "kernels.cu"
# No contraction to fused multiply-add: the CPU module computes the same numbers. engine/native/host_device.h has the exception.
OPTIONS: dict[str, Any] = {"std": "c++17", "fma": False, "ptxas_options": ["-v"]}
_DIGEST_BYTES = 32
_INCLUDE = re.compile(r'^\s*#include "([^"]+)"', re.MULTILINE)
_COMPILING = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclasses.dataclass(frozen=True)
class KernelUse:
    """What one kernel takes of a multiprocessor, as ptxas says."""

    name: str
    registers: int
    """Of each thread."""
    stack_bytes: int
    """Local memory of each thread that the source asks for."""
    spill_bytes: int
    """Local memory traffic of each thread for want of registers: stores and loads."""
    shared_bytes: int
    """Of each block."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Machine code for one architecture."""

    arch: str
    cubin: bytes
    use: tuple[KernelUse, ...]


def sources() -> dict[str, str]:
    """The text of `SOURCE` and of every header that it includes, by name."""
    found: dict[str, str] = {}
    wanted = [SOURCE.name]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = (SOURCE.parent / name).read_text(encoding="utf-8")
            wanted.extend(_INCLUDE.findall(found[name]))
    return dict(sorted(found.items()))


def supported_architectures() -> tuple[str, ...]:
    """What this NVRTC compiles for, as ``sm_89``.

    Raises:
        DeviceError: there is no NVRTC.
    """
    return tuple(f"sm_{number}" for number in _ask_nvrtc("nvrtcGetSupportedArchs")[0])


def nvrtc_version() -> str:
    """As ``13.0``.

    Raises:
        DeviceError: there is no NVRTC.
    """
    return ".".join(str(part) for part in _ask_nvrtc("nvrtcVersion"))


def compile_kernels(arch: str) -> Compiled:
    """Compile all kernels for one architecture, with no regard to what is on disk.

    Args:
        arch: ``sm_89``, for compute capability 8.9.

    Raises:
        DeviceError: NVRTC is missing or does not know the architecture.
    """
    if arch not in (known := supported_architectures()):
        raise DeviceError(
            f"NVRTC {nvrtc_version()} compiles for {known[0]} to {known[-1]}, not for {arch}; for a newer card run: "
            "pip install -U nvidia-cuda-nvrtc; an older one cannot serve"
        )
    from cuda.core import Program, ProgramOptions

    log = io.StringIO()
    options = ProgramOptions(name=SOURCE.name, arch=arch, include_path=str(SOURCE.parent), **OPTIONS)
    try:
        program = Program(SOURCE.read_text(encoding="utf-8"), "c++", options)
        cubin = bytes(program.compile("cubin", logs=log).code)
    except Exception as error:  # cuda-core's own class for a failed compilation is private
        wrong = next((line for line in str(error).splitlines() if "error" in line), str(error).strip() or repr(error))
        raise DeviceError(f"NVRTC {nvrtc_version()} could not compile {SOURCE.name} for {arch}: {wrong}") from error
    return Compiled(arch, cubin, parse_use(log.getvalue()))


def load_or_compile(arch: str) -> bytes:
    """Machine code for one architecture, from the disk where it is there: ``<home>/kernels/<arch>-<key>.cubin``.

    The key is a digest of the sources, the architecture, NVRTC's version and the options. A damaged file is made anew. A
    folder that cannot be written only costs the compilation, a few seconds, every time.

    Raises:
        DeviceError: as `compile_kernels`.
    """
    path = home() / "kernels" / f"{arch}-{cache_key(arch)[:32]}.cubin"
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() == data[-_DIGEST_BYTES:]:
            return data[:-_DIGEST_BYTES]
    cubin = compile_kernels(arch).cubin
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(cubin + hashlib.sha256(cubin).digest())
    return cubin


def cache_key(arch: str) -> str:
    """The digest of everything that the machine code depends on, in hexadecimal."""
    parts = [
        *(item for pair in sources().items() for item in pair),
        arch,
        nvrtc_version(),
        repr(sorted(OPTIONS.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def parse_use(log: str) -> tuple[KernelUse, ...]:
    """Read what ``ptxas -v`` wrote, from NVRTC or nvcc."""
    use = []
    for part in re.split(r"(?=Compiling entry function)", log):
        name, stack, registers = _COMPILING.search(part), _STACK.search(part), _REGISTERS.search(part)
        if name and stack and registers:
            shared = _SHARED.search(part)
            frame, stores, loads = (int(number) for number in stack.groups())
            used = int(registers[1]), frame, stores + loads, int(shared[1]) if shared else 0
            use.append(KernelUse(name[1], *used))
    return tuple(sorted(use, key=lambda kernel: kernel.name))


@functools.lru_cache
def _ask_nvrtc(function: str) -> tuple[Any, ...]:
    """Call a function of NVRTC that takes nothing."""
    try:
        from cuda import core
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise DeviceError(
            f"the CUDA kernels need the package cuda-core ({error}); run: {pip_install('gpu')}"
        ) from error
    del core  # imported so that its absence shows here
    try:
        status, *answer = getattr(nvrtc, function)()
    except RuntimeError as error:  # the library is not found when it is first called
        reason = (str(error).splitlines() or ["not found"])[0]
        raise DeviceError(
            f"the CUDA kernels need NVRTC, which cannot be loaded ({reason}); run: {pip_install('gpu')}"
        ) from error
    if int(status) != 0:
        raise DeviceError(f"NVRTC's {function} failed with {status!r}; run: {pip_install('gpu')}")
    return tuple(answer)
