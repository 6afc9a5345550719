"""`faceembed matrix`: the similarity of every photo to every other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_argument,
    folder_options,
    given,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.cli.said import altered, largest_taken
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.photos.left_out import Choice
    from faceembed.engine.verbs.matrix import Matrix


@click.command()
@file_argument("photos", nargs=-1, required=True)
@output_file_option("--html", kind="page", metavar="FILE", help="Also write the table with thumbnails as a page there.")
@output_file_option("--png", kind="picture", metavar="FILE", help="Also write it as a picture there.")
@folder_options
@model_options
@output_options
@click.pass_context
def matrix(
    ctx: click.Context,
    photos: tuple[str, ...],
    html: str | None,
    png: str | None,
    choice: Choice,
    models: ModelOptions,
    out: Output,
) -> None:
    """Compare every photo with every other, by the largest face of each.

    PHOTOS are files, folders, and lists of them (@list.txt, or - for standard input); two photos at least.

    \b
    Example:
        faceembed matrix a.jpg b.jpg c.jpg
        faceembed matrix family/ --html family.html
    """
    from faceembed.engine.verbs.matrix import matrix as compare_photos

    ctx.meta[OUTPUT] = html or png or ""
    with out.reporter() as reporter:
        result = compare_photos(
            given(photos),
            settings=models.settings(),
            html=html,
            png=png,
            exclude=choice.exclude,
            include=choice.include,
            pages=choice.pages,
            fps=choice.fps,
            notice=reporter.notice,
        )
    document = result.to_json_dict()
    document["paths"] = [encode_path(path) for path in result.paths]
    document["failures"] = {encode_path(path): reason for path, reason in result.failures.items()}
    out.result(document, _text(result))


def _text(result: Matrix) -> str:
    """Rows are numbered, and the columns carry those numbers."""
    count = len(result.paths)
    number = len(str(count))
    names = [os.path.basename(path) for path in result.paths]
    shown = [printable(name) for name in (names if len(set(names)) == count else result.paths)]
    width = max(map(len, shown))
    real, looks = result.real or [None] * count, result.altered or [None] * count
    lines = [f"{'':{number}}  {'':{width}}" + "".join(f"{column:7}" for column in range(1, count + 1))]
    for row, (path, name) in enumerate(zip(result.paths, shown, strict=True)):
        start = f"{row + 1:{number}}  {name:<{width}}"
        if path in result.failures:
            lines.append(f"{start}  {result.failures[path]}")
            continue
        cells = (
            "      -" if other in result.failures else f"{value:7.3f}"
            for other, value in zip(result.paths, result.similarity[row].tolist(), strict=True)
        )
        said = altered(real[row], looks[row])
        lines.append(start + "".join(cells) + (f"   {said}" if said else ""))
    return "\n".join([*lines, *largest_taken(shown, result.faces)])
