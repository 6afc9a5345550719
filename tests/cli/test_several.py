"""Where photos show several faces and the largest was taken, it is said once, with their number, and no photo is looked at twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceembed.engine.detect.oneshot import OneShotDetector

SAID = "2 photos show several faces; the largest was taken"


@pytest.fixture(scope="module")
def photos(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of two faces each, and one of one."""
    folder = tmp_path_factory.mktemp("several") / "photos"
    folder.mkdir()
    one = cv2.imread(str(small / "small.jpg"))
    assert one is not None
    cv2.imwrite(str(folder / "one.png"), one)
    cv2.imwrite(str(folder / "two.png"), np.hstack([one, one[:, ::-1]]))
    cv2.imwrite(str(folder / "beside.png"), np.hstack([one[:, ::-1], one]))
    return folder


@pytest.fixture
def pairs(photos: Path, tmp_path: Path) -> Path:
    rows = ["path_a,path_b,label", "one.png,two.png,1", "two.png,beside.png,1", "one.png,beside.png,0"]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos each call of the aligner was given."""
    calls: list[int] = []
    before = OneShotDetector.detect

    def detect(self: OneShotDetector, given: Any, smallest: Any, *, only_largest: bool) -> Any:
        calls.append(len(given))
        return before(self, given, smallest, only_largest=only_largest)

    monkeypatch.setattr(OneShotDetector, "detect", detect)
    return calls


FP32 = ("--precision", "fp32", "--workers", "1")


@pytest.mark.parametrize(("words", "looks"), [(("eval",), 3), (("attack", "noise", "--epsilon", "0.1"), 3)])
def test_eval_and_attack(
    run: Any, run_json: Any, photos: Path, pairs: Path, looked: list[int], words: tuple[str, ...], looks: int
) -> None:
    command = (*words, pairs, "--root", photos, *FP32, "-q")
    assert run_json(*command)["several_faces"] == 2
    assert sum(looked) == looks, "each photo once"
    assert run(*command).stdout.count(SAID) == 1


def test_compare_and_what_it_keeps(run: Any, run_json: Any, photos: Path, pairs: Path, tmp_path: Path) -> None:
    """A second run computes nothing, and says it all the same."""
    command = ("compare", "faceembed-r29", "--pairs", pairs, "--root", photos, *FP32, "-q", "--save", tmp_path / "kept")
    first, second = run_json(*command), run_json(*command)
    assert (first["several_faces"], second["several_faces"]) == (2, 2)
    assert second["encoders"][0]["reused"]
    assert run(*command).stdout.count(SAID) == 1


@pytest.mark.parametrize(("faces", "count"), [("largest", 2), ("all", 0)])
def test_embed(run: Any, run_json: Any, photos: Path, tmp_path: Path, faces: str, count: int) -> None:
    command = ("embed", photos, "--faces", faces, *FP32)
    assert run_json(*command, "-q", "-o", tmp_path / "a.faiss")["several_faces"] == count
    assert (SAID + "; --faces all takes all" in run(*command, "-o", tmp_path / "b.faiss").stdout) is bool(count)


@pytest.mark.parametrize("command", ["eval", "attack"])
def test_nothing_is_said_of_one_face_each(run: Any, small: Path, tmp_path: Path, command: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("path_a,path_b,label\nsmall.jpg,cropped.jpg,1\ncropped.jpg,cropped.jpg,0\n")
    words = (
        command,
        *(("noise", "--epsilon", "0.1") if command == "attack" else ()),
        path,
        "--root",
        small,
        *FP32,
        "-q",
    )
    assert "several faces" not in run(*words).stdout
