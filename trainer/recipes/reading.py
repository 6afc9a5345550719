"""Settings from TOML: files, shipped recipes and ``--set`` become nested frozen dataclasses, with every key and value checked.

    RECIPES = Recipes(TrainConfig, "faceembed.trainer", example="optimizer.lr=1e-5")
    layers = [*RECIPES.layers("mine.toml"), RECIPES.override("optimizer.lr=1e-4")]
    config = RECIPES.build(RECIPES.merged(layers), where="mine.toml")

A file may begin from a shipped recipe: with a top-level ``base = "gated"`` it says only what differs from that recipe, which may
begin from another itself. Every mistake is one line that names file and table, and the nearest right key. What
the settings mean is not known here, but that a table with another ``name`` needs other ``settings``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.resources
import os
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from faceembed.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = dict[str, Any]
Settings = TypeVar("Settings")
BASE = "base"
_FOLDER, _ENDING = "configs", ".toml"


@dataclasses.dataclass(frozen=True)
class Layer:
    """What one file, recipe or option sets."""

    table: Table
    where: str
    """Which one, for messages."""
    folder: str | None = None
    """Of a user's file."""


class Recipes(Generic[Settings]):
    """Settings of one kind, and the recipes for them that come with faceembed.

    Args:
        kind: the outermost dataclass.
        package: whose folder ``configs`` holds the recipes.
        example: of a setting, for messages.
        aliases: from what a key is called elsewhere to what it is called here.
    """

    def __init__(
        self,
        kind: type[Settings],
        package: str,
        *,
        example: str,
        aliases: Mapping[str, str] = types.MappingProxyType({}),
    ) -> None:
        self._kind, self._package, self._example, self._aliases = kind, package, example, aliases

    def names(self) -> tuple[str, ...]:
        """Of the recipes."""
        folder = importlib.resources.files(self._package) / _FOLDER
        return tuple(sorted(item.name[: -len(_ENDING)] for item in folder.iterdir() if item.name.endswith(_ENDING)))

    def recipe(self, name: str) -> list[Layer]:
        """One of `names`, after what it begins from."""
        return self._with_bases(self._shipped(name))

    def layers(self, source: str) -> list[Layer]:
        """A file, or the recipe of that name, after what it begins from.

        Raises:
            UsageError: no such file or recipe, not TOML, or a base that there is not.
        """
        if os.path.isfile(source):
            return self._with_bases(Layer(read_toml(source), source, os.path.dirname(source)))
        if source in self.names():
            return self.recipe(source)
        raise UsageError(f"no config file at {source}, nor a recipe of that name; the recipes are {self._listed()}")

    def override(self, text: str) -> Layer:
        """Of a text ``table.key=value``, the value as TOML has it; quotes may be left out.

        Raises:
            UsageError: another text.
        """
        name, equals, value = text.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise UsageError(f"--set {text}: expected table.key=value, for instance {self._example}")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        for part in reversed(parts):
            parsed = {part: parsed}
        assert isinstance(parsed, dict)
        return Layer(parsed, f"--set {text}")

    def merged(self, layers: Iterable[Layer]) -> Table:
        """All layers in one, the later ones over the earlier.

        Raises:
            UsageError: an unknown key, or a value of the wrong type.
        """
        table: Table = {}
        for layer in layers:
            self._check(layer.table, self._kind, layer.where, "")
            _merge(table, layer.table)
        return table

    def build(self, table: Mapping[str, Any], *, where: str) -> Settings:
        """The settings of a nested table; what it leaves out has the default of its dataclass.

        Raises:
            UsageError: an unknown key, a value of the wrong type, or settings that contradict each other; the message names ``where``.
        """
        self._check(table, self._kind, where, "")
        built = _built(self._kind, table, where, "")
        assert isinstance(built, self._kind)
        return built

    def _shipped(self, name: str) -> Layer:
        path = importlib.resources.files(self._package) / _FOLDER / f"{name}{_ENDING}"
        where = f"recipe '{name}'"
        return Layer(parse_toml(path.read_text("utf-8"), where=where), where)

    def _listed(self) -> str:
        return ", ".join(self.names())

    def _with_bases(self, last: Layer) -> list[Layer]:
        found, passed = [last], list[str]()
        while (base := found[0].table.pop(BASE, None)) is not None:
            if base not in self.names():
                raise UsageError(
                    f"{found[0].where}: '{BASE}' is {base!r}, not a recipe to begin from; the recipes are {self._listed()}"
                )
            if base in passed:
                raise UsageError(f"{last.where}: recipes that begin from each other: {', '.join([*passed, base])}")
            passed.append(base)
            found.insert(0, self._shipped(base))
        return found

    def _check(self, table: Mapping[str, Any], kind: Any, where: str, prefix: str) -> None:
        for name, value in table.items():
            hint = _hints(kind).get(name)
            if hint is None:
                raise UsageError(self._unknown(f"{prefix}{name}", where))
            if not dataclasses.is_dataclass(hint):
                _converted(value, hint, f"{prefix}{name}", where)
            elif isinstance(value, Mapping):
                self._check(value, hint, where, f"{prefix}{name}.")
            else:
                raise UsageError(f"{where}: '{prefix}{name}' is a table, got {_type_name(value)} {value!r}")

    def _unknown(self, name: str, where: str) -> str:
        """The nearest key: first in the same table, then one of that name elsewhere, then whatever looks alike."""
        table, _, key = name.rpartition(".")
        known = tuple(keys(self._kind))
        siblings = {item.rpartition(".")[2]: item for item in known if item.rpartition(".")[0] == table}
        tables = [] if table else list(dict.fromkeys(item.partition(".")[0] for item in known if "." in item))
        near = (
            [siblings[alias] for alias in (self._aliases.get(key),) if alias in siblings]
            or [siblings[match] for match in difflib.get_close_matches(key, siblings, n=1, cutoff=0.7)]
            or [item for item in known if item.rpartition(".")[2] == key]
            or difflib.get_close_matches(key, tables, n=1)
            or difflib.get_close_matches(name, known, n=1)
        )
        place = f" in table [{table}]" if table else ""
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join([*siblings, *tables])}"
        return f"{where}: no setting '{key}'{place}; {hint}"


def keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a dataclass and those in it, as ``table.key``."""
    for name, hint in _hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from keys(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def read_toml(path: str | os.PathLike[str]) -> Table:
    """The table of a file.

    Raises:
        UsageError: not TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{os.fspath(path)}: not TOML ({error})") from error


def parse_toml(text: str, *, where: str) -> Table:
    """The table of a text.

    Raises:
        UsageError: not TOML; the message names ``where``.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML ({error})") from error


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _merge(table: Table, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        # Another loss has other settings: what an earlier layer set for its own is not carried over.
        if isinstance(value, Mapping) and isinstance(table.get(name), dict):
            if "name" in value and value["name"] != table[name].get("name") and "settings" in table[name]:
                table[name]["settings"] = {}
            _merge(table[name], value)
        else:
            table[name] = value


def _built(kind: Any, table: Mapping[str, Any], where: str, prefix: str) -> Any:
    values: Table = {}
    for name, value in table.items():
        hint = _hints(kind)[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _built(hint, value, where, f"{prefix}{name}.")
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
