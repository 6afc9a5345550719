"""`faceembed project`: the faces of an index as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_file_option, output_options
from faceembed.cli.reporter import clock
from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.verbs.project import ProjectReport

# Written out, because the module that knows them loads numpy; a test holds the two together.
METHODS = ("auto", "pca", "tsne", "umap")


@click.command()
@file_argument("index")
@output_file_option("-o", "--output", kind="page", required=True, metavar="FILE.html", help="The page to write.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="auto: t-SNE up to 10,000 faces, PCA above.",
)
@file_option("--clusters", metavar="FILE", help="Colour by the clusters in this file, made by cluster.")
@file_option("--fakes", multiple=True, metavar="FOLDER", help="Photos below it are deepfakes: colour by real and fake.")
@click.option(
    "--thumbnails",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Faces in the page as small pictures, about 2 kB each.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of t-SNE, UMAP and the choice of thumbnails.")
@output_options
@click.pass_context
def project(
    ctx: click.Context,
    index: str,
    output: str,
    method: str,
    clusters: str | None,
    fakes: tuple[str, ...],
    thumbnails: int,
    seed: int,
    out: Output,
) -> None:
    """Draw the faces of an index as a map to look at.

    FILE.html is one self-contained page: zoom, move, search by path, a face under the mouse, and colours by folder,
    cluster, or real and fake.

    \b
    Example:
        faceembed project people.faiss -o map.html
        faceembed project people.faiss -o map.html --clusters people.clusters.parquet --thumbnails 3000
    """
    from faceembed.engine.verbs.project import ProjectSettings
    from faceembed.engine.verbs.project import project as project_index

    ctx.meta[OUTPUT] = output
    settings = ProjectSettings(method=method, clusters=clusters, fakes=fakes, thumbnails=thumbnails, seed=seed)
    with out.reporter() as reporter:
        report = project_index(index, output, settings=settings, notice=reporter.notice)
    out.summary(report.to_json_dict(), _summary(report))


def _summary(report: ProjectReport) -> str:
    size = f"{report.bytes / 1e6:.1f} MB"
    lines = [
        f"{report.faces:,} faces by {report.method} in {clock(report.seconds)}",
        f"{report.thumbnails:,} thumbnails, colours by {', '.join(report.groupings)}",
        f"look: {report.output} ({size})",
    ]
    return "\n".join(map(printable, lines))
