"""`faceembed data faces` and `train aligner`: from photos to an aligner that `embed` takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

TINY = (
    "--set=loop.steps=2",
    "--set=loop.batch_size=4",
    "--set=loop.threads=1",
    "--set=scenes.side=96",
    "--set=refiner.steps=2",
    "--set=refiner.batch_size=4",
    "--set=refiner.false_scenes=32",
    "--set=data.workers=0",
    "--set=data.groups=[]",
    "--set=data.shares=[]",
)


@pytest.fixture(scope="module")
def people(make_faces: Callable[[Path, int], list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of ann, one of bob, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("people")
    photos = make_faces(folder / "all", 4)
    for photo, person in zip(photos, ("ann", "ann", "ann", "bob"), strict=True):
        (folder / "people" / person).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / "people" / person)
    (folder / "people" / "ann" / "broken.jpg").write_bytes(b"no photo")
    return folder / "people"


def test_photos_become_labels_and_labels_an_aligner(run: Any, run_json: Any, people: Path, tmp_path: Path) -> None:
    from faceembed.trainer.aligner.labels import read_labels

    labels = tmp_path / "labels.parquet"
    found = run_json("data", "faces", people, "-o", labels, "--aligner", "mtcnn", "--group", "us")
    assert (found["photos"], found["failed"], found["aligner"]) == (4, 1, "mtcnn")
    assert found["faces"] >= 3 and found["faces"] + found["doubtful"] >= 4
    assert "broken.jpg" in (tmp_path / "labels.errors.csv").read_text()
    photos = read_labels(labels)
    assert {photo.group for photo in photos} == {"us"}
    face = next(photo for photo in photos if len(photo.boxes))
    left, right, nose, *mouth = face.landmarks[0]
    assert left[0] < right[0] and left[1] < nose[1] < np.mean([point[1] for point in mouth])

    both = run_json(
        "data",
        "faces",
        people / "ann",
        "-o",
        tmp_path / "both.parquet",
        "--aligner",
        "mtcnn",
        "--aligner",
        "faceembed-align",
    )
    assert (both["aligner"], both["photos"], both["failed"]) == ("mtcnn + faceembed-align", 3, 1)
    assert both["faces"] >= 2
    none = run_json("data", "faces", people / "ann", "-o", tmp_path / "none.parquet", "--group", "empty", "--nobody")
    assert (none["photos"], none["faces"], none["doubtful"], none["failed"], none["aligner"]) == (3, 0, 0, 1, "")
    twice = run("data", "faces", people, "-o", labels, "--aligner", "mtcnn", "--aligner", "mtcnn", code=2)
    assert "--aligner mtcnn is given twice" in twice.stderr

    run_folder = tmp_path / "run"
    trained = run_json("train", "aligner", "--labels", labels, "-o", run_folder, "--name", "mine", *TINY)
    assert (trained["name"], trained["steps"], trained["path"]) == ("mine", 2, str(run_folder / "mine.onnx"))
    again = run_json("train", "aligner", "--labels", labels, "-o", run_folder, "--name", "mine", *TINY)
    assert again["sha256"] == trained["sha256"]
    report = run_json("embed", people / "bob", "-o", tmp_path / "b.faiss", "--aligner", run_folder / "mine.onnx")
    assert (report["images"], report["failed"], report["aligner"]) == (1, 0, "mine")


def test_who_is_left_out(run: Any, run_json: Any, people: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.parquet"
    (tmp_path / "pairs.csv").write_text("path_a,path_b,label\nann/0000.jpg,ann/0001.jpg,1\n")
    left = run_json(
        "data", "faces", people, "-o", labels, "--aligner", "mtcnn", "--exclude-pairs", tmp_path / "pairs.csv"
    )
    assert (left["photos"], left["failed"]) == (1, 0)
    assert not (tmp_path / "labels.errors.csv").exists()
    split = '{"seed": 1, "train": ["ann"], "validate": [], "test": ["bob"]}'
    (tmp_path / "split.json").write_text(split)
    part = run_json(
        "data",
        "faces",
        people,
        "-o",
        labels,
        "--aligner",
        "mtcnn",
        "--split",
        tmp_path / "split.json",
        "--part",
        "test",
    )
    assert part["photos"] == 1
    nobody = run(
        *("data", "faces", people, "-o", labels, "--split", tmp_path / "split.json", "--part", "validate"), code=1
    )
    assert "none of 5 photos is of somebody who may be learnt from" in nobody.stderr


def test_mistakes(run: Any, people: Path, tmp_path: Path) -> None:
    none = run("data", "faces", people, "-o", tmp_path / "l.parquet", "--aligner", "none", code=2)
    assert "--aligner none finds no faces" in none.stderr
    lost = run("train", "aligner", "--labels", tmp_path / "none.parquet", "-o", tmp_path / "run", code=1)
    assert "none.parquet is not a file of face labels" in lost.stderr
    wrong = run("train", "aligner", "-o", tmp_path / "run", "--set", "loop.stepz=3", code=2)
    assert "did you mean 'loop.steps'?" in wrong.stderr
    size = run("embed", people, "-o", tmp_path / "x.faiss", "--aligner", "mtcnn", "--detect-size", "320", code=2)
    assert "leave --detect-size out" in size.stderr
