"""`faceembed search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo without a face."""
    import cv2
    import numpy as np

    path = tmp_path_factory.mktemp("blank") / "blank.png"
    cv2.imwrite(str(path), np.full((80, 80, 3), 255, np.uint8))
    return path


def test_hits_and_reasons(run_json: Any, built: Path, small: Path, blank: Path) -> None:
    found, without = run_json("search", built, small / "small.jpg", blank, "-k", "1")
    assert set(found) == {"query", "face", "faces", "real", "altered", "track", "threshold", "hits"}
    assert found["query"] == str(small / "small.jpg")
    (hit,) = found["hits"]
    assert set(hit) == {"path", "face", "similarity", "same", "identity", "real", "altered", "track"}
    assert hit["same"] and hit["identity"] == pytest.approx(1, abs=2e-3) and found["real"] > 0.5 and hit["real"] > 0.5
    assert found["altered"] is hit["altered"] is False
    assert hit["path"] == found["query"]
    assert hit["similarity"] == pytest.approx(1, abs=2e-3)
    assert without["hits"] == []
    assert "no face" in without["reason"]


def test_text_has_a_line_a_hit(run: Any, built: Path, small: Path) -> None:
    lines = run("search", built, small / "small.jpg", "-q").stdout.splitlines()
    assert lines[0] == str(small / "small.jpg")
    assert len(lines) == 3
    assert lines[1].split() == ["1.0000", str(small / "small.jpg")]


def test_hits_below_the_threshold_are_marked(run: Any, run_json: Any, built: Path, small: Path) -> None:
    lines = run("search", built, small / "small.jpg", "--threshold", "0.9999", "-q").stdout.splitlines()
    assert "below" not in lines[1] and "below the threshold of 0.9999, by identity 0." in lines[2]
    (found,) = run_json("search", built, small / "small.jpg", "--threshold", "0.9999")
    assert [hit["same"] for hit in found["hits"]] == [True, False]


@pytest.fixture(scope="module")
def two_faces(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    """A photo with a face twice, the second time smaller."""
    import cv2
    import numpy as np

    path = tmp_path_factory.mktemp("two") / "two.png"
    one = cv2.imread(str(small / "small.jpg"))
    half = cv2.resize(one, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    both = np.zeros((one.shape[0], one.shape[1] + half.shape[1], 3), np.uint8)
    both[:, : one.shape[1]] = one
    both[: half.shape[0], one.shape[1] :] = half
    cv2.imwrite(str(path), both)
    return path


def test_several_faces(run: Any, run_json: Any, built: Path, small: Path, two_faces: Path) -> None:
    assert "  (2 faces, the largest is looked for)" in run("search", built, two_faces, "-q").stdout.splitlines()[0]
    found = run_json("search", built, two_faces, "--faces", "all", "-k", "1")
    assert [(one["face"], one["faces"], len(one["hits"])) for one in found] == [(0, 2, 1), (1, 2, 1)]
    said = run("verify", small / "small.jpg", two_faces, "-q").stdout
    assert f"{two_faces} has 2 faces, and the largest was taken; --faces all compares all" in said
    every = run_json("verify", small / "small.jpg", two_faces, "--faces", "all")
    assert every["faces"] == [1, 2] and every["chosen"][0] == 0
    assert [len(row) for row in every["similarities"]] == [2]
    assert every["similarity"] == pytest.approx(max(every["similarities"][0]), abs=1e-6)
    table = run("matrix", small / "small.jpg", two_faces, "-q").stdout.splitlines()
    assert table[-1] == "two.png has 2 faces, and the largest was taken"
    assert run_json("matrix", small / "small.jpg", two_faces)["faces"] == [1, 2]
    explained = run("explain", small / "small.jpg", two_faces, "-q").stdout
    assert f"{two_faces} has 2 faces, and the largest was taken" in explained.splitlines()
    text = run("verify", small / "small.jpg", two_faces, "--faces", "all", "-q").stdout
    assert "most alike: face 0 of 1 of " in text and "  face 0: " in text


def test_no_query_can_be_searched(run: Any, built: Path, blank: Path) -> None:
    result = run("search", built, blank, "--json", code=1)
    assert '"reason"' in result.stdout
    assert "none of the 1 query photos" in result.stderr


def test_bad_input(run: Any, built: Path, small: Path, tmp_path: Path) -> None:
    assert "no index at" in run("search", tmp_path / "nix.faiss", small, code=1).stderr
    assert "No such file" in run("search", built, tmp_path / "nix.jpg", code=1).stderr
    assert "no query photos" in run("search", built, tmp_path, code=1).stderr
    assert "-k" in run("search", built, small, "-k", "0", code=2).stderr
