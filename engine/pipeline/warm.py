"""The models of the last run, kept warm: the verbs of one process that ask for the same ones share them, so they are loaded once.

    with holding():                                   # one at a time finds out what is there
        encoder, detector = warm(key, open_them)

This is the one thing that the package keeps for itself between calls, and it is bounded: one pair of models of the CPU for a process, some
200 MiB, let go when other models are asked for, when a large index is written, by `let_go()`, or at the end. Everything else is an object in its user's hands. Models of a
card are not kept: its memory belongs to whoever works.

A process that was forked has none of its parent's: their threads do not live in it. They stay referred to, as their destructors would wait
for those threads.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable

from faceembed.engine.detect.interface import Detector
from faceembed.engine.pipeline.encode import Encoder

Pair = tuple[Encoder, Detector | None]


class Shelf:
    """Room for one pair of models."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._key: object = None
        self._pair: Pair | None = None

    def take(self, key: object, open_them: Callable[[], Pair]) -> Pair:
        """The pair of this key, opened if another or none is there, or one that drawn faces let pass for one run alone."""
        with self.lock:
            if self._pair is None or self._key != key or (self._pair[0].admitted and not self._pair[0].lasting):
                self._key, self._pair = None, None  # first: two pairs need not lie in memory side by side
                self._pair = open_them()
                self._key = key
            return self._pair

    def clear(self) -> None:
        """Keep nothing."""
        with self.lock:
            self._key, self._pair = None, None


_SHELVES: dict[int, Shelf] = {}
"""By the number of the process."""


def _shelf() -> Shelf:
    return _SHELVES.setdefault(os.getpid(), Shelf())  # atomic: two threads get one


def holding() -> contextlib.AbstractContextManager[bool]:
    """Held while models are opened and pass their gates, so that threads that ask at once wait for one opening."""
    return _shelf().lock


def warm(key: object, open_them: Callable[[], Pair]) -> Pair:
    """An encoder and a detector.

    Args:
        key: all that they are made of; equal keys share them.
        open_them: makes them where they are not there. What it raises leaves nothing behind.
    """
    return _shelf().take(key, open_them)


def let_go() -> None:
    """Give the memory back; whoever still uses the models keeps them as long as that."""
    _shelf().clear()


atexit.register(let_go)  # before the interpreter takes its modules apart
