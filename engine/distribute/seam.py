"""The seam between what is to be computed and who computes it: this machine with its cards (`here`), or a cluster (`ray`).

    with executor(job, notice) as run:
        for done in run(tasks): ...

Whoever fills it gives each task's `Done` once, in any order, or raises; a task whose shard is in the store is done, whoever computed it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from faceembed.engine.distribute.plan import Task
from faceembed.engine.distribute.worker import Done, Job, Worker

_AT_ONCE = 16  # shards that a worker is given in one go


class Executor(Protocol):
    """Computes the shards of a job."""

    def __call__(
        self, job: Job, tasks: Sequence[Task], notice: Callable[[str], None]
    ) -> contextlib.AbstractContextManager[Iterator[Done]]:
        """Start, and give what is done as it is done; leaving it stops what is under way."""
        ...


@contextlib.contextmanager
def here(job: Job, tasks: Sequence[Task], notice: Callable[[str], None]) -> Iterator[Iterator[Done]]:
    """On this machine, in this process: the pipeline uses all cores, and every card by processes of its own."""

    def run() -> Iterator[Done]:
        worker = Worker(job, notice=notice)
        for start in range(0, len(tasks), _AT_ONCE):
            yield from worker.run(tasks[start : start + _AT_ONCE])

    yield run()
