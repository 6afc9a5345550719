"""`faceembed explain`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from faceembed.engine.pipeline.settings import EmbedSettings


def test_occlusion_without_pytorch(small: Path, tmp_path: Path) -> None:
    words = [
        "explain",
        str(small / "small.jpg"),
        str(small / "cropped.jpg"),
        "--windows",
        "0.4",
        "--workers",
        "1",
        "-q",
    ]
    words += ["--runtime", "onnxruntime", "--html", str(tmp_path / "why.html"), "--png", str(tmp_path / "why.png")]
    program = f"""
import sys
from faceembed.cli.main import main
main({words!r}, standalone_mode=False)
assert "torch" not in sys.modules
"""
    text = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert f"of {EmbedSettings().encoder}, explained by occlusion" in text and "without the most important 10 %" in text
    assert text.count("left eye") == 2
    assert "cropped.jpg" in (tmp_path / "why.html").read_text()
    assert cv2.imread(str(tmp_path / "why.png")) is not None


def test_gradient_json(small: Path, run_json: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    document = run_json(
        "explain", small / "small.jpg", small / "cropped.jpg", "--method", "gradient", "--steps", "2", "--workers", "1"
    )
    assert (document["method"], document["runtime"], document["steps"]) == ("gradient", "pytorch", 2)
    assert len(document["map_a"]) == len(document["map_b"][0]) == 150
    assert document["parts_a"].keys() == document["parts_b"].keys()


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["a.jpg"], 2, "give two photos, or --sample alone"),
        (["a.jpg", "b.jpg", "--windows", "2"], 2, "--windows 2 must be from 0.05 to 0.5"),
        (["a.jpg", "b.jpg", "--windows", "x"], 2, "'x' is not a number"),
        (["a.jpg", "b.jpg"], 1, "a.jpg: "),
        (
            ["a.jpg", "b.jpg", "--method", "gradient", "--encoder", "x.onnx"],
            1,
            "no model file at x.onnx",
        ),
    ],
)
def test_mistakes_are_one_line(run: Callable[..., Any], words: list[str], code: int, message: str) -> None:
    result = run("explain", *words, "-q", code=code)
    assert message in result.stderr and result.stdout == ""
