"""Which shapes of input come so often that a network is worth compiling for them alone, and when it is done: beside the run, not in its way.

OpenVINO plans a network of a fixed shape once; with a free one it keeps changes of layout that it could leave out, and looks at every run
where its memory lies. The first look of `faceembed-align` takes 115 us a photo in place of 210 (`packing`), with the same bits. But
compiling takes 90 ms, and 20 what was kept of it, so that a shape must have come some times before.
"""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

RECALL_AFTER = 8
"""Runs of a shape after which what was compiled for it earlier is looked for: what is gained by as many more pays for it."""
COMPILE_AFTER = 64
"""Runs of a shape after which it is compiled."""
MOST = 8
"""Shapes of one network, at most: each keeps memory of its own."""
LARGEST_BYTES = 4 << 20
"""Of a compiled network: larger ones (encoders) gain a twentieth and would take their weights' memory again."""
P = TypeVar("P")


class Steady(Generic[P]):
    """Counts the shapes that come.

    Args:
        recall: gives what was compiled earlier for a shape, or None. Called in another thread, as the next one.
        compile_for: compiles it, or gives None where that cannot be done.
    """

    def __init__(
        self, recall: Callable[[tuple[int, ...]], P | None], compile_for: Callable[[tuple[int, ...]], P | None]
    ) -> None:
        self._ways: dict[int, Callable[[tuple[int, ...]], P | None]] = {
            RECALL_AFTER: recall,
            COMPILE_AFTER: compile_for,
        }
        self._counts: collections.Counter[Hashable] = collections.Counter()
        self._found: dict[tuple[int, ...], P] = {}
        self._taken: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._beside: concurrent.futures.ThreadPoolExecutor | None = None

    def get(self, shape: tuple[int, ...]) -> P | None:
        """What is compiled for a shape alone, if it is there by now. Counts as a run of it."""
        if found := self._found.get(shape):
            return found
        with self._lock:
            self._counts[shape] += 1
            way = self._ways.get(self._counts[shape])
            if way is None or shape in self._found or (shape not in self._taken and len(self._taken) >= MOST):
                return None
            self._taken.add(shape)
            if self._beside is None:
                self._beside = concurrent.futures.ThreadPoolExecutor(1, "faceembed-shapes")
            self._beside.submit(self._make, way, shape)
        return None

    def settled(self) -> None:
        """Wait for what is under way (for tests and benchmarks)."""
        with self._lock:
            waiting = self._beside.submit(lambda: None) if self._beside else None
        if waiting:
            waiting.result()

    def _make(self, way: Callable[[tuple[int, ...]], P | None], shape: tuple[int, ...]) -> None:
        if (made := way(shape)) is not None:
            self._found[shape] = made
