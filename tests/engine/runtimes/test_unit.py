"""Unit length after every runtime, and rows that have none."""

from __future__ import annotations

import numpy as np
import pytest

from faceembed.engine.runtimes.unit import is_sound, to_unit


@pytest.mark.parametrize(
    ("row", "sound", "norm"),
    [
        ([3, 4, 0], True, 5),
        ([3e-4, 4e-4, 0], True, 5e-4),  # OpenVINO's own normalisation gives such a vector a length of 0.8
        ([3e25, 4e25, 0], True, 5e25),  # whose square float32 does not hold
        ([0, 0, 0], False, 0),
        ([1e-9, 0, 0], False, 0),
        ([np.nan, 1, 0], False, 0),
        ([np.inf, 1, 0], False, 0),
        ([3e38, 3e38, 3e38], False, 0),  # longer than float32 holds
    ],
)
def test_rows_get_unit_length_or_are_marked(row: list[float], sound: bool, norm: float) -> None:
    raw = np.array([row, [0, 0, 2]], np.float32)
    unit, norms = to_unit(raw)
    assert unit.dtype == norms.dtype == np.float32
    assert is_sound(unit).tolist() == [sound, True]
    assert norms.tolist() == pytest.approx([norm, 2], rel=1e-6)
    if sound:
        assert np.linalg.norm(unit[0].astype(np.float64)) == pytest.approx(1, abs=1e-7)
        assert unit[0] == pytest.approx(raw[0].astype(np.float64) / norm, rel=1e-6)
    else:
        assert not unit[0].any()
    assert unit[1].tolist() == [0, 0, 1]


def test_more_dimensions_are_one() -> None:
    assert to_unit(np.ones((2, 4, 1, 1), np.float32))[0].tolist() == [[0.5] * 4] * 2
    assert to_unit(np.zeros((0, 4), np.float32))[0].shape == (0, 4)
