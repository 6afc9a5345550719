"""The front end's clock, and a run of the benchmark on the sample photos."""

from __future__ import annotations

import time

import front_end
import pytest

from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.choose import RuntimeSettings


def test_a_part_within_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    clock = front_end.Clock()
    with clock.part("outer"), clock.part("inner"):
        pass
    assert dict(clock.seconds) == {"inner": 2.0, "outer": 8.0}


def test_every_part_is_seen() -> None:
    settings = EmbedSettings(runtime=RuntimeSettings(device="cpu", precision="fp32", threads=1))
    found = front_end.measure(sample_photos(), count=4, rounds=1, settings=settings)
    assert (found["photos"], found["faces"]) == (4, 4)
    parts = found["microseconds"]
    assert set(parts) == set(front_end.PARTS)
    assert all(parts[name] > 0 for name in front_end.PARTS if name != "second look, network")
    assert set(found["flops_per_second"]) >= {"first look, network", "refiner, network", "encoder"}
    assert parts["encoder"] == max(parts.values())
