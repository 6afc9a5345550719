"""The script for fifteen minutes of a card: its dry run passes without one, and a part that hangs or dies costs itself alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


def test_what_is_carried_is_small(tmp_path: Path) -> None:
    done, document = run("--pack", tmp_path / "carry", "--most", "3")
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "carry").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == document["bytes"] < 8 << 20
    assert len(files) == document["people"] == 3
    assert len(card_photos.mixed()) >= 40  # made on the spot


def test_every_kernel_is_compared() -> None:
    import card_kernels

    source = (ROOT / "engine" / "native" / "kernels.cu").read_text()
    import re

    there = set(re.findall(r"fe_[a-z]+", source))
    compared = {re.sub(r"_[fu]\d+$", "", name) for name in card_kernels.names()}
    assert compared == there
