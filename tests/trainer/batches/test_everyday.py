"""What happens to honest photos: each change on its own, on a real face; none moves it, none is the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from faceembed.engine.models import dlib_resnet
from faceembed.trainer.batches import everyday as module
from faceembed.trainer.batches.augment import generator
from faceembed.trainer.batches.everyday import dark_glasses, everyday, mouth_mask

POINTS = np.array(dlib_resnet.TEMPLATE)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[25:175, 150:300])


def test_the_generator_alone_decides(face: np.ndarray) -> None:
    kept = face.copy()
    made = [everyday(face, POINTS, generator(number), cover=0.2) for number in range(40)]
    again = [everyday(face, POINTS, generator(number), cover=0.2) for number in range(40)]
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True)) and np.array_equal(face, kept)
    assert all(crop.shape == face.shape and crop.dtype == np.uint8 for crop in made)
    changed = [not np.array_equal(crop, face) for crop in made]
    assert 0.5 < np.mean(changed) < 1.0  # many photos come as they are


def test_nothing_moves_the_face(face: np.ndarray) -> None:
    """Of the picture shifted by a pixel each way, the one that lies nearest is the unshifted."""
    nearest = []
    for number in range(60):
        made = everyday(face, POINTS, generator(number)).astype(float)
        errors = {
            (dy, dx): np.abs(np.roll(made, (dy, dx), (0, 1)) - face)[8:-8, 8:-8].mean()
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        }
        nearest.append(min(errors, key=lambda shift: errors[shift]) == (0, 0))
    assert np.mean(nearest) >= 0.95


@pytest.mark.parametrize(
    ("cover", "hidden", "seen"),
    [(dark_glasses, (slice(35, 52), slice(35, 57)), (slice(90, 140), slice(40, 110))),
     (mouth_mask, (slice(98, 112), slice(52, 97)), (slice(0, 40), slice(0, 150)))],
)  # fmt: skip
def test_covers_hide_their_part_alone(cover: object, hidden: object, seen: object, face: np.ndarray) -> None:
    for number in range(12):
        made = cover(face, POINTS, generator(number))  # type: ignore[operator]
        moved = np.abs(made.astype(int) - face)
        assert moved[hidden].mean() > 20 and moved[seen].mean() < 1  # type: ignore[index]


def test_covers_come_as_often_as_asked(face: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for name in ("dark_glasses", "mouth_mask"):
        monkeypatch.setattr(module, name, lambda crop, points, rng, name=name: drawn.append(name) or crop)
    for number in range(400):
        everyday(face, POINTS, generator(number), cover=0.25)
    assert 70 < len(drawn) < 130 and 25 < drawn.count("mouth_mask") < 75
    drawn.clear()
    everyday(face, POINTS, generator(0), cover=0.0)
    assert not drawn
