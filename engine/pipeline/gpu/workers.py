"""Several processes, on one card or more, all taking from one pile of work, their results put back in order.

    photos ─► runs of photos ─► pile ─► worker on cuda:0 ─┐
                                     └► worker on cuda:1 ─┴─► in order again ─► shards, one index

Nothing is dealt out beforehand: a worker takes the next run when it has room for it, so a faster card does more and none waits
for another until the pile is empty. The pile is fed no further ahead than the workers can use, so memory stays bounded. A worker that
fails or dies ends the run with its error; what was finished is kept, and the same command goes on from there.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from faceembed import errors
from faceembed.engine.photos.photo_columns import PhotoColumns
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batches import Outcome, Pipeline
from faceembed.engine.pipeline.gpu.growth import Growth
from faceembed.engine.pipeline.gpu.opening import Opening
from faceembed.engine.pipeline.gpu.packing import packed, packed_read, unpacked
from faceembed.engine.pipeline.gpu.pipeline import SLOTS, DevicePipeline, remarks
from faceembed.engine.pipeline.intake import Boundary
from faceembed.errors import DeviceError, FaceEmbedError

_AHEAD = SLOTS + 2  # runs of photos handed out per worker and not yet taken by the caller
_PIPE_BYTES = 1 << 20  # most that a user may ask for by default
_END_SECONDS = 10.0  # for a worker to leave by itself
_READY = "ready"  # what a worker says when it has loaded its models

Group = tuple[int, Sequence[PhotoFile]]


@dataclasses.dataclass(frozen=True)
class _Failed:
    """What a worker sends when it cannot go on."""

    kind: str
    """A class of `errors`, or empty for what nobody foresaw."""
    message: str


class ManyPipelines(Pipeline):
    """Pipelines on cards, each in a process of its own.

    Args:
        first: opened in this process, on the first card: it has passed the parity gates for all.
        openings: how each worker opens its own.
        spare: how more of them do, added a group at a time as long as the rate rises.
    """

    def __init__(
        self, first: DevicePipeline, openings: Sequence[Opening], *, spare: Sequence[Sequence[Opening]] = ()
    ) -> None:
        super().__init__(first.settings, first.detector, first.encoder, workers=len(openings))
        self.intake = first.intake
        self._openings = list(openings)
        self._spare = list(spare)
        self.growth = Growth(len(self._spare), time.perf_counter)
        self.decoded_by: collections.Counter[str] = collections.Counter()
        self.photos_by: collections.Counter[int] = collections.Counter()
        """How many photos each worker did."""
        self.halvings = 0
        self.capped = 0

    def remarks(self) -> list[str]:
        """As `DevicePipeline.remarks`, of all workers together."""
        return remarks(self.decoded_by, self.halvings, self.capped) + self.cutter.remarks() + self.growth.remark()

    def run(self, photos: Sequence[PhotoFile], *, boundary: Boundary = 0) -> Generator[Outcome, None, None]:
        """Embed photos, as `Pipeline.run` says."""
        groups = enumerate(self.intake.groups(photos, boundary=boundary))
        crew = Crew(self._openings)
        try:
            yield from self.work_off(groups, crew)
        finally:
            crew.end()

    def work_off(self, groups: Iterator[Group], crew: Crew, *, first: int = 0) -> Iterator[Outcome]:
        """Let a crew do runs of photos, of which the first has a number, and send it home."""
        yield from self._in_order(groups, crew, first)
        crew.dismiss()
        self.decoded_by.update(crew.decoded_by)
        self.halvings += crew.halvings
        self.capped += crew.capped
        self.cutter.damaged.update(crew.damaged)
        self.photos_by.update(crew.photos_by)

    def _grow(self, crew: Crew, photos: int) -> None:
        """After so many photos more: add workers, if that is to be tried now."""
        if crew.news and crew.ready == crew.size:
            crew.news = False
            self.growth.begin()
        if self.growth.took(photos):
            for opening in self._spare.pop(0):
                crew.add(opening)

    def _in_order(self, groups: Iterator[Group], crew: Crew, first: int) -> Iterator[Outcome]:
        waiting: dict[int, int] = {}  # photos of each run that have not come back
        done: dict[int, list[Outcome]] = collections.defaultdict(list)
        next_out = handed_out = first
        exhausted = False
        while True:
            while not exhausted and handed_out - next_out < _AHEAD * crew.size:
                group = next(groups, None)
                if group is None:
                    exhausted = True
                    break
                waiting[group[0]] = len(group[1])
                crew.hand_out(group)
                handed_out += 1
            if exhausted and next_out == handed_out:
                return
            for tag, outcome in crew.collect():
                done[tag].append(outcome)
                waiting[tag] -= len(outcome.photos)
                self._grow(crew, len(outcome.photos))
            while waiting.get(next_out) == 0:
                del waiting[next_out]
                yield from done.pop(next_out)
                next_out += 1


class Crew:
    """The processes."""

    def __init__(self, openings: Sequence[Opening]) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        self._context = context
        self._pile: Any = context.Queue()
        self._openings: list[Opening] = []
        self._processes: list[Any] = []
        self._pipes: list[Any] = []
        self.decoded_by: collections.Counter[str] = collections.Counter()
        self.photos_by: collections.Counter[int] = collections.Counter()
        self.halvings = 0
        self.capped = 0
        self.damaged: dict[str, str] = {}
        self.ready = 0
        """Workers that have loaded their models."""
        self.news = False
        """Whether one became so since somebody looked."""
        self._out: dict[int, PhotoColumns] = {}  # of each run that was handed out, those that have not come back
        for opening in openings:
            self.add(opening)

    def add(self, opening: Opening) -> None:
        """One worker more."""
        ours, theirs = self._context.Pipe(duplex=False)
        _widen(theirs)
        process = self._context.Process(target=_work, args=(opening, self._pile, theirs), daemon=True)
        process.start()
        theirs.close()
        self._openings.append(opening)
        self._processes.append(process)
        self._pipes.append(ours)

    @property
    def size(self) -> int:
        return len(self._processes)

    def hand_out(self, group: Group | None) -> None:
        """Put a run of photos on the pile; None sends one worker home."""
        if group is None:
            self._pile.put(None)
            return
        tag, photos = group
        self._out[tag] = PhotoColumns.of(photos)
        self._pile.put((tag, packed(self._out[tag])))

    def collect(self) -> Iterator[tuple[int, Outcome]]:
        """Results, one at least, or news of a worker.

        Raises:
            FaceEmbedError: a worker failed or died.
        """
        for pipe in multiprocessing.connection.wait(self._pipes):
            number = self._pipes.index(pipe)
            message = self._receive(number)
            if message == _READY:
                self._welcome()
                continue
            tag, read, outcome = message
            count = len(read[0])
            mine, self._out[tag] = self._out[tag][:count], self._out[tag][count:]
            if not self._out[tag]:
                del self._out[tag]
            self.photos_by[number] += count
            yield tag, dataclasses.replace(outcome, photos=mine.read_as(*read))

    def look(self) -> bool:
        """Whether all workers have loaded their models; only before anything is handed out.

        Raises:
            FaceEmbedError: a worker failed or died.
        """
        for pipe in multiprocessing.connection.wait(self._pipes, 0):
            self._receive(self._pipes.index(pipe))
            self._welcome()
        return self.ready == self.size

    def _welcome(self) -> None:
        self.ready += 1
        self.news = True

    def dismiss(self) -> None:
        """Send all workers home, and take what they counted."""
        for _ in self._processes:
            self.hand_out(None)
        for number in range(self.size):
            while (message := self._receive(number)) == _READY:  # one that came when all was done
                self._welcome()
            decoded_by, halvings, capped, damaged = message
            self.decoded_by.update(decoded_by)
            self.halvings += halvings
            self.capped += capped
            self.damaged.update(damaged)

    def end(self) -> None:
        """Leave no process behind."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_END_SECONDS if process.exitcode is None and self.decoded_by else 0)
            if process.is_alive():
                process.terminate()
                process.join(_END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._pile.cancel_join_thread()
        self._pile.close()

    def _receive(self, number: int) -> Any:
        try:
            message = self._pipes[number].recv()
        except (EOFError, OSError):
            process = self._processes[number]
            process.join(_END_SECONDS)
            code = process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            raise DeviceError(
                f"the worker on {self._openings[number].device} {how}; what was finished is kept, and the same command goes on"
            ) from None
        if isinstance(message, _Failed):
            kind = getattr(errors, message.kind, None) if message.kind else None
            raise kind(message.message) if kind else RuntimeError(message.message)
        return message


def _work(opening: Opening, pile: Any, pipe: Any) -> None:
    """What a worker's process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        pipeline = opening.open()
        pipe.send(_READY)
        groups = ((tag, unpacked(columns)) for tag, columns in iter(pile.get, None))
        with contextlib.closing(pipeline.run_groups(groups)) as results:
            for tag, outcome in results:
                pipe.send((tag, packed_read(outcome.photos), dataclasses.replace(outcome, photos=())))
        pipe.send((pipeline.decoded_by, pipeline.halvings, pipeline.capped, pipeline.cutter.damaged))
    except FaceEmbedError as error:
        pipe.send(_Failed(type(error).__name__, str(error)))
    except Exception:  # noqa: BLE001 - told by the parent, as an error of its own
        pipe.send(_Failed("", f"on {opening.device}: {traceback.format_exc()}"))
    pipe.close()


def _widen(pipe: Any) -> None:
    """Let a pipe hold a batch's answers at once, where the system can: else a worker and its reader take turns every 64 KiB."""
    with contextlib.suppress(ImportError, OSError, AttributeError):  # not Linux; or more than a user may have
        import fcntl  # optional: Windows lacks it

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _leave_with(parent: Any) -> None:
    """A worker does not outlive a parent that was killed."""
    parent.join()
    os._exit(1)
