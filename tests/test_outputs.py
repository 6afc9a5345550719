"""What a verb may replace: what it wrote itself before; never what it reads, nor anybody's else file."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from faceembed.cli.main import main
from faceembed.cli.options import OutputPath
from faceembed.errors import UsageError
from faceembed.marks import KINDS, signed_png
from faceembed.outputs import check_folder, check_output, is_ours


def _page(path: Path) -> None:
    path.write_text('<!doctype html>\n<head>\n<meta name="generator" content="faceembed">')


def _picture(path: Path) -> None:
    from faceembed.engine.report.pixels import png_bytes

    path.write_bytes(signed_png(png_bytes(np.zeros((4, 4, 3), np.uint8))))


def _split(path: Path) -> None:
    from faceembed.trainer.data.split import write_split

    write_split(path, {"train": ["a"], "validate": [], "test": []})


def _labels(path: Path) -> None:
    from faceembed.trainer.aligner.labels import write_labels

    write_labels(path, [])


def _clusters(path: Path) -> None:
    from faceembed.engine.index.clusters.output import SCHEMA, About, write_clusters

    write_clusters(path, SCHEMA.empty_table(), About("e", "0", 0.5, 0))


def _gallery(path: Path) -> None:
    from faceembed.engine.people.gallery import Gallery, write_gallery

    write_gallery(path, Gallery({"encoder": {"sha256": "0"}, "dimension": 4}, ()))


def _vectors(path: Path) -> None:
    from faceembed.engine.index.shards import FaceTable
    from faceembed.engine.index.vectors import write_vectors

    write_vectors(path, FaceTable.empty(4), {})


def _pairs(path: Path) -> None:
    path.write_text("path_a,path_b,label,kind,method\r\na.jpg,b.jpg,1,same,\r\n")


def _cleaning(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from faceembed.trainer.data.clean_manifest import Row, write_manifest

        write_manifest(path.parent, [Row("a.jpg", "ann", True)])
        (path.parent / name).rename(path)
        for other in {"clean.parquet", "clean.csv"} - {name}:
            (path.parent / other).unlink()

    return make


def _crops(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from faceembed.trainer.data.crops import Crop, CropInfo, write_crops

        write_crops(path.parent, [Crop("ann/0.jpg", "a.jpg", "ann")], CropInfo("e", ((0.0, 0.0),) * 5, 112, 112))
        (path.parent / name).rename(path)
        for other in {"crops.parquet", "crops.json"} - {name}:
            (path.parent / other).unlink()

    return make


def _crops_begun(path: Path) -> None:
    from faceembed.trainer.data.crops import CropInfo
    from faceembed.trainer.data.journal import Journal

    Journal(str(path.parent), CropInfo("e", ((0.0, 0.0),) * 5, 112, 112)).close()
    (path.parent / "unfinished.jsonl").rename(path)


def _fakes(path: Path) -> None:
    from faceembed.trainer.data.fakes.manifest import write_fakes

    write_fakes(path.parent, [])
    (path.parent / "fakes.parquet").rename(path)


def _fakes_begun(path: Path) -> None:
    from faceembed.trainer.data.fakes.manifest import Fake, Journal

    journal = Journal(path.parent)
    journal.add(Fake("a.jpg", "swap", "ann", "a.jpg", "bob", "b.jpg", 1, 95, "{}"))
    journal.close()
    (path.parent / "unfinished.jsonl").rename(path)


def _fake_set(path: Path) -> None:
    from faceembed.trainer.data.fakes.make import _info
    from faceembed.trainer.data.fakes.settings import FakeSettings
    from faceembed.trainer.data.people import People

    path.write_text(json.dumps(_info(People("people", (), ()), FakeSettings(), None)))


def _checkpoint(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from faceembed.trainer.backbones.checkpoints import FORMAT

    torch.save({"format": FORMAT, "version": 1, "model": {"weight": torch.zeros(4000)}}, path)


def _training(path: Path) -> None:
    from faceembed.trainer.recipes.config import read_config, to_toml

    path.write_text(to_toml(read_config("finetune", overrides=['data.crops=["crops"]'])))


def _aligner_training(path: Path) -> None:
    from faceembed.trainer.aligner.config import AlignerConfig

    path.write_text(json.dumps(dataclasses.asdict(AlignerConfig()), indent=2))


OURS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "page": ("x.html", _page),
    "picture": ("x.png", _picture),
    "scores": ("x.csv", lambda path: path.write_text("path_a,path_b,label,kind,similarity,found\r\n")),
    "attack scores": ("x.csv", lambda path: path.write_text("path_a,path_b,label,kind,epsilon,before,after,found\n")),
    "answer": ("x.csv", lambda path: path.write_text("pair_id,similarity\n1,0.5\n")),
    "split": ("x.json", _split),
    "clusters": ("x.parquet", _clusters),
    "gallery": ("x.gallery", _gallery),
    "vectors": ("x.parquet", _vectors),
    "vectors' description": ("x.json", lambda path: path.write_text('{"faceembed.vectors": 1}')),
    "names": ("x.csv", lambda path: path.write_text("path,face,name\n/a.jpg,0,Ann\n")),
    "labels": ("x.parquet", _labels),
    "errors": ("x.errors.csv", lambda path: path.write_text("path,stage,reason,size,mtime_ns\n")),
    "spec": (
        "x.json",
        lambda path: path.write_text('{"name": "x", "task": "encoder", "input_size": [1, 1], "sha256": ""}'),
    ),
    "pair list": ("x.csv", _pairs),
    "cleaning": ("x.parquet", _cleaning("clean.parquet")),
    "cleaning list": ("x.csv", _cleaning("clean.csv")),
    "crops": ("x.parquet", _crops("crops.parquet")),
    "crop set": ("x.json", _crops("crops.json")),
    "crops begun": ("x.jsonl", _crops_begun),
    "fakes": ("x.parquet", _fakes),
    "fake set": ("x.json", _fake_set),
    "fakes begun": ("x.jsonl", _fakes_begun),
    "checkpoint": ("x.pt", _checkpoint),
    "training": ("x.toml", _training),
    "aligner training": ("x.json", _aligner_training),
    "epochs": ("x.csv", lambda path: path.write_text("epoch,step,lr,loss,eer\n0,0,0.1,,0.5\n")),
    "speeds": ("x.csv", lambda path: path.write_text("epoch,seconds,pairs_per_second,waited\n1,2.0,3.0,0.1\n")),
    "aligner steps": ("x.csv", lambda path: path.write_text("step,loss,score,box,landmarks\n1,2,3,4,5\n")),
    "unreadable": ("x.csv", lambda path: path.write_text("path,person,reason\r\n")),
    "engine": ("x.engine", lambda path: path.write_bytes(b"faceembed engine...")),
}
FOREIGN: dict[str, bytes] = {
    "photo.jpg": b"\xff\xd8\xff\xe0 a photo",
    "photo.png": b"\x89PNG\r\n\x1a\n a picture of somebody's",
    "list.csv": b"path_a,path_b,label\na.jpg,b.jpg,1\n",
    "team.json": b'{"team": ["a", "b"]}',
    "table.parquet": b"PAR1 rows PAR1",
    "site.html": b"<!doctype html><title>my site</title>",
    "net.onnx": b"\x08\x07 weights",
    "thesis.txt": b"Chapter 1",
    "config.toml": b'task = "my own"\n[model]\narch = "resnet29"\n',
    "weights.pt": b"PK\x03\x04 somebody's archive/data.pkl",
    "log.jsonl": b'{"info": "mine"}\n',
}


@pytest.mark.parametrize("kind", OURS)
def test_what_was_written_before_may_be_replaced(tmp_path: Path, kind: str) -> None:
    name, make = OURS[kind]
    check_output(tmp_path / name, kind)
    make(tmp_path / name)
    assert is_ours(str(tmp_path / name), kind)
    check_output(tmp_path / name, kind)
    (tmp_path / name).write_bytes(b"")  # as mktemp or a redirect leaves it: nothing is lost
    check_output(tmp_path / name, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is(tmp_path: Path, kind: str) -> None:
    """Neither files of others nor what faceembed wrote of another kind."""
    for name, data in FOREIGN.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=r"is there and is not .* that faceembed wrote"):
            check_output(tmp_path / name, kind)
    for other, (name, make) in OURS.items():
        path = tmp_path / f"{other.replace(' ', '-')}-{name}"
        make(path)
        if other != kind:
            with pytest.raises(UsageError, match="is there and is not"):
                check_output(path, kind)


def test_a_model_and_its_description(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"m\.json is there and is not a description of a model"):
        check_output(tmp_path / "m.onnx", "model")
    OURS["spec"][1](tmp_path / "m.json")
    (tmp_path / "m.onnx").write_bytes(b"weights")
    check_output(tmp_path / "m.onnx", "model")


@pytest.mark.parametrize("way", ["itself", "by a link", "by a hard link", "through .."])
def test_an_input_is_no_output(tmp_path: Path, way: str) -> None:
    """By whatever path, and also where it is of the kind that is written."""
    given, output = tmp_path / "a.png", tmp_path / "b.png"
    _picture(given)
    if way == "itself":
        output = given
    elif way == "by a link":
        output.symlink_to(given)
    elif way == "by a hard link":
        os.link(given, output)
    else:
        output = tmp_path / "x" / ".." / "a.png"
        (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match="is what is to be read"):
        check_output(output, "picture", [tmp_path / "none", given])


@pytest.mark.parametrize(
    "name", ["p.faiss", "p.faiss.json", "p.faiss.parquet", "p.faiss.errors.csv", "p.faiss.vectors.npy"]
)
def test_an_index_is_no_output(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is a name of an index's files"):
        check_output(tmp_path / name, "clusters")


# Each command with an output in place of OUT, and inputs that are there; all must be refused before any work.
COMMANDS = {
    "matrix png": ["matrix", "photo.png", "photo.jpg", "--png", "OUT"],
    "matrix html": ["matrix", "photo.png", "photo.jpg", "--html", "OUT"],
    "explain html": ["explain", "photo.png", "photo.jpg", "--html", "OUT"],
    "explain png": ["explain", "photo.png", "photo.jpg", "--png", "OUT"],
    "eval scores": ["eval", "list.csv", "--scores", "OUT"],
    "eval report": ["eval", "list.csv", "--report", "OUT"],
    "compare": ["compare", "faceembed-r29", "--pairs", "list.csv", "--html", "OUT"],
    "attack csv": ["attack", "noise", "list.csv", "--save", "OUT"],
    "attack png": ["attack", "noise", "list.csv", "--png", "OUT"],
    "bench": ["bench", "photo.png", "--plot", "OUT"],
    "cluster": ["cluster", "p.faiss", "-o", "OUT"],
    "project": ["project", "p.faiss", "-o", "OUT"],
    "enrol": ["enrol", "people", "-o", "OUT"],
    "export-vectors": ["export-vectors", "p.faiss", "-o", "OUT"],
    "embed vectors": ["embed", "photo.jpg", "-o", "new.faiss", "--vectors", "OUT"],
    "regions": ["regions", "p.faiss", "-o", "OUT"],
    "split": ["data", "split", "people", "-o", "OUT", "--train", "1", "--validate", "1", "--test", "1"],
    "faces": ["data", "faces", "people", "-o", "OUT"],
    "export": ["export", "dlib-resnet", "-o", "OUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("output", [*FOREIGN, "p.faiss", "p.faiss.json", "p.faiss.parquet"])
def test_every_command_spares_them(tmp_path: Path, name: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, data in FOREIGN.items():
        (tmp_path / file).write_bytes(data)
    for file in ("p.faiss", "p.faiss.json", "p.faiss.parquet"):
        (tmp_path / file).write_bytes(b"an index's")
    (tmp_path / "people" / "a").mkdir(parents=True)
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "people" / "a" / "1.jpg")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    words = [output if word == "OUT" else word for word in COMMANDS[name]]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert any(
        text in result.output for text in ("is what is to be read", "is not replaced", "is a name of an index's")
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_two_outputs_of_one_name(tmp_path: Path) -> None:
    words = ["explain", "a.jpg", "b.jpg", "--html", str(tmp_path / "x"), "--png", str(tmp_path / "x")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "is given for two outputs" in result.output


def test_every_output_of_a_command_has_a_kind() -> None:
    def all_commands(group: click.Group) -> list[click.Command]:
        context = click.Context(group)
        found = [group.get_command(context, name) for name in group.list_commands(context)]
        return [inner for c in found if c for inner in (all_commands(c) if isinstance(c, click.Group) else [c])]

    kinds = {param.type.kind for c in all_commands(main) for param in c.params if isinstance(param.type, OutputPath)}
    in_folders = {kind for _, files in FOLDERS.values() for kind in files.values()} - {"page", "picture"}
    assert (
        kinds == KINDS.keys() - {"errors", "spec", "vectors' description"} - in_folders
    )  # the former are written beside others


CROP_FILES = {
    "crops.parquet": "crops",
    "crops.json": "crop set",
    "unfinished.jsonl": "crops begun",
    "errors.csv": "errors",
}
FAKE_FILES = {
    "fakes.parquet": "fakes",
    "fakes.json": "fake set",
    "unfinished.jsonl": "fakes begun",
    "errors.csv": "errors",
}
RUN_FILES = {
    "last.pt": "checkpoint",
    "best.pt": "checkpoint",
    "metrics.csv": "epochs",
    "speed.csv": "speeds",
    "training.png": "picture",
    "config.toml": "training",
    "unreadable.csv": "unreadable",
    "validation.csv": "pair list",
}
ALIGNER_FILES = {"last.pt": "checkpoint", "metrics.csv": "aligner steps", "config.json": "aligner training"}
FOLDERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "clean": (
        ["data", "clean", "people", "-o", "out"],
        {"clean.parquet": "cleaning", "clean.csv": "cleaning list", "report.html": "page"},
    ),
    "pairs": (
        ["data", "pairs", "people", "-o", "out", "--split", "split.json", "--count", "4", "--leave-out", "swap"],
        {f"{part}.csv": "pair list" for part in ("train", "validate", "test", "test-swap")},
    ),
    "align": (["data", "align", "people", "-o", "out"], CROP_FILES),
    "align fresh": (["data", "align", "people", "-o", "out", "--fresh"], CROP_FILES),
    "fakes": (["data", "fakes", "people", "-o", "out"], FAKE_FILES),
    "fakes fresh": (["data", "fakes", "people", "-o", "out", "--fresh"], FAKE_FILES),
    "import-fakes": (["data", "import-fakes", "people", "-o", "out", "--method", "arc2face"], FAKE_FILES),
    "train": (["train", "finetune", "--crops", "crops", "-o", "out"], RUN_FILES),
    "train fresh": (["train", "pretrain", "--crops", "crops", "-o", "out", "--fresh"], RUN_FILES),
    "train aligner": (["train", "aligner", "--labels", "l.parquet", "-o", "out"], ALIGNER_FILES),
}
"""Each command with a folder in which it writes files of fixed names, and those names with their kinds."""


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two people's photos, as far as a listing looks at them, and a split of them."""
    for person in ("ann", "bob"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "people" / person / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 a photo")
    from faceembed.trainer.data.split import write_split

    write_split(tmp_path / "split.json", {"train": ["ann"], "validate": [], "test": ["bob"]})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, (_, files) in FOLDERS.items() for file in files])
def test_nobodys_file_is_replaced_in_a_folder(people: Path, name: str, file: str) -> None:
    """Whatever it is: a file of that name which is not ours ends the command before its work, also with --fresh."""
    if "train" in name:
        pytest.importorskip("torch")
    (people / "out").mkdir()
    (people / "out" / file).write_bytes(b"my own,work\nof,years\n")
    before = {path: path.read_bytes() for path in people.rglob("*") if path.is_file()}
    result = CliRunner().invoke(main, FOLDERS[name][0])
    assert result.exit_code == 2, result.output
    assert f"{file} is there and is not" in result.output or "out holds other files" in result.output
    assert {path: path.read_bytes() for path in people.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_ours_and_a_new_one(people: Path, name: str) -> None:
    """What an earlier run left may be replaced; a folder that is not there, or empty, may be filled."""
    if "train" in name:
        pytest.importorskip("torch")
    files = FOLDERS[name][1]
    own = files in (CROP_FILES, FAKE_FILES)
    check_folder(people / "new", files, own=own)
    (people / "out").mkdir()
    check_folder(people / "out", files, own=own)
    for file, kind in files.items():
        OURS[kind][1](people / "made")
        (people / "made").rename(people / "out" / file)
    check_folder(people / "out", files, home=files if own else (), own=own)


def test_damaged_files_of_a_folder_that_is_ours(tmp_path: Path) -> None:
    """The verb says what is wrong with them, and --fresh mends it."""
    OURS["crop set"][1](tmp_path / "crops.json")
    (tmp_path / "crops.parquet").write_bytes(b"half")
    check_folder(tmp_path, CROP_FILES, home=("crops.parquet", "crops.json"), own=True)
    with pytest.raises(UsageError, match=r"crops\.parquet is there and is not a table of crops"):
        check_folder(tmp_path, CROP_FILES)


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="x is a file; give a folder"):
        check_folder(tmp_path / "x", CROP_FILES)
    (tmp_path / "list.csv").write_text("path_a,path_b,label,kind,method\n")
    os.link(tmp_path / "list.csv", tmp_path / "train.csv")
    with pytest.raises(UsageError, match="is what is to be read"):
        check_folder(tmp_path, {"train.csv": "pair list"}, inputs=[tmp_path / "list.csv"])


def test_what_may_be_there_alone(tmp_path: Path) -> None:
    (tmp_path / ".faces").mkdir()
    check_folder(tmp_path, FAKE_FILES, own=True, beside=(".faces",))
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds other files"):
        check_folder(tmp_path, FAKE_FILES, own=True, beside=(".faces",))
