"""The arithmetic of `benchmarks/min_score.py`: what is lost, what is false, which score is chosen."""

from __future__ import annotations

from pathlib import Path

import cv2
import min_score
import numpy as np
import pytest
from numpy.typing import NDArray

from faceembed.engine.pipeline.settings import EmbedSettings

WILD, LFW = min_score.MOST_LOST


def scores(wild: list[float], lfw: list[float], empty: list[float]) -> dict[str, NDArray[np.float64]]:
    return {WILD: np.array(wild), LFW: np.array(lfw), min_score.CHOSEN_ON: np.array(empty)}


@pytest.mark.parametrize(
    ("wild", "empty", "chosen"),
    [
        ([0.9] * 1000, [0.0, 0.45, 0.62], 0.63),  # the lowest of those that keep both out
        ([0.9] * 995 + [0.5] * 5, [0.45, 0.62], 0.63),  # 0.5 % may be lost
        ([0.9] * 994 + [0.5] * 6, [0.45, 0.62], 0.46),  # and no more: the second false face stays
        ([0.9] * 1000, [0.0, 0.0], 0.0),  # nothing to keep out
        ([0.0] * 500 + [0.9] * 500, [0.45], 0.46),  # photos without any face are no loss
    ],
)
def test_the_choice(wild: list[float], empty: list[float], chosen: float) -> None:
    assert min_score.choose(scores(wild, [0.99] * 1000, empty)) == pytest.approx(chosen)


def test_lfw_bounds_it_too() -> None:
    assert min_score.choose(scores([0.9] * 1000, [0.99] * 998 + [0.5] * 2, [0.45, 0.62])) == pytest.approx(0.46)


def test_what_is_counted() -> None:
    best = np.array([0.0, 0.3, 0.6, 0.9])
    assert min_score.counted(best, 0.6, empty=False)["count"] == 1  # 0.3; nothing was found in the first
    assert min_score.counted(best, 0.6, empty=True)["count"] == 2
    assert min_score.counted(best, 0.0, empty=True)["count"] == 3
    assert min_score.counted(np.zeros(0), 0.6, empty=True) == {"count": 0, "share": 0.0, "ci95": None}


def test_scores_of_pictures(tmp_path: Path, astronaut: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(tmp_path / "face.png"), astronaut[:256, 96:352, ::-1])
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((99, 99, 3), 90, np.uint8))
    (tmp_path / "text.jpg").write_text("no picture")
    paths = [str(tmp_path / name) for name in ("face.png", "wall.png", "text.jpg")]
    found = min_score.best_scores(EmbedSettings(faces="all", min_score=0.0), {"a": paths})["a"]
    assert len(found) == 2 and found[0] > 0.9 and found[1] == 0
