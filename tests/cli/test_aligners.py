"""Every verb that looks at photos works with an aligner that is not the default: YuNet, out of its package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.models.registry import resolve

ALIGNER = ("--aligner", "yunet")


@pytest.fixture(scope="module")
def crowd(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one photo with two faces, of about 45 and 100 px."""
    astronaut = cv2.imread(str(samples / "astronaut.png"))
    head = astronaut[20:240, 110:330]
    photo = np.full((300, 500, 3), 140, np.uint8)
    photo[40:260, 250:470] = head
    photo[100:200, 60:160] = cv2.resize(head, (100, 100), interpolation=cv2.INTER_AREA)
    folder = tmp_path_factory.mktemp("crowd")
    cv2.imwrite(str(folder / "crowd.png"), photo)
    return folder


@pytest.mark.parametrize(
    ("words", "faces"),
    [([], 1), (["--faces", "all"], 2), (["--faces", "all", "--min-face", "80"], 1), (["--min-face", "200"], 0)],
)
def test_embed(run_json: Any, crowd: Path, tmp_path: Path, words: list[str], faces: int) -> None:
    report = run_json("embed", crowd, "-o", tmp_path / "a.faiss", *ALIGNER, *words)
    assert (report["faces"], report["no_face"], report["aligner"]) == (faces, int(faces == 0), "yunet")


def test_an_index_remembers_its_aligner(run: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    index = tmp_path / "a.faiss"
    run("embed", small, "-o", index, *ALIGNER)
    model = resolve("yunet", task="aligner")
    assert json.loads((tmp_path / "a.faiss.json").read_text())["aligner"] == {
        "name": "yunet",
        "sha256": model.spec.sha256,
    }
    assert run_json("embed", small, "-o", index, *ALIGNER)["skipped"] == 2
    refused = run("embed", small, "-o", index, code=1).stderr
    assert "yunet" in refused and "--fresh" in refused


def test_verify_matrix_and_explain(run_json: Any, small: Path, tmp_path: Path) -> None:
    photos = sorted(small.iterdir())
    verdict = run_json("verify", *photos, *ALIGNER)
    assert verdict["same"] is True
    matrix = run_json("matrix", *photos, *ALIGNER)
    assert matrix["similarity"][0][1] == pytest.approx(verdict["similarity"], abs=0.01)
    explained = run_json("explain", *photos, *ALIGNER, "--windows", "0.5")
    assert explained["similarity"] == pytest.approx(verdict["similarity"], abs=0.01)


def test_search_and_detect_size(run: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    index = tmp_path / "a.faiss"
    run("embed", small, "-o", index, *ALIGNER, "--detect-size", "160")
    shutil.copy(small / "small.jpg", tmp_path / "query.jpg")
    (answer,) = run_json("search", index, tmp_path / "query.jpg", *ALIGNER, "-k", "1")
    assert answer["hits"][0]["path"].endswith("small.jpg") and answer["hits"][0]["similarity"] > 0.97


def test_a_card_is_not_for_it(run: Any, small: Path, tmp_path: Path) -> None:
    refused = run("embed", small, "-o", tmp_path / "a.faiss", *ALIGNER, "--device", "cuda", code=1).stderr
    assert "aligner 'yunet' runs on the CPU only" in refused
