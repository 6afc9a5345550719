"""Who hears of what takes long while a model is loaded for a card: an engine that must be built first."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Watch:
    """Both are called from any thread."""

    notice: Callable[[str], None] = lambda line: None
    """Told lines for the user."""
    progress: Callable[[str, float], None] = lambda phase, share: None
    """Told the phase that TensorRT is in, and the share of the whole that is done."""


SILENT = Watch()


def spoken(notice: Callable[[str], None], *, every_s: float = 5.0) -> Watch:
    """Progress in lines, for those who have no bar to show it with: after ``every_s`` seconds, and so long apart."""
    last = time.monotonic()

    def progress(phase: str, share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            notice(f"engine {100 * share:.0f} % built ({phase})")

    return Watch(notice, progress)
