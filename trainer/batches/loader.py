"""Batches made by threads ahead of the training step, in order.

    for batch in ahead(plan, make, threads=2): ...

Threads, not processes: decoding and warping release Python's lock, one cache of crops serves all, and nothing is copied. What
`make` returns may depend on its item alone, so that the order in which threads finish changes nothing.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")


def ahead(plan: Iterable[Item], make: Callable[[Item], Batch], *, threads: int, depth: int = 2) -> Iterator[Batch]:
    """Make every item of a plan, each by one thread, and yield the results in the plan's order.

    Args:
        plan: what each result is made of.
        make: called by several threads at once.
        threads: how many of them.
        depth: results that may lie ready beyond those in the making, which bounds the memory.

    Raises:
        Exception: whatever `make` raises, at the place of its item.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="faceembed-loader")
    waiting: collections.deque[Future[Batch]] = collections.deque()
    try:
        for item in plan:
            waiting.append(pool.submit(make, item))
            if len(waiting) >= threads + depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
