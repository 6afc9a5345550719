"""Batches of photos read ahead, and several of them processed side by side, their results in order.

One thread takes a batch all the way: cores never wait for each other inside a batch, and reading overlaps with computing. What is
in flight is bounded, so memory does not grow with the number of photos. Whoever stops taking results must close the generator, as
`contextlib.closing` does: only then are its threads at rest, and what they compute with may go.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batch import Item, Read
from faceembed.engine.pipeline.intake import READERS, split
from faceembed.engine.pipeline.shortage import REASON, in_halves

T = TypeVar("T")


def side_by_side(
    groups: Iterable[Sequence[PhotoFile]],
    read_one: Callable[[PhotoFile], Item | Failure],
    process: Callable[[Read, float], T],
    *,
    at_once: int,
    decoded: int = 0,
) -> Generator[T, None, None]:
    """Read groups of photos one after another, and process batches of them in threads.

    Args:
        groups: photos that are read together, taken when there is room for more.
        read_one: called in one of a few threads.
        process: called in a thread with a batch and the seconds spent reading it.
        at_once: how many batches are processed side by side.
        decoded: bytes of decoded pixels in a batch; 0: `BATCH_BYTES`.

    Yields:
        What ``process`` gave, in the order of the photos; more than once a batch where memory was short.
    """
    pending: collections.deque[concurrent.futures.Future[list[T]]] = collections.deque()
    readers = concurrent.futures.ThreadPoolExecutor(READERS, "faceembed-read")
    computing = concurrent.futures.ThreadPoolExecutor(at_once, "faceembed-compute")
    try:
        for group in groups:
            started = time.perf_counter()
            read = _read_all(readers, read_one, group)
            waited = time.perf_counter() - started
            each = functools.partial(_sharing, process, waited / len(read))
            for part in split(read, decoded):
                pending.append(computing.submit(in_halves, each, part, instead=without_memory))
            while len(pending) > at_once + 1:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:  # also when the consumer stops early
        readers.shutdown(wait=True, cancel_futures=True)
        computing.shutdown(wait=True, cancel_futures=True)


def without_memory(entry: Item | Failure) -> Failure:
    """What stands for a photo whose batch does not fit into memory even by itself."""
    return Failure(entry.photo, "memory", REASON)


def _read_all(
    readers: concurrent.futures.Executor, read_one: Callable[[PhotoFile], Item | Failure], group: Sequence[PhotoFile]
) -> Read:
    """Each reader takes its part of a group: photo by photo, waiting for each other costs as much again as reading."""
    size = -(-len(group) // READERS)
    parts = [group[start : start + size] for start in range(0, len(group), size)]
    read = readers.map(lambda part: [read_one(photo) for photo in part], parts)
    return list(itertools.chain.from_iterable(read))


def _sharing(process: Callable[[Read, float], T], seconds: float, read: Read) -> T:
    """Process a batch of which each photo took so long to read."""
    return process(read, seconds * len(read))
