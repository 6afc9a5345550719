"""The arithmetic of the measurements, with stages whose speed is known."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.verbs import bench
from faceembed.errors import UsageError


@dataclasses.dataclass
class Stages:
    """Stands in for a pipeline: two stages that only wait."""

    workers: int = 2
    decoded_bytes: int = 0
    most: int = 0
    """Most batches that were between the stages at a time."""
    between: int = 0

    def batches(self, photos: list[PhotoFile]) -> list[list[PhotoFile]]:
        return [photos[start : start + 4] for start in range(0, len(photos), 4)]

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        def read(batch: list[PhotoFile]) -> list[Stages]:
            return [self] * len(batch)

        def decode(batch: list[Stages]) -> list[Stages]:
            time.sleep(0.01)
            self.between += 1
            self.most = max(self.most, self.between)
            return batch

        def encode(batch: list[Stages]) -> None:
            time.sleep(0.02)
            self.between -= 1

        return {"read": read, "decode": decode, "encode": encode}


PHOTOS = [PhotoFile(f"{number}.jpg", 1, 1) for number in range(50)]


def test_seconds_of_each_stage_alone() -> None:
    steps: list[int] = []
    seconds = bench.stage_seconds(cast(Pipeline, Stages()), PHOTOS, steps.append)
    assert sum(steps) == 50
    assert list(seconds) == ["read", "decode", "encode"]
    # 13 batches on two threads: 4 rounds for the first 8, 3 for the other 5
    assert 0.07 <= seconds["decode"] < 0.14
    assert 0.14 <= seconds["encode"] < 0.28


def test_memory_is_bounded() -> None:
    stages = Stages(decoded_bytes=1 << 28)  # four photos make a batch of 1 GiB
    bench.stage_seconds(cast(Pipeline, stages), PHOTOS)
    assert stages.most == 1
    stages = Stages()
    bench.stage_seconds(cast(Pipeline, stages), PHOTOS)
    assert stages.most == bench.BATCHES_PER_WORKER * stages.workers


def test_sharing_bound() -> None:
    assert bench.sharing_bound({"a": 100.0}) == 100
    assert bench.sharing_bound({"a": 300.0, "b": 150.0}) == pytest.approx(100)


def test_photos_are_taken_evenly_or_repeated() -> None:
    assert [photo.path for photo in bench._choose(PHOTOS, 5)] == ["0.jpg", "10.jpg", "20.jpg", "30.jpg", "40.jpg"]
    assert bench._choose(PHOTOS, 50) == PHOTOS
    assert bench._choose(PHOTOS[:2], 5) == [*PHOTOS[:2], *PHOTOS[:2], PHOTOS[0]]


@pytest.mark.parametrize("wrong", [{"count": 0}, {"rounds": 0}])
def test_wrong_settings(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        bench.bench(["."], **wrong)
