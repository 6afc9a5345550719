"""One card, at first from this process; from more where it is measured that one cannot feed it.

first seconds:  this process alone ─► is Python what bounds it?  no: it stays so
                                      yes: two processes start, this one goes on until they have loaded their models
then:           processes of their own, one more as long as the rate rises (`growth`)
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Generator, Iterator, Sequence

from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batches import Outcome
from faceembed.engine.pipeline.gpu.growth import BUSY
from faceembed.engine.pipeline.gpu.opening import Opening
from faceembed.engine.pipeline.gpu.pipeline import DevicePipeline
from faceembed.engine.pipeline.gpu.workers import Crew, Group, ManyPipelines
from faceembed.engine.pipeline.intake import Boundary
from faceembed.errors import FaceEmbedError

START_SECONDS = 15.0  # that a process takes to load its models, and some to be worth it


class GrowingPipeline(ManyPipelines):
    """Begins with a pipeline of this process.

    Args:
        first: that pipeline.
        opening: how each other process opens its own on the same card.
        most: processes, two at least.
    """

    def __init__(self, first: DevicePipeline, opening: Opening, *, most: int) -> None:
        super().__init__(first, [opening] * 2, spare=[[opening]] * (most - 2))
        self.growth.left += 1  # for the step from one to two
        self._first = first
        self._failed = ""

    def remarks(self) -> list[str]:
        """As `ManyPipelines.remarks`, with the first process's part."""
        return super().remarks() + ([self._failed] if self._failed else [])

    def run(self, photos: Sequence[PhotoFile], *, boundary: Boundary = 0) -> Generator[Outcome, None, None]:
        """Embed photos, as `Pipeline.run` says."""
        groups = _Numbered(self.intake.groups(photos, boundary=boundary))
        enough = threading.Event()
        crew: Crew | None = None
        left = len(photos)
        before = collections.Counter(self._first.decoded_by), self._first.halvings, self._first.capped
        try:
            with contextlib.closing(self._first.run_groups(groups.until(enough))) as outcomes:
                started = time.process_time(), time.perf_counter()
                self.growth.begin()
                for _, outcome in outcomes:
                    yield outcome
                    left -= len(outcome.photos)
                    if crew is None:
                        if self.growth.took(len(outcome.photos)) and self._worth_it(started, left):
                            crew = Crew(self._openings)
                    elif not enough.is_set() and self._at_work(crew):
                        enough.set()
            self._count_first(*before)
            if crew is not None and enough.is_set():
                self._first.backend.release()
                yield from self.work_off(iter(groups), crew, first=groups.next)
        finally:
            if crew is not None:
                crew.end()

    def _worth_it(self, started: tuple[float, float], left: int) -> bool:
        """Whether Python bounds the rate, and there is enough left to do."""
        busy = (time.process_time() - started[0]) / (time.perf_counter() - started[1])
        return busy >= BUSY and left >= START_SECONDS * self.growth.rates[-1]

    def _at_work(self, crew: Crew) -> bool:
        """Whether the others can take over. Where they cannot start, this process does all, and says so."""
        if self._failed:
            return False
        try:
            return crew.look()
        except FaceEmbedError as error:
            self._failed = f"more processes on {self._openings[0].device} did not start, one did all: {error}"
            return False

    def _count_first(self, decoded_by: collections.Counter[str], halvings: int, capped: int) -> None:
        """Add what the first did since it had counted so many."""
        self.decoded_by.update(collections.Counter(self._first.decoded_by) - decoded_by)
        self.halvings += self._first.halvings - halvings
        self.capped += self._first.capped - capped
        self.cutter.damaged.update(self._first.cutter.damaged)


class _Numbered:
    """Runs of photos with their numbers, taken by one and then by another."""

    def __init__(self, groups: Iterator[Sequence[PhotoFile]]) -> None:
        self._groups = groups
        self.next = 0

    def __iter__(self) -> Iterator[Group]:
        for group in self._groups:
            self.next += 1
            yield self.next - 1, group

    def until(self, enough: threading.Event) -> Iterator[Group]:
        """As many as are asked for until then."""
        for group in self:
            yield group
            if enough.is_set():
                return
