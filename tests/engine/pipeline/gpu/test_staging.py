"""Uploads from page-locked memory, on the strict card (see strict.py): the host does not wait, and no picture is overwritten on its way."""

from __future__ import annotations

import numpy as np
import pytest

from faceembed.engine.pipeline.gpu import staging
from faceembed.engine.pipeline.gpu.lane import CudaLane
from faceembed.engine.pipeline.gpu.staging import Staging
from tests.engine.pipeline.gpu.strict import STAGED
from tests.engine.pipeline.gpu.test_strict import Fit, emulator, fit, mutated  # noqa: F401 - fixtures


def pictures(count: int, side: int = 100) -> list[np.ndarray]:
    assert 3 * side * side > STAGED
    return [np.full((side, side, 3), number + 1, np.uint8) for number in range(count)]


def test_uploads_wait_for_nothing(fit: Fit) -> None:  # noqa: F811
    card = fit()
    lane = CudaLane()
    given = pictures(5)
    there = [lane.upload(picture) for picture in given]
    assert card.waits == 0
    for array, picture in zip(there, given, strict=True):
        assert array.shape == picture.shape
        np.testing.assert_array_equal(lane.get(array), picture)
    held = lane.staging.nbytes
    for picture in given:
        np.testing.assert_array_equal(lane.get(lane.upload(picture)), picture)
    assert lane.staging.nbytes == held == 5 * staging.LEAST  # pieces are used again
    turned = given[0][:, ::-1]  # not contiguous
    np.testing.assert_array_equal(lane.get(lane.upload(turned)), turned)
    assert lane.upload(np.zeros((0, 4, 3), np.uint8)).shape == (0, 4, 3)
    lane.staging.release()
    assert lane.staging.nbytes == 0


def test_a_piece_in_use_is_nobody_elses(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    fit()
    monkeypatch.setattr(Staging, "take", mutated(Staging, "take", "if event.is_done", "if True"))
    lane = CudaLane()
    first, second = pictures(2)
    there = lane.upload(first)
    lane.upload(second)
    assert not np.array_equal(lane.get(there), first)


def test_what_is_released_in_use_would_be_noticed(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """`release` keeps what the stream has yet to read."""
    for missing in (False, True):
        fit()
        if missing:
            monkeypatch.setattr(Staging, "release", mutated(Staging, "release", "if not event.is_done", "if False"))
        lane = CudaLane()
        (picture,) = pictures(1)
        there = lane.upload(picture)
        lane.staging.release()
        assert np.array_equal(lane.get(there), picture) != missing


def test_memory_of_the_host_is_bounded(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Beyond the limit the driver copies, and waits; a piece that is done makes room for a larger one."""
    card = fit()
    monkeypatch.setattr(staging, "LIMIT", 2 * staging.LEAST)
    lane = CudaLane()
    given = pictures(4)
    there = [lane.upload(picture) for picture in given]
    assert card.waits == 1 and lane.staging.nbytes == 2 * staging.LEAST  # after its wait pieces are free again
    for array, picture in zip(there, given, strict=True):
        np.testing.assert_array_equal(lane.get(array), picture)
    large = np.random.default_rng(1).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    waits = card.waits
    array = lane.upload(large)
    assert card.waits == waits and lane.staging.nbytes == 2 * staging.LEAST
    np.testing.assert_array_equal(lane.get(array), large)
