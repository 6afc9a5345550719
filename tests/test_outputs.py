"""What a verb may replace: what it wrote itself before; never what it reads, nor anybody's else file."""

from __future__ import annotations

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
from faceembed.outputs import KINDS, check_output, is_ours, signed_png


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


OURS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "page": ("x.html", _page),
    "picture": ("x.png", _picture),
    "scores": ("x.csv", lambda path: path.write_text("path_a,path_b,label,kind,similarity,found\r\n")),
    "attack scores": ("x.csv", lambda path: path.write_text("path_a,path_b,label,kind,epsilon,before,after,found\n")),
    "answer": ("x.csv", lambda path: path.write_text("pair_id,similarity\n1,0.5\n")),
    "split": ("x.json", _split),
    "clusters": ("x.parquet", _clusters),
    "labels": ("x.parquet", _labels),
    "errors": ("x.errors.csv", lambda path: path.write_text("path,stage,reason,size,mtime_ns\n")),
    "spec": (
        "x.json",
        lambda path: path.write_text('{"name": "x", "task": "encoder", "input_size": [1, 1], "sha256": ""}'),
    ),
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
    assert kinds == KINDS.keys() - {"errors", "spec"}  # these are written beside others
