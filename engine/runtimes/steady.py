"""Which shapes of input come so often that a network is worth compiling for them alone, and when it is done: beside the run, not in its way.

OpenVINO plans a network of a fixed shape once; with a free one it keeps changes of layout that it could leave out, and looks at every run
where its memory lies. The first look of `faceembed-align` takes 115 us a photo in place of 210 (`packing`), with the same bits: 4 ns for each
pixel that it sees. But compiling takes 90 ms, and 20 taking in what was kept of it, so that a shape must have come often before.
"""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

RECALL_PIXELS = 6 << 20
"""Of a shape that came, after which what was compiled for it earlier is looked for: by then it would have paid."""
COMPILE_PIXELS = 24 << 20
"""Of a shape that came, after which it is compiled: 1,000 canvases of 160x160. What it would have saved by then is what it costs, so
that a run pays at most twice for what it would have had to know beforehand."""
MOST = 8
"""Shapes of one network, at most: each keeps memory of its own."""
LARGEST_BYTES = 4 << 20
"""Of a compiled network: larger ones (encoders) gain a twentieth and would take their weights' memory again."""
P = TypeVar("P")
Way = Callable[[tuple[int, ...]], P | None]


class Steady(Generic[P]):
    """Counts the pixels of each shape that come. Holds nothing of those who ask: a session ends when its last owner lets it go."""

    def __init__(self) -> None:
        self._seen: collections.Counter[tuple[int, ...]] = collections.Counter()
        self._found: dict[tuple[int, ...], P] = {}
        self._taken: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._beside: list[threading.Thread] = []

    def get(self, shape: tuple[int, ...], recall: Way[P], compile_for: Way[P]) -> P | None:
        """What is compiled for a shape (N, H, W, 3) alone, if it is there by now. Counts as a run of it.

        Args:
            shape: of the input.
            recall: gives what was compiled earlier for a shape, or None. Called in another thread, as the next one.
            compile_for: compiles it, or gives None where that cannot be done.
        """
        if found := self._found.get(shape):
            return found
        with self._lock:
            before = self._seen[shape]
            after = self._seen[shape] = before + math.prod(shape[:3])
            ways = ((RECALL_PIXELS, recall), (COMPILE_PIXELS, compile_for))
            way = next((way for pixels, way in ways if before < pixels <= after), None)
            if way is None or (shape not in self._taken and len(self._taken) >= MOST):
                return None
            self._taken.add(shape)
            # A thread for each, which ends with its work: a session has no end of its own at which to stop a pool.
            beside = threading.Thread(target=self._make, args=(way, shape), name="faceembed-shape")
            self._beside = [*(thread for thread in self._beside if thread.is_alive()), beside]
            beside.start()
        return None

    def settled(self) -> None:
        """Wait for what is under way (for tests and benchmarks)."""
        with self._lock:
            waiting = list(self._beside)
        for thread in waiting:
            thread.join()

    def _make(self, way: Way[P], shape: tuple[int, ...]) -> None:
        with self._making:  # one at a time: they share the cores with the run
            if (made := way(shape)) is not None:
                self._found[shape] = made
