"""`faceembed models`."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models.registry import resolve

FIELDS = {
    "name",
    "task",
    "dimension",
    "licence",
    "source",
    "state",
    "size_bytes",
    "architecture",
    "sha256",
    "path",
    "note",
}


def test_list(run: Any, run_json: Any) -> None:
    document = run_json("models", "list")
    assert all(set(model) == FIELDS for model in document)
    states = {model["name"]: model["state"] for model in document}
    assert states["dlib-resnet"] == states["mtcnn"] == states["sface"] == states["faceembed-accurate"] == "ready"
    assert states["sface-2021dec"] == "to pull"
    lines = run("models", "list").stdout.splitlines()
    assert lines[0].split() == ["name", "task", "dim", "MB", "state", "licence"]
    assert [line.split()[0] for line in lines[1:]] == list(states)


def test_info(run: Any, run_json: Any) -> None:
    assert run_json("models", "info", "sface-2021dec")["dimension"] == 128
    text = run("models", "info", "sface-2021dec").stdout
    assert "Apache-2.0" in text
    assert "to pull" in text
    assert "did you mean sface" in run("models", "info", "sfase", code=1).stderr


def test_pull_of_a_bootstrap_model_builds_it(run_json: Any) -> None:
    document = run_json("models", "pull", "dlib-resnet")
    assert document["state"] == "ready"
    assert Path(document["path"]).is_file()


def test_a_model_that_must_be_pulled(run: Any, small: Path, tmp_path: Path) -> None:
    result = run("embed", small, "-o", tmp_path / "a.faiss", "--encoder", "sface-2021dec", code=1)
    assert "faceembed models pull sface-2021dec" in result.stderr


DLIB_LIKE = ["--colour", "rgb", "--mean", "122.782,117.001,104.298", "--scale", "1/256"]


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """An encoder's file of one's own: a copy of the bootstrap encoder's."""
    model = resolve("dlib-resnet", task="encoder")
    return Path(shutil.copy(model.path, tmp_path / "mine.onnx"))


def test_import_and_use(run: Any, run_json: Any, onnx: Path, small: Path, tmp_path: Path) -> None:
    spec = resolve("dlib-resnet", task="encoder").spec
    template = ",".join(f"{value}" for point in spec.template for value in point)
    words = ["models", "import", onnx, "--name", "mine", *DLIB_LIKE, "--template", template]
    document = run_json(*words)
    assert (document["name"], document["state"], document["dimension"]) == ("mine", "ready", 128)
    assert "--replace" in run(*words, code=1).stderr
    run(*words, "--replace", "--threshold", "0.9")
    verdict = run_json("verify", "--sample", "--encoder", "mine")
    assert (verdict["encoder"], verdict["threshold"]) == ("mine", 0.9)
    assert verdict["similarity"] == pytest.approx(run_json("verify", "--sample")["similarity"], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ([], "--colour, --mean and --scale", 2),
        ([*DLIB_LIKE[:2], "--mean", "1,2", "--scale", "1"], "--mean '1,2': expected 1 or 3 numbers", 2),
        ([*DLIB_LIKE[:4], "--scale", "1/0"], "--scale '1/0': expected 1 number", 2),
        ([*DLIB_LIKE, "--input-size", "112"], "--input-size", 2),
        (DLIB_LIKE, "--template", 1),  # ArcFace's, which is for 112x112
    ],
)
def test_import_of_too_little(run: Any, onnx: Path, words: list[str], said: str, code: int) -> None:
    assert said in run("models", "import", onnx, "--name", "other", *words, code=code).stderr


def test_import_of_what_is_no_encoder(run: Any, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    words = ["models", "import", tmp_path / "text.onnx", "--name", "other", *DLIB_LIKE]
    assert "text.onnx" in run(*words, code=1).stderr


def test_a_known_model_brought_by_hand_is_verified(run: Any, tmp_path: Path) -> None:
    (tmp_path / "sface.onnx").write_text("no model")
    words = ["models", "import", tmp_path / "sface.onnx", "--name", "sface-2021dec"]
    digest = hashlib.sha256(b"another file").hexdigest()
    assert "another file" in run(*words, "--sha256", digest, code=1).stderr
    assert "known model" in run(*words, "--colour", "rgb", code=2).stderr
