"""`faceembed remove`: photos or people out of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_options
from faceembed.cli.reporter import amount
from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.verbs.remove import RemoveReport


@click.command()
@file_argument("index")
@file_argument("what", nargs=-1, required=True, metavar="PATH|PERSON...")
@file_option("--clusters", multiple=True, metavar="FILE", help="Clusters of this index, beside those that it knows of.")
@output_options
@click.pass_context
def remove(ctx: click.Context, index: str, what: tuple[str, ...], clusters: tuple[str, ...], out: Output) -> None:
    """Take photos or people out of an index.

    PATH is a photo or a folder, there or not; PERSON is a folder's name of `cluster --links`, as in person-000003. Index,
    unfinished run, clusters and links are written anew without them. Photos that are still there stay out of later runs.

    \b
    Example:
        faceembed remove people.faiss archive/AJ_Cook
        faceembed remove people.faiss person-000003 --clusters people.clusters.parquet
    """
    from faceembed.engine.verbs.remove import remove as remove_from

    ctx.meta[OUTPUT] = index
    with out.reporter() as reporter:
        report = remove_from(index, what, clusters=clusters, notice=reporter.notice)
    out.summary(report.to_json_dict(), _summary(report))


def _summary(report: RemoveReport) -> str:
    faces = amount(report.faces, "face")
    lines = [f"{faces} taken out, {report.left:,} left in {report.index}"]
    if report.on_disk:
        lines.append(f"still there, and left out of later runs: {report.on_disk:,} of these photos")
    if report.clusters or report.links:
        lines.append(f"{len(report.clusters):,} files of clusters written anew, {report.links:,} links deleted")
    if report.pages:
        lines.append(f"delete or make again what may show them: {', '.join(report.pages)}")
    return "\n".join(map(printable, lines))
