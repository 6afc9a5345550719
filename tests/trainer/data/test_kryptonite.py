"""The challenge's answer: one row a pair in natural order, scores as `eval` gives them, -1 where there is no face."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.verbs.matrix import matrix
from faceembed.errors import DataError, PairListError
from faceembed.trainer.data.kryptonite import write_submission

MakeFaces = Callable[[Path, int], list[Path]]


@pytest.fixture
def test_set(tmp_path: Path, make_faces: MakeFaces, reuse_pipeline: Pipeline) -> Path:
    paths = make_faces(tmp_path / "made", 6)
    folder = tmp_path / "test"
    for name, (a, b) in {"10": (0, 1), "9": (2, 3), "002": (4, 5)}.items():
        (folder / name).mkdir(parents=True)
        shutil.copy(paths[a], folder / name / "0.jpg")
        shutil.copy(paths[b], folder / name / "1.jpg")
    return folder


def wall(path: Path) -> None:
    cv2.imwrite(str(path), np.full((100, 100, 3), 90, np.uint8))


def test_rows(test_set: Path, tmp_path: Path) -> None:
    wall(test_set / "9" / "1.jpg")
    report = write_submission(test_set, tmp_path / "answer.csv")
    assert (report.pairs, report.failed_pairs, list(report.failures)) == (3, 1, [str(test_set / "9" / "1.jpg")])
    lines = (tmp_path / "answer.csv").read_text().splitlines()
    assert lines[0] == "pair_id,similarity"
    assert [line.split(",")[0] for line in lines[1:]] == ["002", "9", "10"]
    assert lines[2] == "9,-1.00000000"
    for line, name in ((lines[1], "002"), (lines[3], "10")):
        result = matrix([test_set / name / "0.jpg", test_set / name / "1.jpg"])
        assert float(line.split(",")[1]) == pytest.approx(
            result.similarity[0, 1], abs=1e-4
        )  # batches round differently


def test_what_is_no_test_set(test_set: Path, tmp_path: Path) -> None:
    (test_set / "9" / "1.jpg").unlink()
    with pytest.raises(PairListError, match=r"expected '9' to hold 0.jpg and 1.jpg"):
        write_submission(test_set, tmp_path / "answer.csv")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path_a,path_b,label\na.jpg,b.jpg,1\n")
    with pytest.raises(PairListError, match="not a test folder of the challenge"):
        write_submission(pairs, tmp_path / "answer.csv")
    assert not (tmp_path / "answer.csv").exists()


def test_no_face_in_any_pair(test_set: Path, tmp_path: Path) -> None:
    for path in test_set.glob("*/0.jpg"):
        wall(path)
    with pytest.raises(DataError, match="not one of 3 pairs could be scored"):
        write_submission(test_set, tmp_path / "answer.csv")
    assert not (tmp_path / "answer.csv").exists()
