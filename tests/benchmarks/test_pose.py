"""The benchmark of pitch: known spreads are found, and a head that nods is read as far as it nods."""

from __future__ import annotations

import numpy as np
import pose
import pytest

from faceembed.engine.pipeline.quality import NOSE


def test_spreads_within_and_between_people() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat([f"p{n}" for n in range(300)], 12)
    angles = np.repeat(rng.normal(0, 6, 300), 12) + rng.normal(0, 10, 3600)
    found = pose.spreads(angles, people)
    assert found["people"] == 300 and found["within"] == pytest.approx(10, rel=0.05)
    assert found["between"] == pytest.approx(6, rel=0.15) and found["share"] == pytest.approx(36 / 136, rel=0.25)
    assert pose.spreads(angles, np.array([*people[:-1], "alone"]))["people"] == 300, "eleven of the last are enough"


def test_a_head_that_nods() -> None:
    """A model of a head of five points, turned about the axis of its ears, seen from far away."""
    head = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.55, NOSE], [-0.4, 1, 0], [0.4, 1, 0]])
    nods = np.radians(np.arange(-15, 16, 5))
    seen = np.array([np.stack([head[:, 0], head[:, 1] * np.cos(a) + head[:, 2] * np.sin(a)], axis=1) for a in nods])
    angles, middle = pose.would_be_pitch(seen, np.ones(len(seen), bool))
    assert middle == pytest.approx(0.55, abs=0.01)
    np.testing.assert_allclose(angles, np.degrees(nods), atol=1)
