"""From TOML files and ``--set`` to the settings of a training.

    config = read_config("finetune", "mine.toml", overrides=["optimizer.lr=1e-5"])
    (run / "config.toml").write_text(to_toml(config))

Three layers: the command's recipe (`configs/pretrain.toml`, `configs/finetune.toml`), a user's file (or the name of another
shipped recipe), overrides. A file that opens with ``base = "gated"`` says only what differs from that recipe, as
`configs/faceembed-r29.toml` does; the task of both is the same. `recipes.py` reads and checks all of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faceembed.errors import UsageError
from faceembed.trainer.recipes import reading as recipes
from faceembed.trainer.recipes.reading import Layer, Recipes, Table, parse_toml, read_toml
from faceembed.trainer.recipes.settings import TrainConfig

_RECIPES = Recipes(
    TrainConfig,
    "faceembed.trainer.recipes",
    example="optimizer.lr=1e-5",
    aliases={
        "learning_rate": "lr",
        "wd": "weight_decay",
        "batch": "batch_size",
        "architecture": "arch",
        "teacher": "start",
    },
)
_PATHS = (
    ("model", "start"),
    ("data", "crops"),
    ("data", "extra"),
    ("data", "unlabelled"),
    ("data", "validate_extra"),
    ("data", "fakes"),
    ("data", "split"),
    ("teachers", "indexes"),
    ("validation", "pairs"),
)


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with faceembed."""
    return _RECIPES.names()


def read_config(task: str, source: str = "", *, overrides: Sequence[str] = ()) -> TrainConfig:
    """The settings of a run.

    Args:
        task: ``pretrain`` or ``finetune``.
        source: a TOML file, or the name of a shipped recipe; empty: the command's own alone. Paths in a file are relative
            to its folder.
        overrides: ``table.key=value``, the value as TOML has it; quotes may be left out.

    Raises:
        UsageError: an unknown key or recipe, a value of the wrong type, or settings that contradict each other.
    """
    layers = _RECIPES.recipe(task)
    if source and source != task:
        layers += _RECIPES.layers(source)
    for layer in layers:
        _check_task(layer, task)
        if layer.folder is not None:
            _resolve_paths(layer.table, layer.folder)
    layers += map(_RECIPES.override, overrides)
    return build(_RECIPES.merged(layers) | {"task": task}, where=source or task)


def build(table: Mapping[str, Any], *, where: str = "config") -> TrainConfig:
    """Settings from a nested table.

    Raises:
        UsageError: see `read_config`.
    """
    return _RECIPES.build(table, where=where)


def from_toml(path: str | os.PathLike[str]) -> TrainConfig:
    """Read a file that `to_toml` wrote.

    Raises:
        UsageError: not such a file.
    """
    return build(read_toml(path), where=os.fspath(path))


def from_toml_text(text: str, *, where: str) -> TrainConfig:
    """Read what `to_toml` wrote.

    Raises:
        UsageError: another text; the message names ``where``.
    """
    return build(parse_toml(text, where=where), where=where)


def to_toml(config: TrainConfig) -> str:
    """Every setting, as TOML that `from_toml` reads back to the same."""
    lines: list[str] = []
    _write_table(lines, dataclasses.asdict(config), "")
    return "\n".join(lines).lstrip("\n") + "\n"


def keys() -> Iterator[str]:
    """Every key, as ``table.key``."""
    return recipes.keys(TrainConfig)


def _check_task(layer: Layer, task: str) -> None:
    if (given := layer.table.get("task", task)) != task:
        raise UsageError(f"{layer.where} is for 'faceembed train {given}', not for 'train {task}'")


def _resolve_paths(table: Table, folder: str) -> None:
    """Make the paths of a file relative to where the file is, not to where the command runs."""
    for section, key in _PATHS:
        values = table.get(section)
        if not isinstance(values, dict) or key not in values:
            continue
        value = values[key]
        if isinstance(value, list):
            values[key] = [os.path.join(folder, item) if isinstance(item, str) else item for item in value]
        elif isinstance(value, str) and value and key in ("split", "pairs", "start") and _is_file(key, value):
            values[key] = os.path.join(folder, value)


def _is_file(key: str, text: str) -> bool:
    """A start may also be the name of a model."""
    return key != "start" or os.sep in text or "." in text


def _write_table(lines: list[str], table: Mapping[str, Any], prefix: str) -> None:
    lines += [f"{_key(name)} = {_value(value)}" for name, value in table.items() if not isinstance(value, Mapping)]
    for name, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{_key(name)}]"]
            _write_table(lines, value, f"{prefix}{_key(name)}.")


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)
