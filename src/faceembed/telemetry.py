"""Nothing is sent about anybody: what libraries beneath us report about their users is switched off before they are imported.

    switch_off()                              # once, when the package is imported: every way in passes it
    with without_openvino_telemetry():        # around the one place that imports OpenVINO
        import openvino

Two libraries do it, and both hold back where ``CI=true``, so that no CI sees it:

- OpenVINO (2024.1 and later) sends an event through the package openvino-telemetry when it is imported, with a client id that it
  keeps in ``~/intel``. Where that package cannot be imported, it takes a stub of its own.
- ONNX Runtime (1.29 and later, Linux and macOS) sends events about the process, its path, the machine and each session, with a
  device id and a queue that it keeps in ``~/.cache/Microsoft``. ``ORT_DISABLE_TELEMETRY=1`` keeps it from starting any of it; it is
  looked at once, when the library is loaded (https://github.com/microsoft/onnxruntime/pull/27379).

What a program does with either library before it imports faceembed, or by importing openvino itself, is its own: openvino_telemetry
can be imported and used as before. Somebody who wants ONNX Runtime's says ``ORT_DISABLE_TELEMETRY=0``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping

_SWITCHES: Mapping[str, str] = {"ORT_DISABLE_TELEMETRY": "1"}
_OPENVINO = "openvino_telemetry"
_ONE_AT_A_TIME = threading.Lock()  # models are opened side by side


def switch_off() -> None:
    """Switch off what an environment variable switches off, for this process and those it starts; what is set already stays."""
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def without_openvino_telemetry() -> Iterator[None]:
    """While the block runs, openvino_telemetry cannot be imported; afterwards it is as it was."""
    with _ONE_AT_A_TIME:
        # A copy: other threads import other things meanwhile.
        kept = {name: module for name, module in sys.modules.copy().items() if name.partition(".")[0] == _OPENVINO}
        for name in kept:
            del sys.modules[name]
        sys.modules[_OPENVINO] = None  # type: ignore[assignment]  # how Python says "not to be found"
        try:
            yield
        finally:
            del sys.modules[_OPENVINO]
            sys.modules.update(kept)
