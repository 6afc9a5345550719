"""What the pages share: the template engine, thumbnails as data, and names that are safe to show."""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Callable
from typing import Any

from faceembed.files import atomic_write
from faceembed.outputs import check_output

Thumbnails = Callable[[str], "bytes | None"]
"""Gives the JPEG bytes of a small version of the photo at a path, or None where there is none to show."""


def write_page(path: str | os.PathLike[str], template: str, /, **values: Any) -> None:
    """Render ``<template>.html.j2`` with every value escaped, and write it as UTF-8.

    Args:
        path: the file to write.
        template: one of this folder's, or the path of another, which may extend those of this folder.
        values: what the template is given.

    Raises:
        OSError: the file cannot be written.
    """
    folder, name = os.path.split(template)
    html = _environment(folder).get_template(f"{name}.html.j2").render(**values)
    check_output(path, "page")
    with atomic_write(path, "wb") as file:
        file.write(html.encode("utf-8"))


def shown(name: str) -> str:
    """``name`` with control, direction-changing and undecodable characters spelled out as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def short_names(paths: list[str]) -> dict[str, str]:
    """Each path, as it is shown, without the folder that all of them share."""
    folders = [os.path.dirname(path) for path in paths]
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative ones mixed, or two drives
        common = ""
    return {path: shown(os.path.relpath(path, common) if common else path) for path in paths}


def thumbnail_source(thumbnails: Thumbnails) -> Callable[[str], str | None]:
    """``data:`` addresses of thumbnails, each photo being asked for once."""

    @functools.cache
    def source(path: str) -> str | None:
        data = thumbnails(path)
        return None if data is None else f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"

    return source


def percent(value: float) -> str:
    """A share as per cent, with two digits that say something: ``1.10 %``, ``0.012 %``."""
    share = 100 * value
    digits = 2 if share == 0 or share >= 0.1 else 3 if share >= 0.01 else 4
    return f"{share:.{digits}f} %"


def two_digits(value: float) -> str:
    """A similarity as ``0.83`` or ``−0.07``, never ``−0.00``."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


@functools.cache
def _environment(folder: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*([folder] if folder else []), os.path.dirname(__file__)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, similarity=two_digits)
    return environment
