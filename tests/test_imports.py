"""Imports go one way: no circle of files at all, imports inside functions and for types alone counted; and tools find every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"faceembed": "src/faceembed", **{f"faceembed.{room}": room for room in ("engine", "trainer", "cli")}}
Graph = dict[str, set[str]]


def sources(root: Path, homes: Mapping[str, str] = HOMES) -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package, home in homes.items():
        for path in (root / home).rglob("*.py"):
            parts = path.relative_to(root / home).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, list[str]]]:
    """Each import statement with what it may mean: ``from a import b`` is ``a.b`` if that is a module, else ``a``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, [alias.name]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, [f"{node.module}.{alias.name}", str(node.module)]


def graph_of(modules: Mapping[str, Path]) -> Graph:
    """Who imports whom, among these modules."""
    graph: Graph = {}
    for name, path in modules.items():
        graph[name] = set()
        for _, meanings in imports(ast.parse(path.read_text(encoding="utf-8"))):
            target = next((meaning for meaning in meanings if meaning in modules), name)
            graph[name] |= {target} - {name}
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """What is left when modules that import nothing, or are imported by nobody, are taken away again and again."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        targets = {target for of in left.values() for target in of}
        ends = {name for name, of in left.items() if not of or name not in targets}
        if not ends:
            break
        left = {name: of - ends for name, of in left.items() if name not in ends}
    found: list[list[str]] = []
    while left:  # one circle of each knot, to say where it is
        way = [min(left)]
        while (step := min(left[way[-1]])) not in way:
            way.append(step)
        found.append(way[way.index(step) :])
        left = {name: of for name, of in left.items() if name not in way}
        left = {name: of & left.keys() for name, of in left.items() if of & left.keys()}
    return found


def test_no_circle_of_files() -> None:
    graph = graph_of(sources(ROOT))
    assert len(graph) > 300 and sum(map(len, graph.values())) > 1000
    assert "faceembed.engine.verbs.embed" in graph["faceembed.cli.embed"]  # inside a function
    assert "faceembed.engine.pipeline.batches" in graph["faceembed.engine.verbs.embed"]  # for types alone
    assert circles(graph) == []


@pytest.mark.parametrize(
    "back",
    [
        "from faceembed.a import thing",
        "import faceembed.a",
        "from faceembed import a",
        "def late():\n    from faceembed.a import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from faceembed.a import Thing",
        "class Late:\n    def get(self):\n        try:\n            from faceembed import a\n        except ImportError:\n            pass",
    ],
)
def test_a_made_circle_is_found(tmp_path: Path, back: str) -> None:
    texts = {
        "__init__": "",
        "a": "from faceembed.b import x",
        "b": "from faceembed import c",
        "c": back,
        "d": "import faceembed.a",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    homes = {"faceembed": "."}
    found = circles(graph_of(sources(tmp_path, homes)))
    assert [set(circle) for circle in found] == [{"faceembed.a", "faceembed.b", "faceembed.c"}]
    (tmp_path / "c.py").write_text("import json", encoding="utf-8")
    assert circles(graph_of(sources(tmp_path, homes))) == []


def test_two_circles_are_two() -> None:
    graph: Graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}, "g": set()}
    assert sorted(map(sorted, circles(graph))) == [["a", "b"], ["c", "d", "e"]]


def test_an_import_inside_a_function_says_what_is_optional() -> None:
    """Of our own modules, that is; commands import what they run when they run it, so that help is quick."""
    for name, path in sources(ROOT).items():
        if name.startswith(("faceembed.engine", "faceembed.trainer")):
            text = path.read_text(encoding="utf-8")
            for function in ast.walk(ast.parse(text)):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    for node, meanings in imports(function):
                        if meanings[-1].startswith("faceembed"):
                            line = text.splitlines()[node.lineno - 1]
                            assert "  # optional: " in line, f"{path}:{node.lineno}: {line.strip()}"


def test_tools_find_every_module() -> None:
    """`typings/` has a link for each folder and each file, under the name that it is installed by."""
    tree = ROOT / "typings" / "faceembed"
    if not (tree / "engine").is_dir():
        pytest.skip("this checkout has no links, as a zip has none; `make types` puts them there")
    wanted = {room: ROOT / room for room in ("engine", "trainer", "cli")}
    wanted |= {path.name: path for path in (ROOT / "src" / "faceembed").iterdir() if path.name != "__pycache__"}
    assert {path.name: path.resolve() for path in tree.iterdir() if path.name != "__pycache__"} == wanted
