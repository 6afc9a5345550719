"""The stack on which a thread handles signals, kept as it was while a library is at work.

OpenVINO's plugin for CPUs (2026.4.1) gives the thread that loads it an alternate stack for signals, large enough for the registers of AMX.
When the plugin goes, that memory goes, but where there was no such stack before the thread keeps pointing to it. Python handles
Ctrl-C there: the next one is a segmentation fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux, sigaltstack(2)."""

    _fields_ = [("begin", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give this thread back, after the block, the alternate stack for signals that it had before, or none."""
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    before = _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
