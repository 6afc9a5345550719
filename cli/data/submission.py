"""`faceembed data submission`: the Kryptonite challenge's answer."""

from __future__ import annotations

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_argument,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.engine.photos.photo_file import encode_path, printable


@click.command()
@file_argument("folder")
@output_file_option("-o", "--output", kind="answer", required=True, metavar="CSV", help="Where the answer goes.")
@model_options
@output_options
@click.pass_context
def submission(ctx: click.Context, folder: str, output: str, models: ModelOptions, out: Output) -> None:
    """Score the test pairs of the Kryptonite challenge into its answer, pair_id,similarity.

    FOLDER holds <pair_id>/0.jpg and 1.jpg for each pair. A pair with a photo that has no face scores -1 and is reported.

    \b
    Example:
        faceembed data submission kryptonite/test -o submission.csv
    """
    from faceembed.trainer.data.kryptonite import write_submission

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        report = write_submission(
            folder, output, settings=models.settings(), notice=reporter.notice, progress=reporter.progress
        )
        for photo, reason in report.failures.items():
            reporter.notice(f"{photo}: {reason}")
    text = f"{report.pairs:,} pairs in {report.output}"
    if report.failed_pairs:
        text += f", {report.failed_pairs:,} of them -1: a photo without a face"
    document = report.to_json_dict()
    document["failures"] = {encode_path(photo): reason for photo, reason in report.failures.items()}
    out.result({**document, "output": encode_path(report.output)}, printable(text))
