"""Every command has help with an example that parses, and help loads nothing heavy."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

from faceembed.cli import card, options
from faceembed.cli.main import main
from faceembed.engine.pipeline.settings import DECODERS, EmbedSettings
from faceembed.engine.runtimes import choose

HEAVY = (
    "cv2",
    "faiss",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pyarrow",
    "rich",
    "skimage",
    "torch",
)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(main))
EACH = pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(("faceembed", *path)))


@EACH
def test_help_and_example(run: Any, path: tuple[str, ...]) -> None:
    text = run(*path, "--help").stdout
    assert text.startswith("Usage: ")
    assert "Example:" in text
    assert run(*path, "-h").stdout == text
    assert (ALL[path].help or "").split("\n")[0].endswith(".")


@EACH
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.name == "licence", parameter.name


@EACH
def test_examples_parse(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^ *(faceembed .*)$", ALL[path].help or "", re.MULTILINE)
    assert examples
    for line in examples:
        command: click.Command = main
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None
            command = found
        command.make_context("example", words)


def test_choices_are_the_engines() -> None:
    assert options.RUNTIMES == choose.RUNTIMES
    assert options.PRECISIONS == choose.PRECISIONS
    assert card.DECODERS == DECODERS


def test_default_encoders() -> None:
    """One for all commands, but for the one that judges identity alone, and says so."""
    assert EmbedSettings().encoder == options.ENCODER
    named = {}
    for path, command in ALL.items():
        for option in command.params:
            if option.name == "encoder" and isinstance(option.default, str):
                named[path] = option.default
    assert named.pop(("data", "clean")) == "dlib-resnet" and "dlib-resnet unless" in (ALL["data", "clean"].help or "")
    assert len(named) > 10 and set(named.values()) == {options.ENCODER}
    (built,) = [option for option in ALL[("build-engine",)].params if option.name == "encoder"]
    assert f"[default: {options.ENCODER}, " in getattr(built, "help")  # noqa: B009


def test_help_loads_nothing_heavy() -> None:
    program = f"""
import json, sys
from faceembed.cli.main import main
for words in {[list(path) for path in ALL]!r}:
    try:
        main([*words, "--help"], prog_name="faceembed", standalone_mode=False)
    except SystemExit:
        pass
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_embed_loads_no_torch(small: Any, tmp_path: Any) -> None:
    program = f"""
import sys
from faceembed.cli.main import main
main(["embed", {str(small)!r}, "-o", {str(tmp_path / "a.faiss")!r}, "-q"], standalone_mode=False)
assert "numpy" in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_version(run: Any) -> None:
    import faceembed

    assert faceembed.__version__ in run("--version").stdout


@pytest.mark.parametrize("words", [["nix"], ["embed", "--nix"], ["search"], ["models", "nix"], ["search", "", "a.jpg"]])
def test_wrong_usage(run: Any, words: list[str]) -> None:
    result = run(*words, code=2)
    assert result.stdout == ""
    assert "Error: " in result.stderr
