"""The script for fifteen minutes of a card: its dry run passes without one, and a part that hangs or dies costs itself alone."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
card_photos = pytest.importorskip("card_photos")


def run(*words: object) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "card.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def test_the_dry_run_passes(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI, which brings nvImageCodec, is not installed")
    done, document = run("--dry-run", "--json", tmp_path / "card.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "card.json").read_text()) == document
    parts = document["parts"]
    assert list(parts) == ["versions", "kernels", "decode", "networks", "path", "memory", "lanes"]
    assert {name: part.get("error") for name, part in parts.items()} == dict.fromkeys(parts)
    # The emulator computes the very same; refined landmarks pass through float32 sums of another order.
    assert max(kernel["largest"] for kernel in parts["kernels"].values() if isinstance(kernel, dict)) < 1e-3
    for name in ("nvImageCodec", "DALI"):
        pixels = parts["decode"][name]["pixels"]
        assert (pixels["largest"], pixels["refused"], pixels["turned or cut"]) == (0, ["broken table.jpg"], [])
    assert parts["decode"]["nvImageCodec, plain upsampling"]["pixels"]["largest"] > 10  # so the comparison sees it
    networks = [part for part in parts["networks"].values() if isinstance(part, dict)]
    assert len(networks) == 3 and min(entry["8"]["cosine_to_fp32"] for entry in networks) > 0.9999
    path = parts["path"]
    assert path["equal bits"] and path["cosine_to_processor"] >= 0.999
    assert path["faces"]["card"] == path["faces"]["processor"] > 0 and list(path["processes"]) == ["1", "2"]
    assert parts["memory"]["all there, in order"] and parts["memory"]["halvings"] > 0
    assert parts["lanes"]["lost bytes"] == 0


def test_a_part_that_takes_too_long_or_dies_costs_itself_alone(tmp_path: Path) -> None:
    done, document = run(
        "--dry-run", "--parts", "versions", "lanes", "--timeout", "0.01", "--json", tmp_path / "a.json"
    )
    assert done.returncode == 0
    assert all("over its time" in part["error"] for part in document["parts"].values()) and len(document["parts"]) == 2
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    _, document = run("--dry-run", "--parts", "decode", "versions", "--photos", tmp_path)
    assert (
        document["parts"]["decode"]["error"] == "ended with code 1"
        and "not a JPEG" in document["parts"]["decode"]["said"]
    )
    assert "error" not in document["parts"]["versions"]


def mixed() -> dict[str, bytes]:
    found: dict[str, bytes] = card_photos.mixed(Image.new("RGB", (512, 512), (90, 120, 60)))
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--dry-run", "--parts", "nonsense"),
            "error: no part is called 'nonsense'; there are versions, kernels, decode, ",
        ),
        (("--dry-run", "--photos", "nowhere"), "error: no photos in nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: tuple[str, ...], message: str) -> None:
    done, _ = run(*words)
    assert done.returncode == 1 and done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_bad_photos_among_good_ones_cost_themselves_alone(tmp_path: Path) -> None:
    for name, data in mixed().items():
        (tmp_path / name).write_bytes(data)
    photos = sorted(tmp_path.iterdir())
    first = [path.name for path in photos[:8]]
    assert "broken table.jpg" in first and "empty.jpg" in first
    found = card_photos.sound(photos, 8)
    assert len(found) == 8 and all(one.ndim == 3 for one in found)
    assert card_photos.plain(photos).size == (512, 512)  # of whatever is given: a user's card has no scikit-image


def test_a_script_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    """A part is a session of its own, which Ctrl-C does not reach: on a card it would keep its memory."""
    script = tmp_path / "card.py"
    script.write_text((ROOT / "benchmarks" / "card.py").read_text())
    told = tmp_path / "pid"
    (tmp_path / "card_parts.py").write_text(
        "import os, pathlib, time\n"
        "def hang(setup):\n"
        f"    pathlib.Path({str(told)!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "PARTS = {'hang': (hang, 500.0)}\n"
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'benchmarks'}"}
    words = [sys.executable, str(script), "--dry-run", "--photos", str(tmp_path / "a.jpg")]
    for ending in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: told.exists() and told.read_text() != "")
        part = Path(f"/proc/{told.read_text()}/stat")
        assert part.exists()
        process.send_signal(ending)
        assert process.wait(60) != 0
        wait_until(lambda part=part: not part.exists() or part.read_text().rpartition(")")[2].split()[0] == "Z")
        told.unlink()


def wait_until(true: Callable[[], bool]) -> None:
    last = time.monotonic() + 60
    while not true():
        assert time.monotonic() < last
        time.sleep(0.05)


def test_what_is_too_much_to_carry_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels that lie in the folder count, and so does a file of photos packed before."""
    card = pytest.importorskip("card")
    photo = tmp_path / "a.jpg"
    photo.write_bytes(mixed()["turned 1.jpg"])
    pack = tmp_path / "carry"
    pack.mkdir()
    (pack / "a.whl").write_bytes(bytes(1 << 20))
    args = argparse.Namespace(pack=pack, photos=[photo], most=5)
    monkeypatch.setattr(card, "LIMIT_BYTES", 1 << 20)
    with pytest.raises(card.BenchmarkError, match="too much to carry, 1 may be; give a smaller --most"):
        card.pack(args)
    assert [path.name for path in pack.rglob("*")] == ["a.whl"]
    monkeypatch.setattr(card, "LIMIT_BYTES", 32 << 20)
    assert card.pack(args)["bytes"] == sum(path.stat().st_size for path in pack.rglob("*") if path.is_file())
    with pytest.raises(card.BenchmarkError, match="people is there already; take it away"):
        card.pack(args)


def test_what_is_carried_is_small(tmp_path: Path) -> None:
    done, document = run("--pack", tmp_path / "carry", "--most", "3")
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "carry").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == document["bytes"] < 8 << 20
    assert len(files) == document["people"] == 3
    assert len(mixed()) >= 40  # made on the spot


def test_every_kernel_is_compared() -> None:
    import card_kernels

    source = (ROOT / "engine" / "native" / "kernels.cu").read_text()
    import re

    there = set(re.findall(r"fe_[a-z]+", source))
    compared = {re.sub(r"_[fu]\d+$", "", name) for name in card_kernels.names()}
    assert compared == there
