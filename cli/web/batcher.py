"""Brings what many clients ask for at one time into common batches, and computes these in a few threads.

    submit (any number of clients, asyncio) ─► waiting ─► batches, bounded in count and weight ─► one thread each

While all threads are busy, what arrives waits and the next batch is the larger for it; while one is idle, what has come waits as long
as more keeps coming, for a few moments at most: clients that were answered together ask again together. What nobody waits for any
more is not computed.

What is not known here: photos. It takes anything that a function computes list by list.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from faceembed.cli.web.errors import ApiError

T = TypeVar("T")
R = TypeVar("R")

WAIT_SECONDS = 0.004
LONGEST_WAITS = 8
"""Times ``wait``: how long an idle thread lets a batch grow at most."""


@dataclasses.dataclass(eq=False)
class _Job(Generic[T, R]):
    item: T
    answer: asyncio.Future[R]
    weight: int


class Batcher(Generic[T, R]):
    """Computes items of many callers together. All its methods are called in one event loop.

    Args:
        compute: from the items of a batch to their results, in the same order; runs in a thread.
        workers: batches computed side by side.
        most: items in a batch.
        enough: items from which on a larger batch costs hardly less an item: more of what waits is left for the threads that
            are busy now, unless there is plenty. None for ``most``.
        weigh: an item's weight (bytes that it will take).
        heaviest: weight of a batch; a single heavier item makes a batch of its own.
        in_all: weight of all batches under way; a single heavier item waits until nothing else is.
        queue: items that may wait.
        wait: seconds without another arrival after which an idle thread starts; at most `LONGEST_WAITS` times so much in all.
        on_batch: told the size of every batch that starts.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[T]], list[R]],
        *,
        workers: int,
        most: int,
        enough: int | None = None,
        weigh: Callable[[T], int] = lambda item: 1,
        heaviest: int = 1 << 62,
        in_all: int = 1 << 62,
        queue: int = 512,
        wait: float = WAIT_SECONDS,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute = compute
        self._most, self._weigh, self._heaviest, self._in_all = most, weigh, heaviest, in_all
        self._queue, self._wait, self._on_batch = queue, wait, on_batch
        self._enough = most if enough is None else enough
        self._workers = self._idle = workers
        self._weight = 0
        self._waiting: collections.deque[_Job[T, R]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0  # of the event loop's clock, for the batch that the timer stands for
        self._running: set[asyncio.Future[Any]] = set()
        self._closing = False
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, "faceembed-compute")

    @property
    def waiting(self) -> int:
        """Items that no thread has taken yet."""
        return len(self._waiting)

    async def submit(self, items: Sequence[T]) -> list[R]:
        """Compute items, with those of others.

        Cancelling this takes back what has not started.

        Raises:
            ApiError: 503, too much is waiting already, or the server is shutting down.
        """
        if self._closing:
            raise ApiError(503, "shutting_down", "the server is shutting down", retry_after=5)
        if len(self._waiting) + len(items) > self._queue:
            raise ApiError(503, "busy", "too many photos are waiting; try again soon", retry_after=2)
        loop = asyncio.get_running_loop()
        jobs = [_Job[T, R](item, loop.create_future(), self._weigh(item)) for item in items]
        self._waiting.extend(jobs)
        self._start_soon()
        try:
            return list(await asyncio.gather(*(job.answer for job in jobs)))
        finally:
            for job in jobs:
                job.answer.cancel()

    async def close(self) -> None:
        """Refuse what comes, finish what is under way and what waits, and end the threads."""
        self._closing = True
        self._start_batches()
        while self._running:
            await asyncio.wait(self._running)
        self._pool.shutdown(wait=True)

    def _start_soon(self) -> None:
        """Start when nothing more has come for a moment; at once if enough is there already."""
        if not self._idle or not self._waiting:
            return
        if len(self._waiting) >= self._idle * self._enough or not self._wait:
            self._start_batches()
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._deadline = now + LONGEST_WAITS * self._wait
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + self._wait, self._deadline), self._start_batches)

    def _start_batches(self) -> None:
        """Give every idle thread its share of what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = collections.deque(job for job in self._waiting if not job.answer.done())
        while self._idle and self._waiting:
            batch = self._take(self._share(len(self._waiting)))
            if not batch:
                return  # too heavy beside what is under way; the end of that calls again
            self._start(batch)

    def _share(self, waiting: int) -> int:
        """How much of what waits the next idle thread takes."""
        return max(min(-(-waiting // self._idle), self._enough), -(-waiting // (2 * self._workers)))

    def _take(self, share: int) -> list[_Job[T, R]]:
        batch: list[_Job[T, R]] = []
        weight = 0
        while self._waiting and len(batch) < min(share, self._most):
            more = self._waiting[0].weight
            if batch and weight + more > self._heaviest:
                break
            if (batch or self._weight) and self._weight + weight + more > self._in_all:
                break
            weight += more
            batch.append(self._waiting.popleft())
        return batch

    def _start(self, batch: list[_Job[T, R]]) -> None:
        self._idle -= 1
        self._weight += sum(job.weight for job in batch)
        self._on_batch(len(batch))
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._compute_alone_if_need_be, [job.item for job in batch])
        self._running.add(future)
        future.add_done_callback(functools.partial(self._finish, batch))

    def _compute_alone_if_need_be(self, items: list[T]) -> list[R | Exception]:
        """A batch; where it fails, each item by itself, so that one client's item does not fail another's."""
        try:
            return list(self._compute(items))
        except Exception as error:  # noqa: BLE001 - it goes on to whoever waits for the answer
            if len(items) == 1:
                return [error]
        return [self._compute_alone_if_need_be([item])[0] for item in items]

    def _finish(self, batch: list[_Job[T, R]], future: asyncio.Future[list[R | Exception]]) -> None:
        self._running.discard(future)
        self._idle += 1
        self._weight -= sum(job.weight for job in batch)
        for job, result in zip(batch, future.result(), strict=True):
            if job.answer.done():
                continue
            if isinstance(result, Exception):
                job.answer.set_exception(result)
            else:
                job.answer.set_result(result)
        self._start_soon()
