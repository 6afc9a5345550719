"""`faceembed relocate`: tell an index that its photos are in another place."""

from __future__ import annotations

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, output_options
from faceembed.engine.photos.photo_file import encode_path, printable


@click.command()
@file_argument("index")
@file_argument("old")
@file_argument("new")
@output_options
@click.pass_context
def relocate(ctx: click.Context, index: str, old: str, new: str, out: Output) -> None:
    """Tell an index that photos of OLD are in NEW now.

    Photos of the same size and time are taken for the same; those of another time are read and compared. Nothing is
    computed, and what is not found stays as it was.

    \b
    Example:
        faceembed relocate people.faiss /mnt/nas /mnt/nas2
    """
    from faceembed.engine.verbs.relocate import relocate as relocate_in

    ctx.meta[OUTPUT] = index
    with out.reporter() as reporter:
        report = relocate_in(index, old, new, notice=reporter.notice)
    text = f"{report.photos:,} photos are in {new} now ({report.read:,} of them read)"
    if report.missing or report.changed:
        text += f"; {report.missing:,} are not there, {report.changed:,} are other ones: these stay as they were"
    out.summary({**report.to_json_dict(), "index": encode_path(report.index)}, printable(text))
