"""What a run of `data fakes` is asked for, and what it reports."""

from __future__ import annotations

import dataclasses
from typing import Any

from faceembed.errors import UsageError

METHODS = ("selfblend", "swap", "morph", "transplant", "reenact")
"""The names of our own methods; `make.METHODS` has them at work."""


@dataclasses.dataclass(frozen=True)
class FakeSettings:
    """What to make."""

    methods: tuple[str, ...] = METHODS
    per_photo: int = 1
    """Fakes of each photo by each method."""
    count: int | None = None
    """Instead: fakes in all, shared evenly by the methods and spread over the photos at random."""
    seed: int = 0
    max_side: int = 1024
    """Larger photos are made smaller, to this longer side in pixels."""
    workers: int = 0
    """Fakes made side by side; 0 for all cores. It does not change them."""
    runtime: str = "auto"
    """What finds the faces."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise UsageError("no method was given")
        if len(set(self.methods)) < len(self.methods):
            raise UsageError(f"a method was given twice: {', '.join(self.methods)}")
        if self.per_photo < 1 or (self.count is not None and self.count < 1):
            raise UsageError("at least one fake must be asked for")
        if self.max_side < 64:
            raise UsageError(f"--max-side {self.max_side} is too small; give 64 pixels or more")
        if self.seed < 0 or self.workers < 0:
            raise UsageError("--seed and --workers must be 0 or more")


@dataclasses.dataclass(frozen=True)
class FakesReport:
    """What a run did and what the folder holds now; the fields of ``data fakes --json``."""

    photos: int
    """Photos whose faces were looked at."""
    faces: int
    """Photos with a face that fakes can be made of."""
    fakes: int
    """Fakes in the folder."""
    made: int
    """Fakes made by this run."""
    skipped: int
    """Fakes of this plan that an earlier run had made."""
    failed: int
    """Rows of ``errors.csv``: photos, or a photo and a method, without a fake."""
    methods: dict[str, int]
    """Fakes in the folder by method."""
    seconds: float
    fakes_per_second: float
    """Of those made by this run, without the time to find the faces."""
    output: str

    def to_json_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return dataclasses.asdict(self)
