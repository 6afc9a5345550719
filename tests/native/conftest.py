"""Where the kernels run in tests: every thread of every block on the CPU, always; and on a card, where there is one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.pipeline.gpu.compiler import SOURCE
from faceembed.engine.pipeline.gpu.lane import BLOCK, Argument, CudaLane
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.errors import DeviceError

HERE = Path(__file__).parent
GUARD = 64  # bytes before and after each array that must stay as they are
PATTERN = 0xA5


class EmulatedLane:
    """A `Lane` in the host's memory; the kernels are those of kernels.cu, compiled as C++ (see emulator.h)."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._guarded: list[tuple[NDArray[np.uint8], int]] = []
        self.order = 0
        """Of a block's threads between two barriers: 0 forwards, 1 backwards, 2 every seventh."""
        self.first, self.limit = 0, 1 << 31
        """Which of the blocks run: at most ``limit`` from ``first``."""
        self.launched: list[tuple[str, int]] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 2 * GUARD, PATTERN, np.uint8)
        self._guarded.append((memory, size))
        return DeviceArray(memory.ctypes.data + GUARD, shape, np.dtype(dtype), memory)

    def put(self, array: NDArray[Any]) -> DeviceArray:
        source = np.ascontiguousarray(array)
        target = self.empty(source.shape, source.dtype)
        ctypes.memmove(target.pointer, source.ctypes.data, source.nbytes)
        return target

    def get(self, array: DeviceArray) -> NDArray[Any]:
        target = np.empty(array.shape, array.dtype)
        ctypes.memmove(target.ctypes.data, array.pointer, target.nbytes)
        return target

    def fill(self, array: DeviceArray, byte: int) -> None:
        ctypes.memset(array.pointer, byte, array.nbytes)

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        ctypes.memmove(target.pointer, source.pointer, source.nbytes)

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        self.launched.append((kernel, blocks))
        values = [np.uint64(a.pointer) if isinstance(a, DeviceArray) else a for a in arguments]
        cells = [np.array([value]) for value in values]
        self.launch_at(kernel, blocks, [cell.ctypes.data for cell in cells])

    def launch_at(self, kernel: str, blocks: int, addresses: Sequence[int]) -> None:
        """As CUDA's driver takes it: the arguments' addresses."""
        pointers = (ctypes.c_void_p * len(addresses))(*addresses)
        count = max(0, min(self.limit, blocks - self.first))
        problem = self._library.emulate(kernel.encode(), pointers, blocks, BLOCK, self.first, count, self.order)
        assert problem is None, problem.decode()
        for memory, size in self._guarded:
            intact = (memory[:GUARD] == PATTERN).all() and (memory[GUARD + size :] == PATTERN).all()
            assert intact, f"{kernel} wrote outside an array of {size} bytes"


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """kernels.cu as a shared library for the CPU."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the emulator finds shared memory by ELF sections, as Linux has them")
    compiler = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C++ compiler: neither c++ nor g++ nor clang++ is on the path")
    library = tmp_path_factory.mktemp("emulator") / "emulate.so"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-fPIC", "-shared"]
    folders = ["-I", str(SOURCE.parent), "-I", str(HERE)]
    command = [compiler, *flags, *folders, str(HERE / "emulate.cpp"), "-o", str(library)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    number = ctypes.c_uint
    loaded.emulate.argtypes = [ctypes.c_char_p, ctypes.c_void_p, number, number, number, number, ctypes.c_int]
    loaded.emulate.restype = ctypes.c_char_p
    return loaded


@pytest.fixture
def emulated(emulator: ctypes.CDLL) -> EmulatedLane:
    return EmulatedLane(emulator)


@pytest.fixture(params=["emulated", "card"])
def lane(request: pytest.FixtureRequest) -> EmulatedLane | CudaLane:
    """Both devices: a test that takes this is also the parity test of card and CPU."""
    if request.param == "emulated":
        return EmulatedLane(request.getfixturevalue("emulator"))
    try:
        return CudaLane()
    except DeviceError as error:
        pytest.skip(f"no card: {error}")
