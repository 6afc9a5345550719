"""How far a run over photos is: what the verbs tell whoever called them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    faces: int
    failures: int


Notify = Callable[[str], None]
"""Takes a line for the user."""
OnProgress = Callable[[Progress], None]
