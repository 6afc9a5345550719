"""Stages that overlap, in order, with errors that stay with their batch and no thread left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

import pytest

from faceembed.engine.pipeline.gpu.flow import flow


@dataclasses.dataclass
class Parcel:
    number: int
    seen: list[str] = dataclasses.field(default_factory=list)
    error: BaseException | None = None
    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True


def nothing() -> None:
    return None


def parcels(count: int) -> Iterator[Parcel]:
    yield from map(Parcel, range(count))


def test_order_and_every_stage() -> None:
    def a(parcel: Parcel) -> None:
        parcel.seen.append("a")

    def b(parcel: Parcel) -> None:
        parcel.seen.append("b")

    done = list(flow(parcels(50), [a, b], contextlib.nullcontext, close=nothing))
    assert [parcel.number for parcel in done] == list(range(50))
    assert all(parcel.seen == ["a", "b"] for parcel in done)


def test_stages_work_on_different_batches_at_the_same_time() -> None:
    """Each stage waits until all three are at work: without overlap this would never end."""
    together = threading.Barrier(3, timeout=20)

    def meet(turn: int) -> object:
        def run(parcel: Parcel) -> None:
            if 0 <= parcel.number - (2 - turn) < 6:  # parcels 2 to 7 in the first stage, 0 to 5 in the last
                together.wait()

        return run

    done = list(flow(parcels(8), [meet(0), meet(1), meet(2)], contextlib.nullcontext, close=nothing))  # type: ignore[list-item]
    assert len(done) == 8
    assert not any(parcel.error for parcel in done)


def test_an_error_stays_with_its_batch() -> None:
    def picky(parcel: Parcel) -> None:
        if parcel.number == 3:
            raise ValueError("three")

    def after(parcel: Parcel) -> None:
        parcel.seen.append("after")

    done = list(flow(parcels(6), [picky, after], contextlib.nullcontext, close=nothing))
    assert [bool(parcel.error) for parcel in done] == [False, False, False, True, False, False]
    assert done[3].dropped
    assert done[3].seen == []
    assert done[4].seen == ["after"]


def test_an_error_of_the_source_ends_the_run() -> None:
    def source() -> Iterator[Parcel]:
        yield Parcel(0)
        raise OSError("gone")

    before = threading.active_count()
    got = []
    with pytest.raises(OSError, match="gone"):
        for parcel in flow(source(), [lambda parcel: None], contextlib.nullcontext, close=nothing):
            got.append(parcel.number)
    assert got == [0]
    assert threading.active_count() == before


def test_a_lane_that_cannot_be_entered_ends_the_run() -> None:
    @contextlib.contextmanager
    def closed(name: str) -> Iterator[None]:
        raise RuntimeError("no such device")
        yield

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no such device"):
        list(flow(parcels(3), [lambda parcel: None] * 2, closed, close=nothing))
    assert threading.active_count() == before


def test_each_stage_has_its_lane() -> None:
    """By name, entered once."""
    entered: list[str] = []

    @contextlib.contextmanager
    def lane(name: str) -> Iterator[None]:
        entered.append(name)
        yield

    assert len(list(flow(parcels(9), [lambda parcel: None] * 2, lane, close=nothing, names=["detect", "encode"]))) == 9
    assert sorted(entered) == ["detect", "encode"]


def test_stopping_early_leaves_no_thread() -> None:
    room = threading.Semaphore(3)
    closed = threading.Event()

    def source() -> Iterator[Parcel]:
        for number in range(1000):
            while not room.acquire(timeout=0.05):
                if closed.is_set():
                    return
            yield Parcel(number)

    before = threading.active_count()
    run = flow(source(), [lambda parcel: None] * 2, contextlib.nullcontext, close=closed.set)
    assert next(run).number == 0
    run.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
