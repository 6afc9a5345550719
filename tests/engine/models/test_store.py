"""The store: content-addressed, atomic, verified, and clear about what is wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models import store
from faceembed.engine.models.spec import ARCFACE_TEMPLATE, ModelSpec
from faceembed.errors import ModelError

SPEC = ModelSpec(name="mine", task="encoder", input_size=(112, 112), dimension=4, template=ARCFACE_TEMPLATE)
DATA = b"network" * 100


def test_what_was_put_is_found(model_home: Path) -> None:
    model = store.put(DATA, SPEC, recipe="r1")
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert model.spec.sha256 == sha256
    assert Path(model.path) == model_home / "models" / f"mine-{sha256[:16]}.onnx"
    assert ModelSpec.from_json(Path(model.path).with_suffix(".json").read_text()) == model.spec
    stored = store.find("mine")
    assert stored is not None and stored.model == model and stored.recipe == "r1" and not stored.problem
    assert store.names() == ["mine"]
    assert [path for path in model_home.rglob("*") if path.name.startswith(".")] == []


def test_a_new_version_takes_the_name(model_home: Path) -> None:
    old = store.put(DATA, SPEC, recipe="r1")
    new = store.put(b"other", SPEC, recipe="r2")
    stored = store.find("mine")
    assert stored is not None and stored.model == new and old.path != new.path


def test_nothing_is_found_in_an_empty_home(model_home: Path) -> None:
    assert store.find("mine") is None
    assert store.names() == []


def test_a_damaged_file_is_told_by_both_digests(model_home: Path) -> None:
    model = store.put(DATA, SPEC, recipe="r")
    Path(model.path).write_bytes(DATA[:-1] + b"X")
    stored = store.find("mine")
    assert stored is not None and stored.model is None
    assert model.spec.sha256 in stored.problem and hashlib.sha256(DATA[:-1] + b"X").hexdigest() in stored.problem


@pytest.mark.parametrize("suffix", [".onnx", ".json"])
def test_a_missing_file_is_a_problem_not_a_crash(model_home: Path, suffix: str) -> None:
    Path(store.put(DATA, SPEC, recipe="r").path).with_suffix(suffix).unlink()
    stored = store.find("mine")
    assert stored is not None and stored.model is None and suffix in stored.problem


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": "0"}', '{"sha256": "0", "recipe": "r", "verified": null}'])
def test_a_damaged_reference_is_a_problem_not_a_crash(model_home: Path, text: str) -> None:
    store.put(DATA, SPEC, recipe="r")
    (model_home / "refs" / "mine.json").write_text(text)
    stored = store.find("mine")
    assert stored is not None and stored.model is None and "mine.json" in stored.problem


def test_an_unchanged_file_is_not_hashed_again(model_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = store.put(DATA, SPEC, recipe="r")
    hashed: list[str] = []
    real = store.file_sha256

    def counting(path: Any) -> str:
        hashed.append(str(path))
        return real(path)

    monkeypatch.setattr(store, "file_sha256", counting)
    store.find("mine")
    assert hashed == []
    os.utime(model.path, ns=(1, 1))  # copied or touched: verified once, then remembered
    store.find("mine")
    store.find("mine")
    assert hashed == [model.path]


@pytest.mark.parametrize("name", ["", "Mine", "a/b", "../a", "a b", ".hidden", "a.onnx", "x" * 65, "naïve", "a\n"])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        store.check_name(name)


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEEMBED_HOME", "~/models-here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.home() == tmp_path / "models-here"
    monkeypatch.delenv("FACEEMBED_HOME")
    assert store.home().name == "faceembed"


def test_an_unwritable_home_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelError, match="set FACEEMBED_HOME to a folder that you can write to") as caught:
        store.put(DATA, SPEC, recipe="r")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_clear_line(model_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="the disk is full"):
        store.put(DATA, SPEC, recipe="r")
    monkeypatch.undo()
    assert list((model_home / "models").iterdir()) == []


def test_a_read_only_store_works(model_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = store.put(DATA, SPEC, recipe="r")
    os.utime(model.path, ns=(1, 1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store, "atomic_write", refuse)
    stored = store.find("mine")
    assert stored is not None and stored.model == model


# What each process runs: a script, not a function of this module, which another process cannot always import.
PUT_OFTEN = """
import sys
from faceembed.engine.models import store
from faceembed.engine.models.spec import ModelSpec

spec = ModelSpec.from_json(sys.argv[1])
for _ in range(20):
    store.put(bytes.fromhex(sys.argv[2]), spec, recipe="r")
    stored = store.find(spec.name)
    assert stored is not None and stored.model is not None, stored
"""


def test_many_processes_put_the_same_model(model_home: Path) -> None:
    command = [sys.executable, "-c", PUT_OFTEN, SPEC.to_json(), DATA.hex()]
    environment = {**os.environ, "FACEEMBED_HOME": str(model_home)}
    workers = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
