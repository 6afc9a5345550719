"""`faceembed export-vectors` and `import-vectors`: vectors for other stores, and of others."""

from __future__ import annotations

import dataclasses

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_file_option, output_options
from faceembed.engine.photos.photo_file import printable


@click.command()
@file_argument("index")
@output_file_option(
    "-o", "--output", kind="vectors", required=True, metavar="FILE", help="What is written: .npy, .parquet or .lance."
)
@output_options
@click.pass_context
def export_vectors(ctx: click.Context, index: str, output: str, out: Output) -> None:
    """Write the vectors of an index for other programs.

    Vectors are exact, float32 and of unit length, row for row as in the index's table. A .npy file is the array alone; .parquet
    and .lance hold the table too, the vectors in a column of that name.

    \b
    Example:
        faceembed export-vectors people.faiss -o people.parquet
        faceembed export-vectors people.faiss -o people.npy
    """
    from faceembed.engine.verbs.vectors import export_vectors as export

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        report = export(index, output, notice=reporter.notice)
    text = f"{report.faces:,} vectors of {report.dimension} numbers by {report.encoder}: {report.path}"
    out.summary(dataclasses.asdict(report), printable(text))


@click.command()
@file_argument("vectors", metavar="VECTORS")
@file_option("-o", "--output", required=True, metavar="INDEX.faiss", help="The index; it must not be there yet.")
@file_option("--paths", metavar="FILE", help="The path of each vector's photo, one a line, where VECTORS has none.")
@click.option("--encoder", metavar="NAME", help="What made the vectors, where the file does not say.")
@click.option(
    "--index", "index_type", default="flat", show_default=True, help="flat, hnsw, ivf or a FAISS factory string."
)
@output_options
@click.pass_context
def import_vectors(
    ctx: click.Context,
    vectors: str,
    output: str,
    paths: str | None,
    encoder: str | None,
    index_type: str,
    out: Output,
) -> None:
    """Make an index of vectors that others computed.

    VECTORS is an .npy file with a row for each face, or a .parquet file with a column vector and, if known, path and other
    columns of an index's table. It can be clustered, drawn and evaluated; photos are looked for in it only if it says which
    encoder made it, by digest.

    \b
    Example:
        faceembed import-vectors people.parquet -o copy.faiss
        faceembed import-vectors theirs.npy -o theirs.faiss --paths photos.txt --encoder buffalo_l
    """
    from faceembed.engine.verbs.vectors import import_vectors as import_them

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        report = import_them(
            vectors, output, paths=paths, encoder=encoder, index_type=index_type, notice=reporter.notice
        )
    text = f"{report.faces:,} vectors of {report.dimension} numbers by {report.encoder}: {report.path}"
    out.summary(dataclasses.asdict(report), printable(text))
