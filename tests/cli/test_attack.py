"""`faceembed attack noise`: on any runtime, without PyTorch; its files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from faceembed.engine.pipeline.settings import EmbedSettings


def test_noise_without_pytorch(pairs: Path, tmp_path: Path) -> None:
    """With a failure that counts, and neither PyTorch nor the trainer anywhere."""
    html, png = tmp_path / "noise.html", tmp_path / "noise.png"
    words = ["attack", "noise", str(pairs), "--json", "-q", "--epsilon", "0.05,0.5", "--workers", "1"]
    words += ["--html", str(html), "--png", str(png)]
    program = f"""
import sys
from faceembed.cli.main import main
main({words!r}, standalone_mode=False)
assert "torch" not in sys.modules
assert not [name for name in sys.modules if name.startswith("faceembed.trainer")]
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    document = json.loads(done.stdout)
    assert (document["method"], document["encoder"], document["precision"]) == (
        "noise",
        EmbedSettings().encoder,
        "fp32",
    )
    assert (document["pairs"], document["failed_pairs"]) == (5, 1)
    assert list(document["failures"]) == [str(pairs.parent / "grey.png")]
    clean, little, much = document["rows"]
    assert [row["epsilon"] for row in document["rows"]] == [0, 0.05, 0.5]
    assert clean["similarity"]["same"] > little["similarity"]["same"] > much["similarity"]["same"] + 0.01
    assert clean["fnmr"] >= 1 / 3  # the failure
    page = html.read_text(encoding="utf-8")
    assert f"{much['similarity']['same']:.3f}" in page and "grey.png" in page
    assert cv2.imread(str(png)) is not None


def test_both_runtimes_agree(pairs: Path, run_json: Callable[..., Any]) -> None:
    rows = [
        run_json("attack", "noise", pairs, "--epsilon", "0.2", "--runtime", runtime, "--workers", "1", "-q")["rows"]
        for runtime in ("openvino", "onnxruntime")
    ]
    for one, other in zip(*rows, strict=True):
        assert one["similarity"] == pytest.approx(other["similarity"], abs=1e-3)


def test_a_page_that_cannot_be_written(pairs: Path, run: Callable[..., Any]) -> None:
    result = run("attack", "noise", pairs, "--html", "no/such/folder/x.html", code=1)
    assert "no/such/folder/x.html" in result.stderr and result.stdout == ""
