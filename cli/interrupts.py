"""Ctrl-C: the first ends the command in good order, a second changes nothing, a third ends it at once. All exit with 130."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 130
_ENOUGH = 3  # times that somebody presses who does not want to wait


class _Handler:
    """What SIGINT does while a command runs."""

    def __init__(self) -> None:
        self.pressed = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed += 1
        if self.pressed == 1:
            raise KeyboardInterrupt
        if self.pressed >= _ENOUGH:
            os._exit(EXIT_CODE)


@contextlib.contextmanager
def one_interrupt() -> Iterator[None]:
    """Of several Ctrl-C raise `KeyboardInterrupt` for the first alone, while the block runs and until the process has ended.

    What a command cleans up waits for threads to finish what they are at: another interrupt there would print a traceback, or leave a
    temporary file. Handlers that somebody else installed stay.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if not handler.pressed:
            signal.signal(signal.SIGINT, before)
        else:  # at its very end Python gives every signal back to the system, which would end the process by it, not with 130
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def was_pressed() -> bool:
    """Whether an interrupt has come that `one_interrupt` saw."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, _Handler) and handler.pressed > 0
