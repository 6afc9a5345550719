"""Memory in flight: what is admitted, what waits, and how amounts and refusals are read."""

from __future__ import annotations

import threading

import pytest

from faceembed.engine.pipeline.gpu.budget import Budget, parse_bytes
from faceembed.engine.pipeline.shortage import is_out_of_memory
from faceembed.errors import UsageError


@pytest.mark.parametrize(
    ("text", "amount"),
    [("20G", 20 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("2 gb", 2 << 30), ("1073741824", 1 << 30)],
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "much", "-1G", "1X", "100M", "G"])
def test_wrong_amounts(text: str) -> None:
    with pytest.raises(UsageError, match="--gpu-memory"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory"),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate enough memory"),
        RuntimeError("Can't allocate 4096 bytes on device 0."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1024"),
    ],
)
def test_refusals_of_memory_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("An error happened during asynchronous execution") from cause
    except RuntimeError as outer:
        assert is_out_of_memory(outer)


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to decode sample #3 : "), ValueError("shape"), OSError(5, "I/O")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_what_does_not_fit_waits() -> None:
    budget = Budget(100, slots=8, batch=32)
    assert budget.acquire(60)
    admitted = threading.Event()
    thread = threading.Thread(target=lambda: budget.acquire(50) and admitted.set())
    thread.start()
    assert not admitted.wait(0.1)
    budget.free(60)
    assert admitted.wait(10)
    thread.join()
    assert budget.peak == 60


def test_what_never_fits_runs_alone() -> None:
    budget = Budget(100, slots=8, batch=32)
    assert budget.acquire(1000)
    budget.free(1000)
    assert budget.acquire(10)


def test_slots_are_taken_until_the_result_is() -> None:
    budget = Budget(100, slots=1, batch=32)
    assert budget.acquire(10)
    budget.free(10)
    admitted = threading.Event()
    thread = threading.Thread(target=lambda: budget.acquire(10) and admitted.set())
    thread.start()
    assert not admitted.wait(0.1)
    budget.taken()
    assert admitted.wait(10)
    thread.join()


def test_alone_waits_for_the_others_and_resume_is_smaller() -> None:
    budget = Budget(100, slots=8, batch=32)
    budget.acquire(40)
    waited = threading.Event()

    def be_alone() -> None:
        budget.alone()
        waited.set()

    thread = threading.Thread(target=be_alone)
    thread.start()
    assert not waited.wait(0.1)
    budget.free(40)
    assert waited.wait(10)
    thread.join()
    admitted = threading.Event()
    other = threading.Thread(target=lambda: budget.acquire(10) and admitted.set())
    other.start()
    assert not admitted.wait(0.1)
    budget.resume(batch=16)
    assert admitted.wait(10)
    other.join()
    assert (budget.batch, budget.limit) == (16, 50)


def test_close_wakes_who_waits() -> None:
    budget = Budget(100, slots=1, batch=32)
    budget.acquire(10)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(budget.acquire(10)))
    thread.start()
    budget.close()
    thread.join()
    assert answers == [False]
