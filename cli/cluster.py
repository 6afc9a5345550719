"""`faceembed cluster`: the faces of an index grouped by person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli import said
from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_file_option, output_options
from faceembed.cli.reporter import clock
from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.verbs.cluster import ClusterReport


@click.command()
@file_argument("index")
@output_file_option(
    "-o", "--output", kind="clusters", required=True, metavar="FILE", help="The clusters, .parquet or .json."
)
@file_option("--links", metavar="FOLDER", help="Also make a folder of links to photos for each cluster there.")
@click.option(
    "--least-faces",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Clusters of fewer faces get no folder of links.",
)
@click.option(
    "--threshold",
    type=float,
    metavar="COSINE",
    help="Faces less alike are never neighbours; higher makes more and purer clusters.  "
    "[default: as in the run before, else by the encoder's own threshold]",
)
@file_option(
    "--constraints",
    metavar="CSV",
    help="Pairs that must or cannot be one person: path_a,path_b,link, or face_id_a,face_id_b,link.",
)
@file_option(
    "--names",
    metavar="CSV",
    help="Whose faces are: path,name or face_id,name; their clusters bear these names, in later runs too.",
)
@click.option("--keep", is_flag=True, help="Place only new faces, and leave the others where they are: quicker.")
@click.option("--fresh", is_flag=True, help="Forget the clusters that FILE holds.")
@click.option("--no-duplicates", is_flag=True, help="Do not look at photos to see which are one picture.")
@output_options
@click.pass_context
def cluster(
    ctx: click.Context,
    index: str,
    output: str,
    links: str | None,
    least_faces: int,
    threshold: float | None,
    constraints: str | None,
    names: str | None,
    keep: bool,
    fresh: bool,
    no_duplicates: bool,
    out: Output,
) -> None:
    """Group the faces of an index by person.

    FILE gets a row for each face with the number of its cluster and, where the same picture is there twice, which one it
    repeats. A second run after photos were added keeps the numbers and names: a person stays who they were. Two faces of one photo are two
    people, unless --constraints says otherwise.

    \b
    Example:
        faceembed cluster people.faiss -o people.clusters.parquet --links by-person
        faceembed cluster people.faiss -o people.clusters.json --threshold 0.95
        faceembed cluster people.faiss -o people.clusters.parquet --names names.csv --constraints links.csv
    """
    from faceembed.engine.verbs.cluster import ClusterSettings
    from faceembed.engine.verbs.cluster import cluster as cluster_index

    ctx.meta[OUTPUT] = output
    settings = ClusterSettings(
        threshold=threshold, keep=keep, fresh=fresh, duplicates=not no_duplicates, least_faces=least_faces
    )
    with out.reporter() as reporter:
        report = cluster_index(
            index, output, settings=settings, links=links, constraints=constraints, names=names, notice=reporter.notice
        )
    out.summary(report.to_json_dict(), _summary(report, links))


def _summary(report: ClusterReport, links: str | None) -> str:
    several = report.clusters - report.single
    people = f"{several:,} people with two faces or more, the largest has {report.largest:,}; {report.single:,} alone"
    lines = [f"{report.faces:,} faces in {clock(report.seconds)}: {people}"]
    if report.new_faces < report.faces:
        lines.append(
            f"{report.new_faces:,} faces are new, {report.new_clusters:,} clusters; {report.moved:,} known faces moved"
        )
    if report.named:
        lines.append(f"{said.people(report.named)} with names")
    if report.duplicates:
        lines.append(f"{report.duplicates:,} are copies of a picture that is there already")
    if links is not None:
        missing = f"; {report.links_missing:,} photos have none, as they are not there" if report.links_missing else ""
        lines.append(f"{report.links:,} folders of links in {links}{missing}")
    lines.append(f"look: {report.output}")
    return "\n".join(map(printable, lines))
