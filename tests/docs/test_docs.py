"""The documentation says what is so: its commands parse, its Python runs, its links lead somewhere, its two READMEs agree."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner

import faceembed
from faceembed.cli.main import main
from faceembed.engine.photos.sample import sample_photos

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("engine/models/builtin/*.md"),
        ROOT / "benchmarks" / "README.md",
    ]
)

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_BREAKS = {"&&", "||", ";", "|", "do", "done", "for", "&"}


class Quote(NamedTuple):
    """One `faceembed …` line of a page."""

    page: str
    line: str
    args: list[str]
    whole: bool
    """Whether it stands in a code block, to be run as it is."""

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def fences(text: str, *languages: str) -> list[str]:
    """The code blocks of a page in these languages."""
    return [body for _, language, body in _FENCE.findall(text) if language in languages]


def quotes(path: Path) -> Iterator[Quote]:
    """Every `faceembed …` that a page quotes, in its code blocks and in its text."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    indented = [line.strip() for line in _joined(text) if line.startswith("    ")]
    blocks = [line for body in fences(text, "sh", "bash", "console", "text", "") for line in _joined(body)]
    for line in dict.fromkeys([*blocks, *indented]):
        for args in _calls(line):
            yield Quote(name, line, args, whole="…" not in line)
    for line in _INLINE.findall(_FENCE.sub("", text)):
        for args in _calls(line):
            yield Quote(name, line, args, whole=False)


def _joined(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def _calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of faceembed in a line of shell."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # not a line of shell
        return
    call: list[str] = []
    for word in [*words, ";"]:
        if word not in _BREAKS:
            call.append(word)
            continue
        if call and re.fullmatch(r"(.*/)?faceembed", call[0]):
            yield call[1:]
        elif call[:2] == ["docker", "run"] and (image := {"faceembed", "faceembed:cuda"} & {*call}):
            yield call[call.index(image.pop()) + 1 :]
        elif "-m" in call and call[call.index("-m") : call.index("-m") + 2] == ["-m", "faceembed"]:
            yield call[call.index("-m") + 2 :]
        call = []


def module(name: str) -> Any:
    """A module of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(ROOT / "docs" / "site"))
    return loaded


QUOTES = [quote for page in PAGES for quote in quotes(page)]


def _command(args: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that a line calls, and what is left for it."""
    command: click.Command = main
    context = click.Context(main, info_name="faceembed", **main.context_settings)
    while isinstance(command, click.Group) and args and not args[0].startswith("-"):
        below = command.get_command(context, args[0])
        assert below is not None, f"there is no command '{context.command_path} {args[0]}'"
        command, context, args = below, click.Context(below, parent=context, info_name=args[0]), args[1:]
    return command, context, args


def check(quote: Quote) -> None:
    """Parse a line as the command line does, without looking at files or doing anything.

    Raises:
        click.UsageError: it would be refused.
    """
    command, context, args = _command([word for word in quote.args if word != "…"])
    if isinstance(command, click.Group) and not args:
        assert not quote.whole, "a command is missing"
        return
    values, left, _ = command.make_parser(context).parse_args(list(args))
    assert not left, f"nothing takes {left}"
    for param in command.get_params(context):
        value = values.get(param.name)
        given = isinstance(value, (str, bool, int, tuple, list)) and value not in ((), [])
        if given and not isinstance(param.type, click.Path):
            param.type_cast_value(context, value)
        if quote.whole and param.required and not given:
            raise click.MissingParameter(ctx=context, param=param)


def test_commands_are_quoted() -> None:
    """The search for them finds what a reader sees."""
    readme = [quote.line for quote in QUOTES if quote.page == "README.md"]
    assert "faceembed doctor" in readme
    assert any(line.endswith(".venv/bin/faceembed embed ~/Pictures -o people.faiss") for line in readme)
    assert {quote.page for quote in QUOTES} >= {"README.ru.md", "docs/guides/train.md", "docs/models.md"}
    containers = [quote.args[0] for quote in QUOTES if quote.line.startswith("docker run")]
    assert containers == ["embed", "serve"]
    assert sum(quote.whole for quote in QUOTES) > 50


@pytest.mark.parametrize("page", sorted({quote.page for quote in QUOTES}))
def test_commands_parse(page: str) -> None:
    """No page quotes a command, an option or a value that the command line would refuse."""
    wrong = []
    for quote in (quote for quote in QUOTES if quote.page == page):
        try:
            check(quote)
        except (click.UsageError, AssertionError) as error:
            wrong.append(f"{quote.line}: {error.format_message() if isinstance(error, click.UsageError) else error}")
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("faceembed embed photos --outputs people.faiss", "No such option"),
        ("faceembed data clear people -o cleaned", "no command"),
        ("faceembed data split people", "Missing option"),
        ("faceembed embed photos -o people.faiss --faces both", "is not one of"),
        ("faceembed models list all", "nothing takes"),
    ],
)
def test_a_wrong_command_is_found(line: str, fault: str) -> None:
    """The check sees what the command line would refuse."""
    with pytest.raises((click.UsageError, AssertionError)) as caught:
        check(Quote("page", line, line.split()[1:], whole=True))
    error = caught.value
    assert fault in (error.format_message() if isinstance(error, click.UsageError) else str(error))


def test_options_in_the_text_exist() -> None:
    """An option that a page names alone is one of some command, or of a script of benchmarks/."""
    known = {name for command, context in _walk() for p in command.get_params(context) for name in p.opts}
    scripts = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("benchmarks/*.py"))
    unknown = {
        (path.name, option)
        for path in PAGES
        for option in re.findall(r"`(--[a-z][a-z-]+)", path.read_text(encoding="utf-8"))
        if option not in known and f'"{option}"' not in scripts
    }
    assert unknown == set()


def _walk() -> list[tuple[click.Command, click.Context]]:
    root = click.Context(main, info_name="faceembed", **main.context_settings)
    return list(module("commands").walk(main, root))


def test_reference_of_commands_says_what_help_says() -> None:
    """Every command is on a page, lazily imported ones too, with every option that its --help lists."""
    pages = module("commands").pages(main)
    for command, context in _walk()[1:]:
        path = context.command_path.split()[1:]
        text = pages[module("commands").page_name(path[0])]
        assert f" {context.command_path} {{ #" in text
        printed = CliRunner().invoke(main, [*path, "--help"]).output
        section = text[text.index(f" {context.command_path} {{ #") :]
        for option in re.findall(r"^  (?:-\w, )?(--[a-z-]+)", printed, re.MULTILINE):
            assert option in section, f"{context.command_path} {option}"
        assert isinstance(command, click.Group) or f"`{context.command_path}`" in pages["index"]
    assert "data" in pages and "faceembed data import-fakes" in pages["data"]


def test_every_public_name_is_in_the_reference() -> None:
    """What `import faceembed` offers is on the Python page, and what its functions give back."""
    text = module("hooks").python_reference()
    for name in (*faceembed.__all__, "Verification", "Matrix", "Evaluation", "Hit", "EmbedReport"):
        assert name == "__version__" or f"heading: {name}\n" in text


@pytest.mark.parametrize("tag", ['<script src="https://x.org/a.js">', "<img alt=x src=//x.org/a.png>"])
def test_a_site_that_loads_from_elsewhere_is_refused(tmp_path: Path, tag: str) -> None:
    """A reader's browser asks nobody else."""
    hooks = module("hooks")
    (tmp_path / "index.html").write_text('<a href="https://x.org">x</a><script src="a.js"></script>')
    config = types.SimpleNamespace(site_dir=str(tmp_path))
    hooks.on_post_build(config)
    (tmp_path / "page.html").write_text(f"<p>{tag}</p>")
    with pytest.raises(hooks.PluginError, match=r"page\.html loads something from elsewhere"):
        hooks.on_post_build(config)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Links and pictures are files of the repository, as on a forge; the strict build looks at the site's."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text) + re.findall(r'<img src="([^"]+)"', text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readmes_are_in_step() -> None:
    """The Russian README has the headings, commands, links and figures of the English one, in the same order."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ru.md")]
    shapes = [[len(marks) for marks in re.findall(r"^(#+) ", _FENCE.sub("", text), re.MULTILINE)] for text in texts]
    assert shapes[0] == shapes[1]
    assert fences(texts[0], "sh", "python") == fences(texts[1], "sh", "python")
    inline = [re.findall(r"`((?:faceembed|pip|apt-get|make|--)[^`]*)`", _FENCE.sub("", text)) for text in texts]
    assert inline[0] == [line for line in inline[1] if line != "face_recognition"]
    links = [re.findall(r"\]\(([^)]+)\)", text) for text in texts]
    assert links[0][1:] == links[1][1:]
    rows = [len(re.findall(r"^\| ", text, re.MULTILINE)) for text in texts]
    assert rows[0] == rows[1]
    figures = [
        sorted(re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d)[,\u00a0 ](?=\d{3}\b)", "", text))) for text in texts
    ]
    assert figures[0] == figures[1]


def test_changelog_keeps_its_form() -> None:
    """Keep a Changelog: versions in brackets, newest first, each kind of change once and in its order, items without gaps."""
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    _, *versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    numbers = []
    for version in versions:
        title, *sections = re.split(r"^### ", version, flags=re.MULTILINE)
        found = re.match(r"\[(\d+)\.(\d+)\.(\d+)\] - (unreleased|not released|\d{4}-\d{2}-\d{2})\n", title)
        assert found, title.splitlines()[0]
        numbers.append(tuple(int(part) for part in found.groups()[:3]))
        names = [section.splitlines()[0] for section in sections]
        assert names == [kind for kind in kinds if kind in names]
        for section in sections:
            assert "\n\n- " not in section.partition("\n\n")[2], f"a gap in {section.splitlines()[0]}"
    assert numbers == sorted(numbers, reverse=True)
    assert faceembed.__version__ == ".".join(map(str, numbers[0]))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, _home: Path) -> Iterator[Path]:
    """A folder in which the guides' Python finds the files that it names."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(sample_photos(), folder / "photos")
    names = ("astronaut.png", "darker.jpg", "mirrored.jpg", "grey.jpg")
    for name, copy in zip(names, ("a.jpg", "b.jpg", "c.jpg", "query.jpg"), strict=True):
        shutil.copy(folder / "photos" / name, folder / copy)
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path_a", "path_b", "label"), ("a.jpg", "b.jpg", 1), ("a.jpg", "c.jpg", 0)])
    with open(folder / "scores.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("label", "similarity"), (0, 0.5), (0, 0.6), (1, 0.9)])
    before = Path.cwd()
    os.chdir(folder)
    try:
        faceembed.embed("photos", "people.faiss")
        for year in ("2019", "2020"):
            for suffix in (".faiss", ".faiss.parquet", ".faiss.json", ".faiss.errors.csv"):
                shutil.copy(f"people{suffix}", f"{year}{suffix}")
        yield folder
    finally:
        os.chdir(before)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # a guide may be short
@pytest.mark.parametrize(
    ("page", "code"),
    [
        pytest.param(path, body, id=f"{path.name}-{place}")
        for path in PAGES
        if path.name != "README.ru.md"
        for place, body in enumerate(fences(path.read_text(encoding="utf-8"), "python"))
    ],
)
def test_python_runs(page: Path, code: str, desk: Path) -> None:
    """Each block of Python does what it is there for, without an error."""
    exec(compile(code, page.name, "exec"), {"__name__": "guide"})  # noqa: S102
