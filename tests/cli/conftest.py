"""What the tests of the command line share: a home of their own, sample photos, an index, and ways to run a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from faceembed.cli.main import main

Run = Callable[..., Result]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """FACEEMBED_HOME for these tests: models are built in it once, nothing of the user's is touched."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEEMBED_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def samples(home: Path) -> Path:
    """The folder of sample photos."""
    from faceembed.engine.photos.sample import sample_photos

    return sample_photos()


@pytest.fixture
def run() -> Run:
    """Run a command in this process: ``run("embed", folder, "-o", index)``."""

    def invoke(*args: str | Path, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [os.fspath(arg) for arg in args])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """The same with ``--json``: the one document on stdout."""
    return lambda *args, code=0: json.loads(run(*args, "--json", code=code).stdout)


@pytest.fixture(scope="session")
def small(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small photos of the astronaut."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("small.jpg", "cropped.jpg"):
        shutil.copy(samples / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of `small`; not to be changed."""
    index = tmp_path_factory.mktemp("index") / "small.faiss"
    result = CliRunner().invoke(main, ["embed", str(small), "-o", str(index)])
    assert result.exit_code == 0, result.output
    return index


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    """A copy of that index, to be changed."""
    for file in built.parent.iterdir():
        shutil.copy2(file, tmp_path / file.name)
    return tmp_path / built.name


def start(*args: str | Path, code: str = "", **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own, after ``code``."""
    program = f"{code}\nfrom faceembed.cli.main import main; main(prog_name='faceembed')"
    command = [sys.executable, "-c", program, *map(os.fspath, args)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, **options)


@pytest.fixture(name="start")
def start_fixture() -> Callable[..., subprocess.Popen[str]]:
    """`start`, for the tests."""
    return start
