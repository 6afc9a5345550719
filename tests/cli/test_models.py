"""`faceembed models`."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models import yunet
from faceembed.engine.models.packages import ACCURATE, package_file
from faceembed.engine.models.registry import resolve
from tests.edgeface_weights import random_state, save

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
    assert (
        states["dlib-resnet"]
        == states["mtcnn"]
        == states["sface"]
        == states["yunet"]
        == states["faceembed-accurate"]
        == "ready"
    )
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


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of EdgeFace's shape, its weights drawn by chance."""
    return save(random_state("edgeface-xxs"), tmp_path_factory.mktemp("edge") / "edge.pt")


def test_edgeface_is_imported_without_saying_its_pixels(run: Any, run_json: Any, edge: Path) -> None:
    words = ["models", "import", edge, "--arch", "edgeface-xxs", "--name", "edge"]
    document = run_json(*words)
    assert (document["name"], document["state"], document["dimension"]) == ("edge", "ready", 512)
    assert "BSD-3-Clause" in document["licence"] and "CC BY-NC-SA 4.0" in document["licence"]
    verdict = run_json("verify", "--sample", "--encoder", "edge")
    assert verdict["encoder"] == "edge" and -1 <= verdict["similarity"] <= 1
    assert run_json(*words, "--replace", "--licence", "MIT")["licence"] == "MIT"


def test_edgeface_under_its_own_name_is_verified(run: Any, run_json: Any, edge: Path) -> None:
    words = ["models", "import", edge, "--arch", "edgeface-xxs"]
    assert "is another file: its SHA-256 is" in run(*words, code=1).stderr
    digest = hashlib.sha256(edge.read_bytes()).hexdigest()
    document = run_json(*words, "--sha256", digest)
    assert (document["name"], document["state"]) == ("edgeface-xxs", "ready")
    info = run("models", "info", "edgeface-xxs").stdout
    assert "BSD-3-Clause" in info and "CC BY-NC-SA 4.0" in info


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--colour", "rgb"], 2, "says what pixels it wants"),
        (["--threshold", "0.5"], 2, "says what pixels it wants"),
        (["--licence", "MIT"], 2, "is a known model"),
        (["--arch", "edgeface-xs", "--name", "x"], 1, "it is 'edgeface-xxs': give --arch edgeface-xxs"),
    ],
)
def test_edgeface_with_too_much_said(run: Any, edge: Path, words: list[str], code: int, said: str) -> None:
    assert said in run("models", "import", edge, "--arch", "edgeface-xxs", *words, code=code).stderr


def test_a_checkpoint_that_would_run_something_is_refused(run: Any, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"cposix\nsystem\n(Vtouch " + str(made).encode() + b"\ntR.")
    words = ["models", "import", tmp_path / "bad.pt", "--arch", "edgeface-xs", "--name", "bad"]
    (line,) = run(*words, code=1).stderr.splitlines()
    assert "names 'posix.system'" in line and not made.exists()


def test_a_name_is_asked_for(run: Any, onnx: Path) -> None:
    assert "Missing option '--name'" in run("models", "import", onnx, *DLIB_LIKE, code=2).stderr


def test_yunet_s_own_file_under_a_name_of_ones_own(run: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    file = package_file(yunet.PACKAGE, yunet._FILE, extra=ACCURATE)
    words = ["models", "import", file, "--arch", "yunet"]
    assert "Missing option '--name'" in run(*words, code=2).stderr
    assert "says what pixels it wants" in run(*words, "--name", "own", "--colour", "rgb", code=2).stderr
    assert "is another file: its SHA-256 is" in run(*words, "--name", "yunet-2026may", code=1).stderr
    document = run_json(*words, "--name", "own")
    assert (document["task"], document["state"], document["licence"]) == ("aligner", "ready", "MIT")
    assert run_json("embed", small, "-o", tmp_path / "a.faiss", "--aligner", "own")["faces"] == 2
