"""`faceembed status`: how far a dataset is."""

from __future__ import annotations

import click

from faceembed.cli.dataset import DatasetOptions, access_options
from faceembed.cli.options import Output, output_options
from faceembed.cli.reporter import clock, per_second


@click.command()
@click.argument("dataset")
@access_options
@output_options
def status(dataset: str, access: DatasetOptions, out: Output) -> None:
    """Say how far a dataset is, also while a run writes it.

    \b
    Example:
        faceembed status people/
        faceembed status s3://bucket/people --json
    """
    from faceembed.engine.verbs.status import status as look

    found = look(dataset, access=access.access())
    lines = [
        f"{found.done:,} of {found.photos:,} photos done ({found.shards_done:,} of {found.shards:,} shards), {found.to_do:,} to do",
        f"{found.faces:,} faces, {found.no_face:,} photos without a face, {found.failed:,} failed",
    ]
    if found.photos_per_second and found.seconds_left:
        lines.append(f"{per_second(found.photos_per_second)}, {clock(found.seconds_left)} left at that rate")
    out.result(found.to_json_dict(), "\n".join(lines))
