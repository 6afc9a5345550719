"""`faceembed data fakes` and `data import-fakes` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from faceembed.cli.data import fakes as command
from faceembed.cli.main import main
from faceembed.trainer.data.fakes import settings
from faceembed.trainer.data.fakes.make import METHODS
from faceembed.trainer.data.fakes.swappers import SWAPPERS
from faceembed.trainer.data.split import write_split


def run(*words: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(main, ["data", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_names_are_the_librarys() -> None:
    assert tuple(METHODS) == settings.METHODS == command.METHODS
    assert tuple(SWAPPERS) == command.SWAPPERS


def test_fakes(people: Path, tmp_path: Path, reuse_pipeline: object) -> None:
    split = tmp_path / "split.json"
    write_split(split, {"train": ("person0", "person1"), "validate": (), "test": ("person2", "person3")}, seed=1)
    words = ("fakes", people, "-o", tmp_path / "out", "--methods", "swap, reenact", "--split", split, "--seed", 4)
    document = json.loads(run(*words, "--json").stdout)
    assert document["methods"] == {"reenact": 8, "swap": 8}
    assert (document["photos"], document["faces"], document["made"]) == (13, 12, 16)
    assert document["output"] == str(tmp_path / "out")
    result = run(*words)
    assert "0 fakes to make, 16 made before" in result.stdout
    assert "1 of 13 photos cannot be used: see errors.csv" in result.stdout
    assert "4 of 12 photos show people who are in no part of the split" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--per-photo", "1", "--count", "2"], 2, "not both"),
        (["--swapper", "a.onnx"], 2, "belong together"),
        (["--methods", "nix"], 2, "method 'nix' is unknown; known are selfblend, swap"),
        (["--methods", " , "], 2, "no method was given"),
        (["--split", "nowhere.json"], 1, "nowhere.json cannot be read"),
        (["--swapper", "a.onnx", "--swapper-kind", "ghost", "--embedder", "dlib-resnet"], 1, "gives 128 numbers"),
    ],
)
def test_wrong_usage(people: Path, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    result = run("fakes", people, "-o", tmp_path / "out", *words, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_import(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = json.loads(run("import-fakes", people, "-o", out, "--method", "arc2face", "--json").stdout)
    assert document == {
        "imported": 13,
        "skipped": 0,
        "failed": 0,
        "fakes": 13,
        "methods": {"arc2face": 13},
        "output": str(out),
    }
    assert "13 were there" in run("import-fakes", people, "-o", out, "--method", "arc2face").stdout
    assert "another one" in run("import-fakes", people, "-o", out, "--method", "morph", code=2).stderr
