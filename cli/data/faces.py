"""`faceembed data faces`: where the faces are in photos, for training an aligner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_argument,
    file_option,
    output_file_option,
    output_options,
    teacher_options,
)
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.trainer.aligner.faces import FacesReport


@click.command()
@file_argument("photos", nargs=-1, required=True)
@output_file_option("-o", "--output", kind="labels", required=True, metavar="LABELS.parquet", help="The labels.")
@click.option("--group", default="photos", show_default=True, help="What a training calls these photos.")
@file_option("--exclude-pairs", metavar="PAIRS", help="Leave out the folders of everybody named in this pair list.")
@file_option("--split", metavar="JSON", help="Take only the folders of people in a part of this split.")
@click.option(
    "--part", type=click.Choice(["train", "validate", "test"]), default="train", show_default=True, help="Of --split."
)
@click.option("--nobody", is_flag=True, help="The photos are known to show no face: no aligner looks at them.")
@teacher_options
@output_options
@click.pass_context
def faces(
    ctx: click.Context,
    photos: tuple[str, ...],
    output: str,
    group: str,
    exclude_pairs: str | None,
    split: str | None,
    part: str,
    nobody: bool,
    aligners: tuple[str, ...],
    models: ModelOptions,
    out: Output,
) -> None:
    """Label the faces of photos with an aligner that exists, to train another one.

    PHOTOS are folders, searched with all their subfolders, and files. --aligner is the teacher: what it finds alike in
    most of six views of a photo is a face. Of several teachers each judges by its own views, and two must be sure.
    Photos that show --nobody teach an aligner what is no face (data.empty). --exclude-pairs and --split go by the name of the folder that a photo lies in.

    \b
    Example:
        faceembed data faces people --split split.json -o train.parquet --group people --aligner mtcnn
        faceembed data faces people -o both.parquet --aligner mtcnn --aligner yunet
        faceembed data faces lfw --exclude-pairs lfw_pairs.txt -o lfw.parquet --group lfw --aligner mtcnn
    """
    from faceembed.engine.photos.listing import list_photos
    from faceembed.trainer.aligner.faces import find_faces, select

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        listing = list_photos(photos)
        report = find_faces(
            select(listing, exclude_pairs=exclude_pairs, split=split, part=part),
            output,
            group=group,
            settings=models.settings(),
            others=aligners[1:],
            nobody=nobody,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.result({**report.to_json_dict(), "output": encode_path(output)}, _summary(report))


def _summary(report: FacesReport) -> str:
    lines = [
        f"{report.faces:,} faces and {report.doubtful:,} doubtful boxes in {report.photos:,} photos: {report.output}",
        f"train on them: faceembed train aligner --labels {report.output} --set 'data.groups=[]' --set 'data.shares=[]' -o runs/aligner",
    ]
    if report.failed:
        lines.insert(1, f"{report.failed:,} photos unreadable: see {report.output.removesuffix('.parquet')}.errors.csv")
    return "\n".join(map(printable, lines))
