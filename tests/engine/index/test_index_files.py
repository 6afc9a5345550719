"""The exchange of a set of files, cut off between any two calls of the file system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.index.files import IndexFiles
from faceembed.errors import UsageError

SETS = [("faiss", "parquet", "errors", "json"), ("faiss", "parquet", "errors", "vectors", "json")]


def stage(files: IndexFiles, names: tuple[str, ...], text: str) -> None:
    files.clear_staged()
    for name in names:
        files.staged(getattr(files, name)).write_text(text)


def contents(files: IndexFiles) -> dict[str, str]:
    return {name: path.read_text() for name in SETS[1] if (path := getattr(files, name)).exists()}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("old", SETS)
@pytest.mark.parametrize("new", SETS)
def test_killed_between_any_two_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    """Renames, unlinks and the deletion of the folder are counted; before each, the process ends."""
    before, after = dict.fromkeys(old, "old"), dict.fromkeys(new, "new")
    outcomes = []
    for call in range(1, 40):
        folder = tmp_path / str(call)
        folder.mkdir()
        files = IndexFiles.of(folder / "people.faiss")
        stage(files, old, "old")
        files.exchange()
        assert contents(files) == before
        stage(files, new, "new")
        left = call

        def counted(real: Any) -> Any:
            def wrapper(*args: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left <= 0:
                    raise Killed
                return real(*args, **options)

            return wrapper

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", counted(os.replace))
            patch.setattr(Path, "unlink", counted(Path.unlink))
            patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
            try:
                files.exchange()
            except Killed:
                pass
            else:
                break
        files.recover()
        outcomes.append(contents(files))
        assert outcomes[-1] in (before, after)
        assert not files.finish()
    else:
        pytest.fail("the exchange never came to its end")
    assert contents(files) == after
    assert before in outcomes  # killed before the marker
    assert outcomes[-1] == after
    assert not list(tmp_path.rglob("*.trash"))


def test_a_reader_may_finish_the_exchange_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = IndexFiles.of(tmp_path / "people.faiss")
    stage(files, SETS[0], "new")
    replace, met = os.replace, False

    def beaten(source: Any, target: Any) -> None:
        nonlocal met
        if Path(target) == files.faiss and not met:
            met = True
            assert files.finish()
        replace(source, target)

    monkeypatch.setattr(os, "replace", beaten)
    files.exchange()
    assert contents(files) == dict.fromkeys(SETS[0], "new")
    assert not files.partial.exists()


def test_names(tmp_path: Path) -> None:
    files = IndexFiles.of(tmp_path / "my.people.v2.faiss")
    names = [path.name for path in (files.parquet, files.json, files.errors, files.vectors, files.partial)]
    assert names == [f"my.people.v2.faiss.{end}" for end in ("parquet", "json", "errors.csv", "vectors.npy", "partial")]
    assert (
        len({files.staged(path) for path in (files.faiss, files.parquet, files.json, files.errors, files.vectors)}) == 5
    )
    for name in ("people", "people.index", "people.faiss.bak"):
        with pytest.raises(UsageError, match=r"ends in \.faiss"):
            IndexFiles.of(tmp_path / name)


def test_discard_leaves_other_files(tmp_path: Path) -> None:
    files, other = IndexFiles.of(tmp_path / "people.faiss"), IndexFiles.of(tmp_path / "people2.faiss")
    for entry in (files, other):
        stage(entry, SETS[1], "x")
        entry.exchange()
        stage(entry, SETS[1], "y")
    files.discard()
    assert contents(files) == {}
    assert not files.partial.exists()
    assert contents(other) == dict.fromkeys(SETS[1], "x")
    assert other.partial.exists()
