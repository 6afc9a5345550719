"""`faceembed regions`: names that other programs wrote into photos."""

from __future__ import annotations

import dataclasses

import click

from faceembed.cli import said
from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, output_file_option, output_options
from faceembed.engine.photos.photo_file import printable


@click.command()
@file_argument("index")
@output_file_option("-o", "--output", kind="names", required=True, metavar="CSV", help="The table path,face,name.")
@output_options
@click.pass_context
def regions(ctx: click.Context, index: str, output: str, out: Output) -> None:
    """Collect names that digiKam, Lightroom, Picasa and others wrote into an index's photos.

    Face regions in XMP, in the photos or in sidecars beside them, are matched with the faces of the index by their places. The table is
    what cluster --names takes. Nothing is written into photos.

    \b
    Example:
        faceembed regions people.faiss -o names.csv
    """
    from faceembed.engine.verbs.regions import regions as collect

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        report = collect(index, output, notice=reporter.notice)
    lines = [
        f"{report.named:,} faces of {said.people(report.people)} in {report.output}; next: faceembed cluster … --names {report.output}"
    ]
    if report.elsewhere:
        lines.append(f"{report.elsewhere:,} names lie where the index has no face")
    if report.unread:
        lines.append(f"{report.unread:,} photos could not be read")
    out.summary(dataclasses.asdict(report), "\n".join(map(printable, lines)))
