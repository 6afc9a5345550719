"""What the tests of training share: an architecture that trains in milliseconds, and crops of people who never lived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from faceembed.engine.models.spec import ModelSpec
from faceembed.trainer.backbones import registry
from faceembed.trainer.data.crops import Crop, CropInfo, write_crop, write_crops

SIDE = 24
TINY = ModelSpec(
    "tiny",
    "encoder",
    (SIDE, SIDE),
    dimension=16,
    template=((7.0, 9.0), (16.0, 9.0), (11.5, 13.0), (8.0, 17.0), (15.0, 17.0)),
)
MakeCrops = Callable[..., str]


class Tiny(nn.Sequential):
    """Two convolutions and an embedding layer."""

    def __init__(self, dimension: int) -> None:
        super().__init__(
            nn.Conv2d(3, 12, 3, stride=2, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, dimension),
        )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread: the same bits whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """An architecture 'tiny' for this test."""
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", registry.Architecture("tiny", Tiny, TINY, "7.weight"))
    return TINY


def face(person: int, photo: int, *, fake: bool = False) -> np.ndarray:
    """uint8 RGB (SIDE, SIDE, 3): four by four patches that are the person's, noise that is the photo's; a fake is striped."""
    patches = np.random.default_rng(person).integers(40, 216, (4, 4, 3)).astype(np.float32)
    pixels = cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    pixels = pixels + np.random.default_rng((person, photo)).normal(0, 12, pixels.shape)
    if fake:
        pixels[::2] += 20
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture
def make_crops(tmp_path: Path) -> MakeCrops:
    """Writes a crop set: ``make_crops("real", people=range(8), photos=5)`` gives its folder."""

    def make(
        name: str,
        *,
        people: Sequence[int] = range(8),
        photos: int = 5,
        methods: Sequence[str] = (),
        others: bool = False,
        spec: ModelSpec = TINY,
    ) -> str:
        folder = tmp_path / name
        rows = []
        for place, person in enumerate(people):
            for photo in range(photos):
                method = methods[photo % len(methods)] if methods else ""
                other = f"p{people[(place + 1) % len(people)]:02d}" if others else ""
                row = Crop(
                    f"p{person:02d}/{photo}.png",
                    f"/photos/{name}/{person}/{photo}.jpg",
                    f"p{person:02d}",
                    bool(methods),
                    method,
                    other,
                )
                path = folder / row.crop
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = face(person, photo + 100 * bool(methods), fake=bool(methods))
                write_crop(path, cv2.resize(pixels, spec.input_size[::-1]), format="png")
                rows.append(row)
        folder.mkdir(parents=True, exist_ok=True)
        height, width = spec.input_size
        write_crops(folder, rows, CropInfo(spec.name, spec.template, height, width, format="png"))
        return str(folder)

    return make
