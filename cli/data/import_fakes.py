"""`faceembed data import-fakes`: pictures made elsewhere, as fakes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_options
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.trainer.data.fakes.imports import ImportReport


@click.command("import-fakes")
@file_argument("pictures")
@file_option("-o", "--output", required=True, metavar="FOLDER", help="A folder of fakes, new or of `data fakes`.")
@click.option("--method", required=True, metavar="NAME", help="How they were made, as in arc2face.")
@file_option(
    "--csv", "provenance", metavar="FILE", help="What is known of each: fake, source_person, target_person, ..."
)
@click.option("--link", is_flag=True, help="Link the files instead of copying them.")
@output_options
@click.pass_context
def import_fakes(
    ctx: click.Context, pictures: str, output: str, method: str, provenance: str | None, link: bool, out: Output
) -> None:
    """Register pictures made elsewhere (Arc2Face, InstantID, ...) as deepfakes.

    PICTURES holds <person>/<file>, where the person is the one that each picture pretends to show; or --csv says it, with
    the columns fake (a path below PICTURES) and source_person, and if known source_photo, target_person, target_photo and
    seed. A file that is no picture is a row of FOLDER/errors.csv.

    \b
    Example:
        faceembed data import-fakes arc2face -o fakes --method arc2face
        faceembed data import-fakes out -o fakes --method instantid --csv provenance.csv
    """
    from faceembed.trainer.data.fakes.imports import import_fakes as register

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        report = register(
            pictures,
            output,
            method=method,
            provenance=provenance,
            copy="link" if link else "copy",
            progress=reporter.progress,
        )
    shown = dataclasses.replace(report, output=encode_path(report.output))
    out.result(shown.to_json_dict(), _summary(report, method))


def _summary(report: ImportReport, method: str) -> str:
    lines = [
        f"{report.imported:,} pictures imported as {method}"
        + (f", {report.skipped:,} were there" if report.skipped else "")
    ]
    kinds = ", ".join(f"{count:,} {name}" for name, count in report.methods.items())
    lines.append(f"{report.fakes:,} fakes in {report.output}: {kinds}")
    if report.failed:
        lines.append(f"{report.failed:,} files are no pictures: see errors.csv there")
    return "\n".join(map(printable, lines))
