"""The line that installs an extra, by how the package was installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from faceembed import install
from faceembed.install import pip_install

COMMIT = "8eaa0be3b1c1d0b0a0f0e0d0c0b0a09080706050"


class Installed:
    """A distribution of which pip noted this."""

    def __init__(self, noted: str | None) -> None:
        self.noted = noted

    def read_text(self, name: str) -> str | None:
        return self.noted if name == "direct_url.json" else None


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    install._origin.cache_clear()
    yield
    install._origin.cache_clear()


@pytest.mark.parametrize(
    ("noted", "line"),
    [
        (None, "pip install 'faceembed[train]'"),
        ("{", "pip install 'faceembed[train]'"),
        ({"url": "file:///nowhere/src", "dir_info": {}}, "pip install 'faceembed[train]'"),
        ({"url": "file://{here}", "dir_info": {}}, "pip install '{here}[train]'"),
        ({"url": "file://{here}", "dir_info": {"editable": True}}, "pip install -e '{here}[train]'"),
        (
            {"url": "file://{here}/my%20wheels/f-1.whl", "archive_info": {}},
            "pip install '{here}/my wheels/f-1.whl[train]'",
        ),
        ({"url": "https://h/f-1.whl", "archive_info": {}}, "pip install 'faceembed[train] @ https://h/f-1.whl'"),
        (
            {"url": "https://h/f.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
            f"pip install 'faceembed[train] @ git+https://h/f.git@{COMMIT}'",
        ),
    ],
)
def test_the_line_is_that_of_the_installation(
    noted: object, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my wheels").mkdir()
    (tmp_path / "my wheels" / "f-1.whl").touch()
    text = noted if noted is None or isinstance(noted, str) else json.dumps(noted).replace("{here}", str(tmp_path))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(text))
    assert pip_install("train") == line.replace("{here}", str(tmp_path))
    words = pip_install(again=True).split(" ", 3)
    assert words[:3] == ["pip", "install", "--force-reinstall"] and "[" not in words[3]


def test_a_source_tree_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert pip_install("cpu") == "pip install 'faceembed[cpu]'"
