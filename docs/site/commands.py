"""The command reference, written from click's own objects: what a page says is what `--help` says. It knows nothing of MkDocs."""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterator

import click

PROGRAM = "faceembed"


def walk(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all below it, in the order of the help; commands that are imported when asked for are imported."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is None:
                raise LookupError(f"'{context.command_path}' lists '{name}' and has no such command")
            if not below.hidden:
                yield from walk(below, click.Context(below, parent=context, info_name=name))


def pages(main: click.Group) -> dict[str, str]:
    """Page name (``embed``, ``data``; ``index`` for the table of all) to its Markdown, in the order of the help."""
    root = click.Context(main, info_name=PROGRAM, **main.context_settings)
    found = {"index": ""}
    table: list[str] = []
    for command, context in walk(main, root):
        if context is root:
            continue
        first = page_name(context.command_path.split()[1])
        depth = len(context.command_path.split()) - 1
        found[first] = found.get(first, "") + section(command, context, level=depth)
        if not isinstance(command, click.Group):
            anchor = f"{first}.md" if depth == 1 else f"{first}.md#{context.command_path.replace(' ', '-')}"
            table.append(f"| [`{context.command_path}`]({anchor}) | {_cell(command.get_short_help_str(200))} |")
    found["index"] = "\n".join(
        ["# Commands", "", *_description(main), "", "| command | what it does |", "| --- | --- |", *table, ""]
    )
    return found


def page_name(command: str) -> str:
    """The page of a command; `faceembed index` cannot have a folder's first page."""
    return f"faceembed-{command}" if command == "index" else command


def section(command: click.Command, context: click.Context, *, level: int) -> str:
    """One command: heading, what it does, usage, its options."""
    path = context.command_path
    anchor = path.replace(" ", "-")
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines = [f"{'#' * level} {path} {{ #{anchor} }}", "", "```text", f"Usage: {usage}", "```", ""]
    lines += [*_description(command), ""]
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    lines += ["| option | what it means |", "| --- | --- |"]
    lines += [f"| <code>{_bar(html.escape(names))}</code> | {_cell(what)} |" for names, what in records]
    return "\n".join(lines) + "\n\n"


def _description(command: click.Command) -> list[str]:
    """The docstring as Markdown: paragraphs, and what stands after a \\b as it is."""
    lines: list[str] = []
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        if not block.startswith("\b"):
            lines += [_escape(" ".join(block.split())), ""]
            continue
        text = block.lstrip("\b\n")
        title, _, rest = text.partition("\n")
        example = title.rstrip() == "Example:"
        body = inspect.cleandoc(rest) if example else text
        lines += ["**Example**", ""] if example else []
        lines += [f"```{'sh' if example else 'text'}", body, "```", ""]
    return lines


def _bar(text: str) -> str:
    """With bars that do not end a cell of a table."""
    return text.replace("|", "&#124;")


def _escape(text: str) -> str:
    """As Markdown: what looks like a tag, or like emphasis in FILE_NAMES, stays as it is; code in backticks is left alone."""
    parts = text.split("`")
    plain = [html.escape(part, quote=False).replace("*", "\\*").replace("_", "\\_") for part in parts[::2]]
    return "".join(a + (f"`{b}`" if b is not None else "") for a, b in zip(plain, [*parts[1::2], None], strict=True))


def _cell(text: str) -> str:
    return _bar(_escape(" ".join(text.split()))).replace("[", "\\[")
