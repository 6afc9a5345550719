"""The pipeline on a device: what `engine.pipeline.batches.Pipeline` promises, with pixels that never come back to the host.

    read ─► decode ─► detect ─► align ─► encode ─► copy back        every stage with a batch of its own at the same time

`budget` bounds what is in flight. When the device is out of memory the batch is halved and done again with nothing else in
flight, and later batches are no larger.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from faceembed.engine.detect.interface import Detector
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.pipeline.batch import Cut, Item, Read
from faceembed.engine.pipeline.batches import FaceBatch, Look, Outcome, Pipeline
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu.budget import Budget, needed
from faceembed.engine.pipeline.gpu.flow import flow
from faceembed.engine.pipeline.gpu.interface import Backend
from faceembed.engine.pipeline.gpu.stages import Batch, Stages
from faceembed.engine.pipeline.intake import READERS, Boundary, Intake
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.shortage import is_out_of_memory
from faceembed.engine.pipeline.side_by_side import without_memory
from faceembed.engine.runtimes.networks import LARGEST_SIDE
from faceembed.errors import DeviceError

_LARGE_BYTES = 64 << 20  # of decoded pixels: photos of 22 megapixels and more
SLOTS = 8  # batches in flight: one in each of five stages, and some between them
Groups = Iterable[tuple[int, Sequence[PhotoFile]]]


class DevicePipeline(Pipeline):
    """The models of one run on one device.

    Args:
        settings: what to look for and how to batch.
        detector: works on ``backend``; None for ``--aligner none``.
        encoder: its session runs on ``backend``'s device; it must have passed its parity gate before `run`.
        backend: the device.
        memory: bytes that batches in flight may take on it.
    """

    def __init__(
        self, settings: EmbedSettings, detector: Detector | None, encoder: Encoder, backend: Backend, *, memory: int
    ) -> None:
        super().__init__(settings, detector, encoder, workers=1)
        self.backend = backend
        self.memory = memory
        self.halvings = 0
        """How often the device was out of memory."""
        self.peak_bytes = 0
        self._turn = threading.Lock()
        self._stages = Stages(backend, self.cutter, encoder)
        self.intake = Intake(
            settings, reducing=False, on_card=True
        )  # decoders of cards have no reductions, and the warp takes every pixel

    @property
    def batches_at_once(self) -> int:
        """Of each stage."""
        return self.workers

    @property
    def decoded_by(self) -> dict[str, int]:
        """Photos decoded by the device and, by reason, by the host."""
        return dict(self._stages.decoded_by)

    def remarks(self) -> list[str]:
        """Photos that the device did not decode itself or did not search whole, and how often it was out of memory."""
        return remarks(self.decoded_by, self.halvings, self.capped) + self.cutter.remarks()

    @property
    def capped(self) -> int:
        """Photos that were searched smaller than the smallest face wanted needs."""
        return self.detector.capped if self.detector else 0

    def run(self, photos: Sequence[PhotoFile], *, boundary: Boundary = 0) -> Generator[Outcome, None, None]:
        """Embed photos, as `Pipeline.run` says."""
        groups = enumerate(self.intake.groups(photos, boundary=boundary))
        with contextlib.closing(self.run_groups(groups)) as outcomes:
            for _, outcome in outcomes:
                yield outcome

    def run_groups(self, groups: Groups) -> Generator[tuple[int, Outcome], None, None]:
        """Embed runs of photos, each with a number; a run may come out in several parts.

        Args:
            groups: taken one after another, only when there is room for more.

        Yields:
            Number and outcome, in the order of the groups. To be closed like `run`.
        """
        budget = Budget(self.memory, slots=SLOTS, batch=self.intake.batch)
        stages = self._stages.all()
        source = self._read_all(groups, budget)
        batches = flow(source, list(stages.values()), self.backend.lane, close=budget.close, names=list(stages))
        try:
            for batch in batches:
                for done in self._settle(batch, budget, stages):
                    yield done.tag, _outcome(done)
                budget.taken()
        finally:
            batches.close()
            self.peak_bytes = max(self.peak_bytes, budget.peak)

    def look(self, read: Read) -> list[Look]:
        """Embed photos that are in memory, as `Pipeline.look` says; batches of several threads take turns, and no `run` may be under way."""
        budget = Budget(self.memory, slots=SLOTS, batch=self.intake.batch)
        looks: list[Look] = []
        with self._turn:
            stages = self._stages.all()
            while read:
                count = _fitting(read, budget)
                part, read = read[:count], read[count:]
                batch = Batch(0, part, keep=True)
                try:
                    self._all_stages(batch, stages)
                    done = [batch]
                except Exception as error:
                    batch.drop()
                    if not is_out_of_memory(error):
                        raise
                    done = list(self._halved(batch, error, stages))
                looks += map(_look, done)
        return looks

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        """Each stage as a function of one batch (for `bench`), to be called inside the backend's lane."""

        def wrap(stage: Callable[[Batch], None]) -> Callable[[Batch], Batch]:
            def run(batch: Batch) -> Batch:
                stage(batch)
                return batch

            return run

        def read(group: Sequence[PhotoFile]) -> Batch:
            return Batch(0, self.intake.read_run(group))

        return {"read": read, **{name: wrap(stage) for name, stage in self._stages.all().items()}}

    def _read_all(self, groups: Groups, budget: Budget) -> Iterator[Batch]:
        """Read files ahead, and hand on as much at a time as the budget allows."""
        with concurrent.futures.ThreadPoolExecutor(READERS, "faceembed-read") as readers:
            for tag, group in groups:
                started = time.perf_counter()
                entries = self.intake.read_run(group, readers)
                spent = (time.perf_counter() - started) / max(len(entries), 1)
                while entries:
                    count = _fitting(entries, budget)
                    batch = Batch(tag, entries[:count], seconds={"read": spent * count})
                    if not budget.acquire(batch.needed):
                        return
                    if count > budget.batch:  # it became smaller while this one waited
                        budget.free(batch.needed)
                        budget.taken()
                        continue
                    batch.budget = budget
                    entries = entries[count:]
                    yield batch

    def _settle(self, batch: Batch, budget: Budget, stages: Mapping[str, Callable[[Batch], None]]) -> Iterator[Batch]:
        """A finished batch; or, if the device was out of memory, its parts, finished one after another."""
        if batch.error is None:
            yield batch
            return
        if not is_out_of_memory(batch.error):
            raise batch.error
        budget.alone()
        try:
            parts = list(self._halved(batch, batch.error, stages))
        finally:
            budget.resume(batch=max(1, len(batch.read) // 2))
        yield from parts

    def _halved(
        self, whole: Batch, error: BaseException, stages: Mapping[str, Callable[[Batch], None]]
    ) -> Iterator[Batch]:
        self.halvings += 1
        self.backend.release()
        tag, read, keep = whole.tag, whole.read, whole.keep
        middle = len(read) // 2
        for part in (read[:middle], read[middle:]) if middle else (read,):
            batch = Batch(tag, part, keep=keep)
            try:
                self._all_stages(batch, stages)
            except Exception as again:
                batch.drop()
                if not is_out_of_memory(again):
                    raise
                if len(part) > 1:
                    yield from self._halved(batch, again, stages)
                    continue
                if not _is_large(part[0]):
                    raise DeviceError(self._too_large(part)) from again
                batch = Batch(tag, [without_memory(part[0])], keep=keep)
                self._all_stages(batch, stages)
            yield batch

    def _all_stages(self, batch: Batch, stages: Mapping[str, Callable[[Batch], None]]) -> None:
        """One batch through all, each stage in its own lane: another would have to be prepared, which takes memory."""
        for name, stage in stages.items():
            with self.backend.lane(name):
                stage(batch)

    def _too_large(self, read: Read) -> str:
        (entry,) = read
        size = f" ({entry.header.width}x{entry.header.height})" if isinstance(entry, Item) else ""
        return (
            f"{self.backend.device} is out of memory even for {printable(entry.photo.path)}{size} alone; end what else runs "
            "there, or leave out such photos with --max-pixels; what was finished is kept"
        )


def remarks(decoded_by: Mapping[str, int], halvings: int, capped: int) -> list[str]:
    """What `DevicePipeline.remarks` says."""
    lines = []
    if capped:
        lines.append(
            f"{capped:,} photos searched at {LARGEST_SIDE:,} pixels of their longer side, the most on a card: the smallest faces that "
            "--min-face asks for may be missing there; --device cpu searches such photos whole"
        )
    formats, refused = decoded_by.get("host: format", 0), decoded_by.get("host: refused", 0)
    if formats or refused:
        lines.append(
            f"{formats + refused:,} photos decoded by OpenCV, on the CPU: {formats:,} of formats that a card's decoder "
            f"does not read, {refused:,} that it refused; {decoded_by.get('device', 0):,} on the card"
        )
    if halvings:
        lines.append(
            f"out of memory {halvings} times, so batches were halved; a smaller --gpu-memory or --batch-size avoids it"
        )
    return lines


def _is_large(entry: Item | Failure) -> bool:
    """Whether a photo that does not fit is to blame for it, and not the card, on which no photo would."""
    return isinstance(entry, Item) and entry.decoded_bytes >= _LARGE_BYTES


def _fitting(entries: Read, budget: Budget) -> int:
    """How many of the first entries make a batch: within its count and an equal share of the bytes, one at least."""
    share = budget.limit // (SLOTS // 2)
    count = size = 0
    for entry in itertools.islice(entries, budget.batch):
        size += needed(entry)
        if count and size > share:
            break
        count += 1
    return count


def _look(batch: Batch) -> Look:
    assert batch.faces is not None and batch.norms is not None and batch.embeddings is not None
    assert batch.pictures is not None and batch.sizes is not None
    cut = Cut(batch.files, batch.faces, batch.pictures, batch.sizes, batch.failures, batch.seconds)
    return Look(cut, batch.embeddings, batch.norms)


def _outcome(batch: Batch) -> Outcome:
    assert batch.faces is not None and batch.norms is not None and batch.embeddings is not None
    faces = FaceBatch(**vars(batch.faces), norms=batch.norms, embeddings=batch.embeddings)
    return Outcome(batch.files, faces, batch.failures, batch.seconds)
