"""The benchmark's own arithmetic, its peer, and a whole run with a stand-in for `faceembed embed`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.evaluate.pairs import Pair, PairList

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
import accuracy
import common
import processes
import turns


def figures(**changed: float) -> dict[str, float]:
    same = {"seconds": 1.0, "rate": 10.0, "rate_without_start": 12.0, "cpu_per_photo": 0.1, "max_rss": 5.0}
    return same | {"peak_memory": 100.0, "detection_rate": 0.5} | changed


def pair_list(pairs: list[tuple[str, str, bool]]) -> PairList:
    return PairList("test", tuple(Pair(a, b, same, "same" if same else "other") for a, b, same in pairs))


def test_ratio_is_the_median_of_the_rounds_and_not_of_the_sides() -> None:
    rounds = [
        {"peer": figures(rate=10.0), "ours": figures(rate=60.0)},
        {"peer": figures(rate=5.0), "ours": figures(rate=35.0)},  # a slow minute of the machine, for both
        {"peer": figures(rate=10.0), "ours": figures(rate=80.0)},
    ]
    summary = turns.summarise(rounds)
    assert summary["ratio"]["rate"] == {"median": 7.0, "low": 6.0, "high": 8.0}
    assert summary["peer"]["rate"] == 10.0
    assert summary["ratio"]["detection_rate"]["median"] == 1.0


def test_ratio_is_left_out_where_the_peer_has_nothing() -> None:
    summary = turns.summarise([{"peer": figures(detection_rate=0.0), "ours": figures()}])
    assert "detection_rate" not in summary["ratio"]


def test_failed_pair_scores_lowest() -> None:
    pairs = pair_list([("a", "b", True), ("a", "missing", True), ("a", "c", False)])
    found = {name: np.array(v, np.float32) for name, v in {"a": (2, 0), "b": (1, 0), "c": (-3, 0)}.items()}
    assert accuracy.pair_scores(pairs, found).tolist() == pytest.approx([1.0, -1.0, -1.0])
    assert accuracy.pair_scores(pairs, found, euclidean=True).tolist() == pytest.approx([-1.0, -6.0, -5.0])


def test_compare_counts_failures_and_prefers_the_better_encoder() -> None:
    rng = np.random.default_rng(1)
    people = rng.normal(size=(40, 8))
    pairs = pair_list(
        [(f"{i}a", f"{i}b", True) for i in range(40)] + [(f"{i}a", f"{i - 1}b", False) for i in range(40)]
    )
    photos = {f"{i}{letter}": people[i] for i in range(40) for letter in "ab"} | {"-1b": people[39]}

    def noisy(noise: float) -> dict[str, Any]:
        return {name: (v + noise * rng.normal(size=8)).astype(np.float32) for name, v in photos.items()}

    peer = noisy(1.5)
    del peer["0a"]
    result = accuracy.compare(pairs, peer, noisy(0.1))
    assert result["no_face"] == {"peer": 1, "ours": 0}
    assert result["ours_cosine"]["eer"] < result["peer_euclidean"]["eer"]
    assert result["difference_ci95"][1] < 0 and result["ratio"] < 1


def test_subset_of_pairs_keeps_both_labels() -> None:
    pairs = pair_list([(f"{i}", "x", i % 20 < 10) for i in range(200)])
    few = accuracy.take_pairs(pairs, 20)
    assert len(few) == 20 and few.labels.sum() == 10


def test_sample_is_the_same_every_time() -> None:
    names = [f"{i}.jpg" for i in range(50)]
    assert common.sample(names, 5) == common.sample(names, 5) != common.sample(names, 5, seed=1)
    assert common.sample(names, 0) == names


def test_measure_sees_the_memory_of_children() -> None:
    child = "x = b'1' * (80 << 20); import time; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('{{\"seconds\": 1}}')"
    measured = processes.measure([sys.executable, "-c", parent])
    assert 80 * common.MIB < measured.peak_pss_bytes < 200 * common.MIB
    assert measured.json() == {"seconds": 1} and 0.5 < measured.seconds < 10


def test_measure_reports_why_a_program_failed() -> None:
    with pytest.raises(common.BenchmarkError, match="ended with 3: no such thing"):
        processes.measure([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_measure_kills_when_told() -> None:
    measured = processes.measure([sys.executable, "-c", "while True: pass"], kill_when=lambda cpu: cpu > 0.2)
    assert measured.returncode == -9 and 0.2 < measured.cpu_seconds < 5


def test_peer_finds_the_astronaut(photos: Path) -> None:
    pytest.importorskip("dlib")
    from peer_face_recognition import Peer, read_photo

    peer = Peer()
    first, second = (peer.embed(read_photo(photos / "lfw/Ann" / f"Ann_000{i}.jpg")) for i in (1, 2))
    assert first is not None and second is not None
    assert np.linalg.norm(first - second) < 0.4  # face_recognition calls 0.6 the same person
    assert peer.embed(read_photo(photos / "lfw/Bob/Bob_0001.jpg")) is None


def test_whole_run_with_a_stand_in(photos: Path, stub: str, tmp_path: Path) -> None:
    pytest.importorskip("dlib")
    out, picture = tmp_path / "vs.json", tmp_path / "vs.png"
    command = [
        sys.executable,
        str(BENCHMARKS / "vs_face_recognition.py"),
        "--sets",
        "lfw",
        "--rounds",
        "1",
        "--times",
        "2",
        "--workers",
        "1",
    ]
    command += ["--embed-command", stub, "--json", str(out), "--plot", str(picture)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.strip().splitlines()[-1])
    assert document == json.loads(out.read_text(encoding="utf-8"))
    entry = document["sets"]["lfw"]
    assert entry["photos"] == 6  # each of three photos twice
    assert entry["peer"]["detection_rate"] == pytest.approx(2 / 3) and entry["ours"]["detection_rate"] == 1.0
    assert entry["ratio"]["rate"]["median"] > 0 and entry["peer"]["peak_memory"] > 0
    assert document["eer"]["peer_euclidean"]["eer"] == 0 and document["eer"]["no_face"] == {"peer": 1, "ours": 0}
    assert picture.stat().st_size > 10_000
