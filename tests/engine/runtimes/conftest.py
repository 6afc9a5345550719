"""A driver that says what a test wants, and a card whose memory is the host's: what is tested here needs no card."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from faceembed.engine.runtimes import cards
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.engine.runtimes.cuda_memory import Arena


@dataclasses.dataclass
class FakeLibrary:
    """`libcuda` as `cards` calls it."""

    cards: Sequence[tuple[str, tuple[int, int]]] = (("NVIDIA GeForce RTX 4090", (8, 9)),)
    version: int = 13000
    start: int = 0
    fails: str = ""

    def cuInit(self, flags: int) -> int:
        return self.start

    def cuDriverGetVersion(self, value: Any) -> int:
        value._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, value: Any) -> int:
        value._obj.value = len(self.cards)
        return 0

    def cuDeviceGet(self, value: Any, index: int) -> int:
        value._obj.value = index + 7
        return 999 if self.fails == "get" else 0

    def cuDeviceGetName(self, buffer: Any, size: int, device: Any) -> int:
        buffer.value = self.cards[device.value - 7][0].encode()
        return 0

    def cuDeviceTotalMem_v2(self, value: Any, device: Any) -> int:
        value._obj.value = 24 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = {16: 128, 75: self.cards[device.value - 7][1][0], 76: self.cards[device.value - 7][1][1]}[
            attribute
        ]
        return 0


Fit = Callable[..., FakeLibrary]


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Fit cards into the machine: ``fit(cards=[("NVIDIA H100", (9, 0))], version=12040)``."""

    def fitted(**values: Any) -> FakeLibrary:
        library = FakeLibrary(**values)
        monkeypatch.setattr(cards, "_load", lambda: library)
        monkeypatch.setattr(cards, "_release", lambda: "580.65.06")
        return library

    return fitted


class FakeStream:
    """Runs everything at once, and counts."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.waited_for: list[Any] = []
        self.syncs = 0

    def sync(self) -> None:
        self.syncs += 1

    def wait(self, other: Any) -> None:
        self.waited_for.append(other)


class FakeMemory:
    """Memory of the host, aligned as a card's is."""

    def __init__(self, nbytes: int) -> None:
        self._bytes = np.zeros(nbytes + 256, np.uint8)
        self.handle = -(-self._bytes.ctypes.data // 256) * 256


class FakeCuda:
    """A card in the host's memory."""

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.names: dict[str, FakeStream] = {}
        self.arenas: dict[int, Arena] = {}
        self.allocated = 0
        self.captures = 0
        self.replays = 0

    def enter(self) -> None:
        pass

    def stream(self) -> FakeStream:
        self.streams.append(FakeStream(1000 + len(self.streams)))
        return self.streams[-1]

    def named(self, name: str) -> FakeStream:
        if name not in self.names:
            self.names[name] = self.stream()
        return self.names[name]

    def arena(self, stream: Any) -> Arena:
        if stream.handle not in self.arenas:
            self.arenas[stream.handle] = Arena(lambda nbytes: self.allocate(nbytes, stream), stream.sync)
        return self.arenas[stream.handle]

    def trim(self) -> None:
        pass

    def allocate(self, nbytes: int, stream: Any) -> FakeMemory:
        self.allocated += 1
        return FakeMemory(nbytes)

    def pinned(self, nbytes: int) -> np.ndarray:
        return np.zeros(max(nbytes, 1), np.uint8)

    def copy(self, to: int, source: int, nbytes: int, stream: Any) -> None:
        ctypes.memmove(to, source, nbytes)

    def capture(self, stream: Any, work: Callable[[], None]) -> Callable[[Any], None]:
        self.captures += 1

        def replay(target: Any) -> None:
            self.replays += 1
            work()

        return replay


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


def to_card(array: np.ndarray) -> DeviceArray:
    """An array as if it were on a card."""
    return DeviceArray(array.ctypes.data, array.shape, array.dtype, array)


def from_card(array: DeviceArray) -> np.ndarray:
    """And back, as a copy."""
    view = (ctypes.c_uint8 * array.nbytes).from_address(array.pointer)
    return np.frombuffer(bytes(view), array.dtype).reshape(array.shape)


@pytest.fixture(name="to_card")
def to_card_fixture() -> Callable[[np.ndarray], DeviceArray]:
    return to_card


@pytest.fixture(name="from_card")
def from_card_fixture() -> Callable[[DeviceArray], np.ndarray]:
    return from_card
