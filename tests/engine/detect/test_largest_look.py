"""Photos that would need a larger picture than a card takes: searched smaller, counted and said, and the run goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceembed.engine.detect.oneshot import OneShotDetector, OneShotSettings
from faceembed.engine.models.oneshot import CHANNELS, REFINED_CHANNELS, STRIDES
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.pipeline.gpu.pipeline import remarks
from faceembed.engine.runtimes.base import RuntimeChoice

MODEL = Model(ModelSpec("none", "aligner", (0, 0), decoder="one-shot"), "none.onnx")


class Empty:
    """A network that finds nothing, and remembers how large a picture it was given."""

    def __init__(self) -> None:
        self.sides: list[int] = []

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        count, height, width, _ = pixels.shape
        self.sides.append(max(height, width))
        return tuple(np.full((count, CHANNELS, height // s, width // s), -20, np.float32) for s in STRIDES)


class Refiner:
    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.zeros((len(pixels), REFINED_CHANNELS), np.float32),)


@pytest.mark.parametrize(
    ("device", "longer", "min_face", "largest", "capped"),
    [
        ("cuda:0", 3413, 20, 2048, 0),
        ("cuda:0", 3500, 20, 2048, 1),
        ("cuda:0", 6000, 30, 2048, 1),
        ("cuda:0", 6000, 150, 480, 0),
        ("cpu", 3500, 20, 2112, 0),
    ],
)
def test_the_second_look(device: str, longer: int, min_face: int, largest: int, capped: int) -> None:
    network = Empty()
    sessions: Any = (network, Refiner())
    detector = OneShotDetector(
        MODEL, RuntimeChoice("tensorrt", device, "fp16", ""), threads=1, settings=OneShotSettings(), sessions=sessions
    )
    faces = detector.detect([np.zeros((64, longer, 3), np.uint8)], [min_face], only_largest=True)
    assert len(faces) == 0 and max(network.sides) == largest
    assert detector.capped == capped


def test_it_is_said() -> None:
    (line,) = remarks({}, 0, 1200)
    assert line.startswith("1,200 photos searched at 2,048 pixels of their longer side, the most on a card")
    assert remarks({}, 0, 0) == []
