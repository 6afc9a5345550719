"""What the tests of fakes share: synthetic shots, and folders of people whose faces are found once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.trainer.data.fakes.mesh import fit_mesh, frontal
from faceembed.trainer.data.fakes.methods import Shot


@pytest.fixture(scope="session")
def make_shot() -> Callable[..., Shot]:
    """`make_shot(seed, height, width)`: a smooth random picture with five landmarks of a face somewhere in it."""

    def make(seed: int, height: int = 160, width: int = 190) -> Shot:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(30, 220, (9, 9, 3)).astype(np.float32)
        pixels = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
        angle, scale = rng.uniform(-0.3, 0.3), rng.uniform(26, 34)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
        points = frontal()[:5] + rng.normal(0, 0.02, (5, 2))
        centre = np.array([width / 2, height / 2 - 14]) + rng.uniform(-8, 8, 2)
        return Shot(pixels, fit_mesh(points @ turn.T + centre))

    return make


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """Six folders of two different photos of the astronaut; one more folder holds a picture without a face."""
    root = tmp_path_factory.mktemp("people") / "people"
    rng = np.random.default_rng(0)
    for number in range(12):
        turned = cv2.getRotationMatrix2D((226, 130), float(rng.uniform(-8, 8)), float(rng.uniform(0.75, 1.0)))
        view = cv2.warpAffine(astronaut, turned, (512, 300), borderMode=cv2.BORDER_REFLECT)[:260, 96:356]
        view = cv2.convertScaleAbs(view[:, ::-1] if number % 2 else view, alpha=float(rng.uniform(0.8, 1.1)))
        folder = root / f"person{number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.cvtColor(view, cv2.COLOR_RGB2BGR))
    (root / "nobody").mkdir()
    cv2.imwrite(str(root / "nobody" / "grey.jpg"), np.full((120, 120, 3), 128, np.uint8))
    return root
