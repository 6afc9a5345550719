"""Stages that work on different batches at once: a thread each, connected by queues, the order kept.

    source ─► [stage] ─► [stage] ─► ... ─► whoever takes the results

What is in flight is bounded by the source, which waits before it gives. An error of a stage is kept with its batch, which
passes the remaining stages untouched: whoever takes it decides.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, Protocol, TypeVar


class Carrier(Protocol):
    """A batch on its way."""

    error: BaseException | None

    def drop(self) -> None:
        """Let go of what it holds on the device, after an error."""


W = TypeVar("W", bound=Carrier)
Stage = Callable[[W], None]
Lane = Callable[[str], contextlib.AbstractContextManager[None]]


class _End(Generic[W]):
    """The source is exhausted, or failed."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def flow(
    source: Iterator[W],
    stages: Sequence[Stage[W]],
    lane: Lane,
    *,
    close: Callable[[], None],
    names: Sequence[str] | None = None,
) -> Generator[W, None, None]:
    """Carry batches through stages.

    Args:
        source: gives batches; runs in a thread of its own.
        stages: each changes a batch in place, in a thread of its own.
        lane: what each of these threads is inside of; told the stage's name.
        close: wakes a source that waits, for good; called when nobody takes results any more.
        names: of the stages; their numbers if None.

    Yields:
        The batches in the source's order, those with an ``error`` too.

    Raises:
        BaseException: what the source or a lane raised.
    """
    queues: list[queue.SimpleQueue[W | _End[W]]] = [queue.SimpleQueue() for _ in range(len(stages) + 1)]
    stop = threading.Event()

    def feed() -> None:
        try:
            for batch in source:
                queues[0].put(batch)
                if stop.is_set():
                    break
            queues[0].put(_End())
        except BaseException as error:  # noqa: BLE001 - it goes on to whoever takes the results
            queues[0].put(_End(error))

    def work(
        name: str, stage: Stage[W], inbox: queue.SimpleQueue[W | _End[W]], outbox: queue.SimpleQueue[W | _End[W]]
    ) -> None:
        try:
            with lane(name):
                while not isinstance(batch := inbox.get(), _End):
                    if batch.error is None:
                        _run(stage, batch, skip=stop.is_set())
                    outbox.put(batch)
            outbox.put(batch)
        except BaseException as error:  # noqa: BLE001 - the lane could not be entered or left
            close()
            outbox.put(_End(error))

    threads = [threading.Thread(target=feed, name="faceembed-read")]
    called = names or [str(number) for number in range(len(stages))]
    for number, stage in enumerate(stages):
        arguments = (called[number], stage, queues[number], queues[number + 1])
        threads.append(threading.Thread(target=work, args=arguments, name=f"faceembed-stage-{number}"))
    for thread in threads:
        thread.start()
    try:
        while not isinstance(batch := queues[-1].get(), _End):
            yield batch
        if batch.error is not None:
            raise batch.error
    finally:  # also when nobody takes the rest
        stop.set()
        close()
        for thread in threads:
            thread.join()


def _run(stage: Stage[W], batch: W, *, skip: bool) -> None:
    """One stage of one batch; whatever goes wrong stays with the batch."""
    try:
        if skip:
            raise InterruptedError("nobody takes the result")
        stage(batch)
    except BaseException as error:  # noqa: BLE001 - it goes on to whoever takes the results
        batch.error = error
        batch.drop()
