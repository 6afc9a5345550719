"""The strict card (see strict.py) without memory: wherever it is refused, the photos come out as ever."""

from __future__ import annotations

import enum
import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.gpu.lane import CudaLane
from faceembed.engine.pipeline.shortage import is_out_of_memory
from faceembed.engine.runtimes import tensorrt_lane
from faceembed.errors import DeviceError
from tests.engine.pipeline.gpu.test_strict import (  # noqa: F401 - fixtures
    Fit,
    Opened,
    album,
    differences,
    emulator,
    expected,
    fit,
    known,
    mutated,
    opened,
)


@pytest.mark.parametrize("eager", [False, True])
def test_memory_that_is_refused_anywhere_costs_nothing(
    opened: Callable[..., Opened],  # noqa: F811
    expected: dict[str, Any],  # noqa: F811
    album: list[PhotoFile],  # noqa: F811
    eager: bool,
) -> None:
    """At the first allocation, at the last, and between: in each stage, and while halves are made once more."""
    path = opened(eager=eager)
    before = path.card.allocations
    assert differences(list(path.pipeline.run(album)), expected) == 0
    count = path.card.allocations - before
    for number in sorted({1, count // 3, 2 * count // 3, count}):
        halvings = path.pipeline.halvings
        path.card.refused = frozenset({path.card.allocations + number})
        outcomes = list(path.pipeline.run(album))
        assert differences(outcomes, expected) == 0, number
        assert [photo.path for outcome in outcomes for photo in outcome.photos] == [photo.path for photo in album]
        assert path.pipeline.halvings == halvings + 1, number


class Status(enum.IntEnum):
    """As `cuda.bindings.driver.CUresult`."""

    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


@pytest.mark.parametrize(
    ("status", "memory"), [(Status.CUDA_ERROR_OUT_OF_MEMORY, True), (Status.CUDA_ERROR_ILLEGAL_ADDRESS, False)]
)
def test_a_card_that_is_lost_is_not_one_without_memory(
    fit: Fit,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    status: Status,
    memory: bool,
) -> None:
    """Batches are halved for want of memory alone."""
    fit()
    lane = CudaLane()
    array = lane.empty((4,), np.uint8)
    monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuMemsetD8Async", lambda *_: (status,))
    with pytest.raises(DeviceError, match=rf"CUDA's cuMemsetD8Async failed with .*{status.name}") as raised:
        lane.fill(array, 0)
    assert is_out_of_memory(raised.value) == memory


@pytest.mark.parametrize("missing", ["", "bind", "clear"])
def test_no_context_goes_while_it_works(
    opened: Callable[..., Opened],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """Where another shape needs its place, and where all memory is asked back; without the wait of either it is noticed."""
    path = opened()
    backend, session = path.backend, path.pipeline.detector.sessions[0]
    monkeypatch.setattr(tensorrt_lane, "_SHAPES", 1)
    if missing:
        without = mutated(tensorrt_lane.Lane, missing, "self._stream.sync()", "pass")
        monkeypatch.setattr(tensorrt_lane.Lane, missing, without)

    def work() -> None:
        with backend.lane("detect"):
            for side in (64, 96):
                backend.run(session, backend.upload(np.zeros((2, side, side, 3), np.uint8)))
            session.release()
            gc.collect()
            backend.wait()

    if missing:
        with pytest.raises(AssertionError, match="a context is gone before its work is done"):
            work()
    else:
        work()
