"""`eval` from a pair list to metrics, scores and a report, on the astronaut and on LFW's own pairs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceembed.engine.evaluate.one_class import OneClassRates
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.verbs.evaluate import evaluate_pairs
from faceembed.errors import DataError, PairListError

MakeFaces = Callable[[Path, int], list[Path]]
pytestmark = pytest.mark.usefixtures("reuse_pipeline")


@pytest.fixture
def pairs(tmp_path: Path, make_faces: MakeFaces, astronaut: np.ndarray) -> Path:
    """Pairs of the astronaut with herself, and with her face stretched and in other colours for the other person."""
    make_faces(tmp_path, 8)
    for number in range(4):
        face = astronaut[40:230, 120 + 3 * number : 330 - 2 * number, ::-1]
        strange = cv2.resize(face[..., ::-1] // 2 + 40, (330, 240))
        cv2.imwrite(str(tmp_path / f"other{number}.jpg"), strange)
    rows = [("path_a", "path_b", "label")]
    rows += [(f"{n:04d}.jpg", f"{n + 2:04d}.jpg", "1") for n in range(5)]
    rows += [(f"{n:04d}.jpg", f"other{n}.jpg", "0") for n in range(4)]
    path = tmp_path / "pairs.csv"
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return path


def test_scores_are_cosines_of_the_photos(pairs: Path, tmp_path: Path) -> None:
    scores, report = tmp_path / "scores.csv", tmp_path / "report.html"
    result = evaluate_pairs(pairs, scores=scores, report=report)
    assert (result.pairs, result.positives, result.negatives) == (9, 5, 4)
    assert 0 <= result.eer <= 1
    with open(scores, newline="") as file:
        rows = list(csv.DictReader(file))
    same = [float(row["similarity"]) for row in rows if row["label"] == "1"]
    assert min(same) > 0.97
    assert "0004.jpg" in report.read_text() or "other3.jpg" in report.read_text()
    again = evaluate_pairs(read_pairs(scores))
    assert again.eer == result.eer


def test_photos_without_a_face_count(pairs: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0000.jpg"), np.zeros((90, 90, 3), np.uint8))
    counted = evaluate_pairs(pairs)
    assert counted.pairs == 9
    assert counted.failure_to_enrol == pytest.approx(1 / 11)
    skipped = evaluate_pairs(pairs, skip_failures=True)
    assert skipped.pairs == 7


def test_mistakes(pairs: Path, tmp_path: Path) -> None:
    text = pairs.read_text()
    pairs.write_text(text + "none.jpg,0001.jpg,1\n")
    with pytest.raises(PairListError, match=r"none\.jpg"):
        evaluate_pairs(pairs)
    pairs.write_text("".join(line for line in text.splitlines(keepends=True) if not line.endswith("0\n")))
    of_one_class = evaluate_pairs(pairs)
    assert isinstance(of_one_class, OneClassRates) and of_one_class.fnmr == 0
    with pytest.raises(DataError, match="both classes"):
        evaluate_pairs(pairs, report=tmp_path / "report.html")


@pytest.mark.data
def test_lfw_pairs(data: Path) -> None:
    """The first 60 same and 60 different pairs: an encoder that works tells them apart."""
    whole = read_pairs(data / "lfw_pairs.txt", root=data / "lfw")
    chosen = [pair for pair in whole if pair.label][:60] + [pair for pair in whole if not pair.label][:60]
    result = evaluate_pairs(PairList(whole.source, tuple(chosen)), settings=EmbedSettings())
    assert (result.positives, result.negatives) == (60, 60)
    assert result.eer <= 0.05
    assert result.failure_to_enrol <= 0.02
