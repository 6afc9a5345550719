"""`faceembed regions`: names that other programs wrote into photos."""

from __future__ import annotations

import dataclasses

import click

from faceembed.cli import said
from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_file_option, output_options
from faceembed.engine.photos.photo_file import printable


@click.command()
@file_argument("index")
@output_file_option("-o", "--output", kind="names", required=True, metavar="CSV", help="The table path,face,name.")
@file_option(
    "--contacts", metavar="XML", help="Picasa's contacts.xml, where its inis do not hold the names themselves."
)
@output_options
@click.pass_context
def regions(ctx: click.Context, index: str, output: str, contacts: str | None, out: Output) -> None:
    """Collect names that digiKam, Lightroom, Picasa and others wrote into an index's photos.

    Face regions in XMP, in the photos or in sidecars beside them, and in Picasa's inis are matched with the faces of the index by their
    places; a name of Google Takeout, which has none, goes to a photo's only face. The table is what cluster --names and write-names take.
    Nothing is written into photos.

    \b
    Example:
        faceembed regions people.faiss -o names.csv
    """
    from faceembed.engine.verbs.regions import regions as collect

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        report = collect(index, output, contacts=contacts, notice=reporter.notice)
    lines = [
        f"{report.named:,} faces of {said.people(report.people)} in {report.output}; next: faceembed cluster … --names {report.output}"
    ]
    if report.elsewhere:
        lines.append(f"{report.elsewhere:,} names lie where the index has no face")
    if report.unplaced:
        lines.append(f"{report.unplaced:,} names have no place on their photos, and could be of several faces")
    if report.unread:
        lines.append(f"{report.unread:,} photos could not be read")
    out.summary(dataclasses.asdict(report), "\n".join(map(printable, lines)))


@click.command("write-names")
@file_argument("index")
@file_argument("names", metavar="NAMES")
@output_options
def write_names(index: str, names: str, out: Output) -> None:
    """Write names into XMP sidecars beside an index's photos, for digiKam, Lightroom and others.

    NAMES is a table with the columns path and name (and face), as regions writes it, or a file of cluster with names. Each named face becomes
    a face region (MWG) in IMG.jpg.xmp, or in the sidecar that is there, which keeps all that is in it. A sidecar with regions of another
    program is left alone. Names that are not in NAMES any more are taken out again. Nothing is written into photos.

    \b
    Example:
        faceembed write-names people.faiss names.csv
        faceembed write-names people.faiss people.clusters.parquet
    """
    from faceembed.engine.verbs.write_names import write_names as write

    with out.reporter() as reporter:
        report = write(index, names, notice=reporter.notice)
    lines = [
        f"{report.named:,} faces of {said.people(report.people)} in the sidecars of {said.photos(report.photos)}; {report.changed:,} sidecars were changed"
    ]
    if report.left:
        lines.append(f"{said.photos(report.left)} left alone; the reasons are above")
    out.summary(dataclasses.asdict(report), "\n".join(map(printable, lines)))
    if report.left and not report.photos:
        raise click.ClickException(f"no name could be written for any of {report.left:,} photos; the reasons are above")
