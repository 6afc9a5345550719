"""Ctrl-C: the first ends the command in good order, a second changes nothing, a third ends it at once. All exit with 130."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 130
_ENOUGH = 3  # times that somebody presses who does not want to wait


@contextlib.contextmanager
def one_interrupt() -> Iterator[None]:
    """Of several Ctrl-C raise `KeyboardInterrupt` for the first alone, while the block runs and until the process has ended.

    What a command cleans up, and Python's own end, wait for threads to finish what they are at: another interrupt there would print a
    traceback, or leave a temporary file. Handlers that somebody else installed stay.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            raise KeyboardInterrupt
        if pressed >= _ENOUGH:
            os._exit(EXIT_CODE)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if not pressed:
            signal.signal(signal.SIGINT, before)
