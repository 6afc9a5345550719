"""The batcher: common batches for all, bounds on them, and work that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from faceembed.cli.web.batcher import Batcher
from faceembed.cli.web.errors import ApiError


class Work:
    """Squares numbers, and remembers its batches. While closed, no batch ends."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        assert self.gate.wait(30)
        if -1 in items:
            raise ValueError("a minus one")
        return [item * item for item in items]


async def in_a_batcher(work: Work, test: Callable[[Batcher[int, int]], Awaitable[Any]], **options: Any) -> Any:
    batcher = Batcher[int, int](work, **{"workers": 1, "most": 8, **options})
    try:
        return await test(batcher)
    finally:
        work.gate.set()
        await batcher.close()


def run(work: Work, test: Callable[[Batcher[int, int]], Awaitable[Any]], **options: Any) -> Any:
    return asyncio.run(in_a_batcher(work, test, **options))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_clients_share_a_batch_and_each_gets_its_own() -> None:
    work, sizes = Work(), []

    async def test(batcher: Batcher[int, int]) -> Any:
        return await asyncio.gather(batcher.submit([1, 2]), batcher.submit([3]), batcher.submit([4, 5]))

    assert run(work, test, on_batch=sizes.append) == [[1, 4], [9], [16, 25]]
    assert work.batches == [[1, 2, 3, 4, 5]]
    assert sizes == [5]


def test_what_comes_while_threads_are_busy_is_one_batch() -> None:
    work = Work()
    work.gate.clear()

    async def test(batcher: Batcher[int, int]) -> Any:
        first = asyncio.create_task(batcher.submit([1]))
        await until(lambda: work.batches == [[1]])
        others = [asyncio.create_task(batcher.submit([number])) for number in (2, 3, 4)]
        await until(lambda: batcher.waiting == 3)
        work.gate.set()
        return await asyncio.gather(first, *others)

    assert run(work, test) == [[1], [4], [9], [16]]
    assert work.batches == [[1], [2, 3, 4]]


def test_a_batch_grows_as_long_as_more_keeps_coming() -> None:
    work = Work()

    async def test(batcher: Batcher[int, int]) -> Any:
        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(batcher.submit([number])))
            await asyncio.sleep(0.05)  # each within a wait of the last, all of them in much more than one
        return await asyncio.gather(*tasks)

    assert run(work, test, wait=0.2) == [[number * number] for number in range(6)]
    assert work.batches == [list(range(6))]


def test_it_does_not_grow_for_ever() -> None:
    work = Work()

    async def test(batcher: Batcher[int, int]) -> None:
        tasks = []
        while (
            not work.batches
        ):  # without a bound on it, this would never end: the next always comes before a wait is over
            tasks.append(asyncio.create_task(batcher.submit([len(tasks)])))
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(in_a_batcher(work, test, wait=0.05, most=10_000), 30))
    assert len(work.batches[0]) > 1


def test_enough_starts_without_waiting() -> None:
    work = Work()
    run(work, lambda batcher: asyncio.wait_for(batcher.submit([1, 2, 3]), 20), wait=30.0, enough=3)
    assert work.batches == [[1, 2, 3]]


def test_clients_that_are_answered_together_ask_together_again() -> None:
    work = Work()

    async def client(batcher: Batcher[int, int], number: int) -> None:
        for _ in range(3):
            await batcher.submit([number])

    async def test(batcher: Batcher[int, int]) -> None:
        await asyncio.gather(*(client(batcher, number) for number in range(4)))

    run(work, test, wait=0.1)
    assert [sorted(batch) for batch in work.batches] == [[0, 1, 2, 3]] * 3


def test_idle_threads_share_what_waits() -> None:
    work = Work()
    run(work, lambda batcher: batcher.submit([1, 2, 3, 4, 5]), workers=2)
    assert sorted(map(len, work.batches)) == [2, 3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"most": 2}, [[1, 2], [3, 9], [1]]),
        ({"weigh": lambda item: item, "heaviest": 6}, [[1, 2, 3], [9], [1]]),
        ({"weigh": lambda item: item, "in_all": 6}, [[1, 2, 3], [9], [1]]),
    ],
)
def test_batches_are_bounded(options: dict[str, Any], expected: list[list[int]]) -> None:
    work = Work()
    assert run(work, lambda batcher: batcher.submit([1, 2, 3, 9, 1]), **options) == [1, 4, 9, 81, 1]
    assert work.batches == expected


@pytest.mark.parametrize(("count", "first"), [(3, 2), (8, 4), (16, 4), (40, 10)])
def test_what_is_enough_for_a_batch(count: int, first: int) -> None:
    """Idle threads share what waits, up to what is enough; the rest is left for the busy ones, unless there is plenty."""
    work = Work()
    numbers = list(range(1, count + 1))
    assert run(work, lambda batcher: batcher.submit(numbers), workers=2, most=20, enough=4) == [n * n for n in numbers]
    assert numbers[:first] in work.batches
    assert max(map(len, work.batches)) == first


def test_weight_of_all_batches_under_way_is_bounded() -> None:
    work = Work()
    work.gate.clear()

    async def test(batcher: Batcher[int, int]) -> None:
        heavy = asyncio.create_task(batcher.submit([5]))
        await until(lambda: work.batches == [[5]])
        second = asyncio.create_task(batcher.submit([4]))
        await asyncio.sleep(0.05)
        assert work.batches == [[5]]  # a thread is idle, but both would be too heavy
        work.gate.set()
        await asyncio.gather(heavy, second)

    run(work, test, workers=2, weigh=lambda item: item, in_all=8)
    assert work.batches == [[5], [4]]


def test_what_nobody_waits_for_is_not_computed() -> None:
    work = Work()
    work.gate.clear()

    async def test(batcher: Batcher[int, int]) -> Any:
        first = asyncio.create_task(batcher.submit([1]))
        await until(lambda: work.batches == [[1]])
        gone, stays = (asyncio.create_task(batcher.submit([number])) for number in (2, 3))
        await until(lambda: batcher.waiting == 2)
        gone.cancel()
        work.gate.set()
        return await asyncio.gather(first, stays)

    assert run(work, test) == [[1], [9]]
    assert work.batches == [[1], [3]]


def test_one_that_leaves_during_its_batch_harms_nobody() -> None:
    work = Work()
    work.gate.clear()

    async def test(batcher: Batcher[int, int]) -> Any:
        gone, stays = (asyncio.create_task(batcher.submit([number])) for number in (2, 3))
        await until(lambda: work.batches == [[2, 3]])
        gone.cancel()
        work.gate.set()
        return await stays

    assert run(work, test) == [9]


def test_a_failing_item_fails_its_own_client_alone() -> None:
    async def test(batcher: Batcher[int, int]) -> Any:
        return await asyncio.gather(batcher.submit([1, 2]), batcher.submit([-1, 3]), return_exceptions=True)

    good, bad = run(Work(), test)
    assert good == [1, 4]
    assert isinstance(bad, ValueError)


def test_a_full_queue_refuses() -> None:
    work = Work()
    work.gate.clear()

    async def test(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher.submit([1]))
        await until(lambda: work.batches == [[1]])
        second = asyncio.create_task(batcher.submit([2, 3]))
        await until(lambda: batcher.waiting == 2)
        with pytest.raises(ApiError) as refused:
            await batcher.submit([4, 5])
        assert (refused.value.status, refused.value.code) == (503, "busy")
        assert refused.value.headers["Retry-After"]
        work.gate.set()
        await asyncio.gather(first, second)

    run(work, test, queue=3)


def test_closing_finishes_what_waits_and_refuses_more() -> None:
    work = Work()

    async def test(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit([number])) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        await batcher.close()
        assert await asyncio.gather(*tasks) == [[1], [4], [9]]
        with pytest.raises(ApiError) as refused:
            await batcher.submit([4])
        assert refused.value.code == "shutting_down"

    run(work, test, most=1)
