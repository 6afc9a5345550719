"""The benchmark of Python's own share: the whole verb with a card that computes nothing, in one process and in two."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

gpu_host = pytest.importorskip("gpu_host")
ROOT = Path(__file__).parents[2]


def test_both_numbers_of_processes(tmp_path: Path, make_faces: Callable[[Path, int], list[Path]]) -> None:
    (tmp_path / "photos").mkdir()
    make_faces(tmp_path / "photos", 4)
    words = ["--photos", tmp_path / "photos", "--count", "700", "--rounds", "1", "--before", sys.executable]
    command = [sys.executable, ROOT / "benchmarks" / "gpu_host.py", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    builds = json.loads(done.stdout.splitlines()[-1])["builds"]
    assert list(builds) == ["before", "this build, 1 process", "this build, 2 processes"]
    assert builds["before"]["over_before"]["median"] == 1
    for entry in builds.values():
        assert entry["photos_per_second"]["median"] > 0
    two = builds["this build, 2 processes"]
    assert two["on_free_cores"] == 2 * two["photos_per_processor_second"]["median"]
    assert "over before" in done.stdout


def test_a_build_that_fails_ends_it_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(gpu_host.BenchmarkError, match="ended with code 3: no such thing"):
        gpu_host.once([sys.executable, "-c", "import sys; sys.stderr.write('no such thing'); sys.exit(3)"])


@pytest.mark.parametrize(
    ("build", "processes"),
    [("before", 1), ("this build, hnsw", 1), ("this build, 1 process", 1), ("this build, 12 processes", 12)],
)
def test_rates_on_free_cores_are_those_of_all_processes(build: str, processes: int) -> None:
    told = {"photos_per_second": 10.0, "photos_per_processor_second": 5.0, "index_seconds": 1.0}
    assert gpu_host.summary({build: [told]})[build]["on_free_cores"] == 5.0 * processes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--processes", "0"), "give at least 1 round, 64 photos and 1 process"),
        (("--rounds", "0"), "give at least 1 round, 64 photos and 1 process"),
        (("--count", "0"), "give at least 1 round, 64 photos and 1 process"),
        (("--scratch", "nowhere"), "--scratch nowhere is not a folder"),
        (("--before", "no/python", "--count", "64"), "no/python does not start: No such file or directory"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a photo, as far as this goes")
    monkeypatch.setattr(sys, "argv", ["gpu_host.py", "--photos", str(tmp_path), *words])
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        gpu_host.main()
