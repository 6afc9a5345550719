"""What computes shards: a pipeline that reads its photos itself and puts each finished shard into the store.

    worker = Worker(job)
    for done in worker.run(tasks):             # in their order; each is in the store before it is told
        ...

The same on this machine, on its cards (`pipeline.loading` sees to their processes) and in an actor of Ray: who calls it is not known
here. A photo that is bad is a row of the errors; what ends the process is the caller's to find out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceembed.engine.distribute.dataset import Footer, write_shard
from faceembed.engine.distribute.plan import Task, members
from faceembed.engine.distribute.store import Access, Store
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, photo_file
from faceembed.engine.photos.reading import read_file
from faceembed.engine.photos.rows import FACE_SCHEMA
from faceembed.engine.pipeline import loading
from faceembed.engine.pipeline.batches import Outcome, Pipeline
from faceembed.engine.pipeline.rows import face_rows
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import PhotoError

CRASH = "crash"
"""The stage of a photo that ends the process that reads it."""
_GATE_PHOTOS = 48
_GATE_BYTES = 24 << 20


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker is told. It travels to other machines as it is."""

    output: str
    access: Access
    settings: EmbedSettings
    dtype: str
    gate: tuple[tuple[str, bytes], ...] = ()
    """Photos by their names' endings, on which each node measures whether it may compute at less than fp32."""


@dataclasses.dataclass(frozen=True)
class Done:
    """A shard that is in the store."""

    task: Task
    footer: Footer
    seconds: float
    node: str


def gate_photos(photos: Sequence[PhotoFile], *, most: int = _GATE_PHOTOS) -> tuple[tuple[str, bytes], ...]:
    """Some of the photos as bytes, evenly from all: a new node has none at hand, and every node should be measured on the same."""
    found: list[tuple[str, bytes]] = []
    size = 0
    for photo in photos[:: -(-len(photos) // most) or 1]:
        with contextlib.suppress(PhotoError):
            data = read_file(photo.path)
            size += len(data)
            if size > _GATE_BYTES:
                break
            found.append((os.path.splitext(photo.path)[1], data))
    return tuple(found)


class Worker:
    """Models loaded, precision settled.

    Args:
        job: what to do.
        notice: called with lines for the user.

    Raises:
        FaceEmbedError: the set-up is bad.
    """

    def __init__(self, job: Job, *, notice: Callable[[str], None] = lambda line: None) -> None:
        self._job = job
        self._store = Store.of(job.output, job.access)
        self._models = loading.resolve_models(job.settings)
        self._pipeline = self._opened(notice)
        self.precision: str = self._pipeline.encoder.choice.precision
        self.node = socket.gethostname()

    def _opened(self, notice: Callable[[str], None]) -> Pipeline:
        with tempfile.TemporaryDirectory(prefix="faceembed-gate-") as folder:
            photos = []
            for number, (ending, data) in enumerate(self._job.gate):
                path = os.path.join(folder, f"{number}{ending}")
                with open(path, "wb") as file:
                    file.write(data)
                photos.append(photo_file(path))
            return loading.open_pipeline(self._job.settings, self._models, photos, notice=notice)

    def run(self, tasks: Sequence[Task], *, skip: Mapping[str, str] | None = None) -> Iterator[Done]:
        """Compute shards one after the other, in one go: no core waits at a shard's end.

        Args:
            tasks: of the plan.
            skip: photos that end a process, with the reason.

        Raises:
            DataError: the store cannot be reached.
            OSError: the disk is full, say.
        """
        skip = skip or {}
        lists = [members(self._store, task) for task in tasks]
        left = [[photo for photo in photos if photo.path not in skip] for photos in lists]
        ends = np.cumsum([len(photos) for photos in left]).tolist()
        every = [photo for photos in left for photo in photos]
        started = time.perf_counter()
        with contextlib.closing(self._pipeline.run(every, boundary=frozenset(ends))) as outcomes:
            for task, photos, kept in zip(tasks, lists, left, strict=True):
                taken: list[Outcome] = []
                count = 0
                while count < len(kept):
                    taken.append(next(outcomes))
                    count += len(taken[-1].photos)
                dead = [Failure(photo, CRASH, skip[photo.path]) for photo in photos if photo.path in skip]
                failures = [*dead, *(failure for outcome in taken for failure in outcome.failures)]
                rows, vectors = self._rows(taken)
                footer = write_shard(
                    self._store,
                    task.shard,
                    rows,
                    vectors,
                    failures,
                    photos=len(photos),
                    precision=self.precision,
                    dtype=self._job.dtype,
                )
                now = time.perf_counter()
                yield Done(task, footer, now - started, self.node)
                started = now

    def probe(self, task: Task, paths: Sequence[str]) -> None:
        """Compute some photos of a shard and keep nothing: it ends, or it ends this process."""
        wanted = set(paths)
        photos = [photo for photo in members(self._store, task) if photo.path in wanted]
        with contextlib.closing(self._pipeline.run(photos)) as outcomes:
            for _ in outcomes:
                pass

    def _rows(self, taken: Sequence[Outcome]) -> tuple[pa.Table, NDArray[np.float32]]:
        if not taken:
            dimension = self._models.encoder.spec.dimension
            return FACE_SCHEMA.empty_table(), np.zeros((0, dimension), np.float32)
        return face_rows(taken, self._models.encoder.spec)
