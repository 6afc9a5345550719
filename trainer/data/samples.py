"""One photo, or crop, of a person: what every layout of people is read into."""

from __future__ import annotations

import dataclasses

CROPS_FILE = "crops.parquet"
"""In a folder of crops: a row for each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One photo, or crop, and whom it shows."""

    path: str
    person: str
    """Identity; for a fake the person it pretends to show (the source of a swap)."""
    fake: bool = False
    method: str = ""
    """How the fake was made; empty for a real photo."""
    other: str = ""
    """The second person in a fake, in whose photo the face was put; empty if there is none."""
