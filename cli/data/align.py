"""`faceembed data align`: photos of people into crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli import said
from faceembed.cli.data.selection import Selection, selection_options
from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Numbers,
    Output,
    file_argument,
    file_option,
    model_options,
    output_options,
)
from faceembed.cli.reporter import clock, per_second
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.trainer.data.align import AlignReport


@click.command()
@file_argument("people", nargs=-1, required=True)
@file_option("-o", "--output", required=True, metavar="FOLDER", help="Where the crops go; a folder of their own.")
@click.option(
    "--format", "file_format", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True, help="Of the crops."
)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG files.")
@click.option(
    "--recompress",
    type=Numbers(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Compress this share of the real photos once more, as `data fakes` compresses, so that no encoder can tell deepfakes by "
    "their JPEG.",
)
@click.option("--fresh", is_flag=True, help="Start over: delete the crops that are there.")
@selection_options
@model_options
@output_options
@click.pass_context
def align(
    ctx: click.Context,
    people: tuple[str, ...],
    output: str,
    file_format: str,
    quality: int,
    recompress: float,
    fresh: bool,
    selection: Selection,
    models: ModelOptions,
    out: Output,
) -> None:
    """Cut the faces of people's photos into the crops that an encoder takes.

    PEOPLE are folders of people's folders, lists such as identity_CelebA.txt, Kryptonite folders, and folders of `data
    fakes`. --encoder is a model or one of the trainer's architectures: its template and input size make the crops. A
    second run cuts what is new or changed; an interrupted run goes on. A photo that cannot be read or has no face is a
    row of FOLDER/errors.csv.

    \b
    Example:
        faceembed data align people fakes -o crops
        faceembed data align people -o mixed --recompress 0.5
        faceembed data align lfw -o crops --encoder ir50 --exclude-pairs lfw_pairs.txt
    """
    from faceembed.trainer.data.align import align as align_people

    ctx.meta[OUTPUT] = output
    again = "the same command without --fresh" if fresh else "the same command"
    ctx.meta[AFTER_INTERRUPT] = f"What was finished is kept; {again} goes on from there."
    with out.reporter() as reporter:
        found = selection.read(people, reporter.notice)
        report = align_people(
            found,
            output,
            settings=models.settings(),
            format="png" if file_format == "png" else "jpg",
            quality=quality,
            recompress=recompress,
            fresh=fresh,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.result({**report.to_json_dict(), "output": encode_path(report.output)}, _summary(report))


def _summary(report: AlignReport) -> str:
    pace = f" in {clock(report.seconds)} ({per_second(report.images_per_second)})" if report.aligned else " to align"
    lines = [f"{report.aligned:,} photos{pace}"]
    if report.skipped:
        lines[0] += f", {report.skipped:,} done before"
    if report.removed:
        lines[0] += f", {report.removed:,} crops gone"
    lines.append(
        f"{report.crops:,} crops of {said.people(report.people)}, {report.width}x{report.height}, in {report.output}"
    )
    if report.no_face or report.failed:
        lines.append(f"{report.no_face:,} photos without a face, {report.failed:,} unreadable: see errors.csv there")
    return "\n".join(map(printable, lines))
