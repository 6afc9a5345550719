"""`faceembed index`: an index of a dataset."""

from __future__ import annotations

import click

from faceembed.cli.dataset import DatasetOptions, access_options
from faceembed.cli.options import Output, file_option, output_options
from faceembed.cli.reporter import clock


@click.command()
@click.argument("dataset")
@file_option("-o", "--output", required=True, metavar="INDEX.faiss", help="The index; its other files lie beside it.")
@click.option(
    "--index",
    "index_type",
    default="auto",
    show_default=True,
    metavar="TYPE",
    help="auto, flat, hnsw, ivf, compact (132 bytes a face in memory at 100,000 faces, ranked by the exact vectors on disk) or a FAISS factory string.",
)
@click.option("--memory", default="8G", show_default=True, metavar="BYTES", help="What building it may take.")
@access_options
@output_options
def index(dataset: str, output: str, index_type: str, memory: str, access: DatasetOptions, out: Output) -> None:
    """Make an index of a dataset that `embed -o FOLDER/` filled, shard by shard.

    \b
    Example:
        faceembed index people/ -o people.faiss
        faceembed index s3://bucket/people -o people.faiss --index compact --memory 4G
    """
    from faceembed.engine.pipeline.amounts import parse_amount
    from faceembed.engine.verbs.index import index_dataset

    with out.reporter() as reporter:
        report = index_dataset(
            dataset,
            output,
            index_type=index_type,
            memory=parse_amount(memory, "--memory"),
            access=access.access(),
            notice=reporter.notice,
        )
    text = (
        f"{report.faces:,} faces of {report.shards:,} shards in {report.index} ({report.kind}, "
        f"{report.bytes_in_memory / max(report.faces, 1):.0f} bytes a face in memory) in {clock(report.seconds)}"
    )
    out.summary(report.to_json_dict(), text)
