"""From TOML files and ``--set`` to the settings of a training.

    config = read_config("finetune", "mine.toml", overrides=["optimizer.lr=1e-5"])
    (run / "config.toml").write_text(to_toml(config))

Three layers: the command's recipe (`configs/pretrain.toml`, `configs/finetune.toml`), a user's file (or the name of another
shipped recipe), overrides. Every mistake is one line that names file and table, and the nearest right key.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.resources
import json
import os
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faceembed.engine.errors import UsageError
from faceembed.trainer.settings import TrainConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = dict[str, Any]
_ALIASES = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "batch": "batch_size",
    "architecture": "arch",
    "teacher": "start",
}
_PATHS = (
    ("model", "start"),
    ("data", "crops"),
    ("data", "extra"),
    ("data", "fakes"),
    ("data", "split"),
    ("validation", "pairs"),
)


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with faceembed."""
    folder = importlib.resources.files("faceembed.trainer") / "configs"
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml")))


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
    table = _recipe(task)
    if source and source != task:
        given, where = _user_table(source)
        _check_keys(given, TrainConfig, where)
        if given.get("task", task) != task:
            raise UsageError(f"{where} is for 'faceembed train {given['task']}', not for 'train {task}'")
        _merge(table, given)
    for text in overrides:
        given = _override(text)
        _check_keys(given, TrainConfig, f"--set {text}")
        _merge(table, given)
    table["task"] = task
    return build(table, where=source or task)


def build(table: Mapping[str, Any], *, where: str = "config") -> TrainConfig:
    """Settings from a nested table.

    Raises:
        UsageError: see `read_config`.
    """
    _check_keys(table, TrainConfig, where)
    built = _build(TrainConfig, table, where, "")
    assert isinstance(built, TrainConfig)
    return built


def from_toml(path: str | os.PathLike[str]) -> TrainConfig:
    """Read a file that `to_toml` wrote.

    Raises:
        UsageError: not such a file.
    """
    return build(_read(os.fspath(path)), where=os.fspath(path))


def from_toml_text(text: str, *, where: str) -> TrainConfig:
    """Read what `to_toml` wrote.

    Raises:
        UsageError: another text; the message names ``where``.
    """
    try:
        return build(tomllib.loads(text), where=where)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML ({error})") from error


def to_toml(config: TrainConfig) -> str:
    """Every setting, as TOML that `from_toml` reads back to the same."""
    lines: list[str] = []
    _write_table(lines, dataclasses.asdict(config), "")
    return "\n".join(lines).lstrip("\n") + "\n"


def keys(kind: Any = TrainConfig, prefix: str = "") -> Iterator[str]:
    """Every key, as ``table.key``."""
    for name, hint in _hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from keys(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _recipe(name: str) -> Table:
    text = (importlib.resources.files("faceembed.trainer") / "configs" / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def _user_table(source: str) -> tuple[Table, str]:
    if os.path.isfile(source):
        table = _read(source)
        _resolve_paths(table, os.path.dirname(source))
        return table, source
    if source in shipped():
        return _recipe(source), f"recipe '{source}'"
    raise UsageError(f"no config file at {source}, nor a recipe of that name; the recipes are {', '.join(shipped())}")


def _read(path: str) -> Table:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error})") from error


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


def _override(text: str) -> Table:
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text}: expected table.key=value, for instance optimizer.lr=1e-5")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    assert isinstance(parsed, dict)
    return parsed


def _merge(table: Table, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        # Another loss has other settings: what the recipe set for its own is not carried over.
        if isinstance(value, Mapping) and isinstance(table.get(name), dict):
            if "name" in value and value["name"] != table[name].get("name") and "settings" in table[name]:
                table[name]["settings"] = {}
            _merge(table[name], value)
        else:
            table[name] = value


def _check_keys(table: Mapping[str, Any], kind: Any, where: str, prefix: str = "") -> None:
    hints = _hints(kind)
    for name, value in table.items():
        if name not in hints:
            raise UsageError(_unknown(f"{prefix}{name}", where))
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}: '{prefix}{name}' is a table, got {_type_name(value)} {value!r}")
            _check_keys(value, hints[name], where, f"{prefix}{name}.")


def _unknown(name: str, where: str) -> str:
    """The nearest key: first in the same table, then one of that name elsewhere, then whatever looks alike."""
    table, _, key = name.rpartition(".")
    known = tuple(keys())
    siblings = {item.rpartition(".")[2]: item for item in known if item.rpartition(".")[0] == table}
    tables = [field.name for field in dataclasses.fields(TrainConfig)] if not table else []
    near = (
        [siblings[alias] for alias in (_ALIASES.get(key),) if alias in siblings]
        or [siblings[match] for match in difflib.get_close_matches(key, siblings, n=1, cutoff=0.7)]
        or [item for item in known if item.rpartition(".")[2] == key]
        or difflib.get_close_matches(key, tables, n=1)
        or difflib.get_close_matches(name, known, n=1)
    )
    hint = f"did you mean '{near[0]}'?" if near else f"known in [{table}] are {', '.join(siblings)}"
    if not table:
        return f"{where}: no setting '{key}'; {hint}"
    return f"{where}: no setting '{key}' in table [{table}]; {hint}"


def _build(kind: Any, table: Mapping[str, Any], where: str, prefix: str) -> Any:
    values: Table = {}
    for name, value in table.items():
        hint = _hints(kind)[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _build(hint, value, where, f"{prefix}{name}.")
        else:
            values[name] = _converted(value, hint, f"{prefix}{name}", where)
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _converted(value: Any, hint: Any, name: str, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is float and type(value) is int:
        return float(value)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        item = typing.get_args(hint)[0]
        return tuple(_converted(entry, item, name, where) for entry in value)
    if (
        origin is not tuple
        and isinstance(value, typing.cast(type, origin or hint))
        and type(value) is not (bool if hint is not bool else types.NoneType)
    ):
        return value
    raise UsageError(f"{where}: '{name}' is {_expected(hint)}, got {_type_name(value)} {value!r}")


def _expected(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if typing.get_origin(hint) is tuple:
        plural = {int: "whole numbers", float: "numbers", str: "texts"}
        return f"a list of {plural[typing.get_args(hint)[0]]}"
    return names.get(hint, "a table")


def _type_name(value: Any) -> str:
    names = {int: "whole number", float: "number", bool: "boolean", str: "text", list: "list", dict: "table"}
    return names.get(type(value), type(value).__name__)


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
