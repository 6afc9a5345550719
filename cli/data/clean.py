"""`faceembed data clean`: find mislabelled photos in folders of people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Numbers,
    Output,
    file_argument,
    file_option,
    model_options_with,
    output_options,
)
from faceembed.cli.reporter import clock
from faceembed.engine.photos.photo_file import printable
from faceembed.trainer.data.identity import IDENTITY_ENCODER

if TYPE_CHECKING:
    from faceembed.trainer.data.clean import Cleaning

LAYOUTS = ("auto", "folders", "celeba", "lfw", "kryptonite", "crops")
_FEW = 5  # findings named on the terminal


@click.command()
@file_argument("people")
@file_option("-o", "--output", required=True, metavar="FOLDER", help="Where the manifest and the report go.")
@file_option("--index", metavar="INDEX.faiss", help="Take the embeddings from this index, made by embed.")
@click.option(
    "--sure",
    type=Numbers(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    metavar="P",
    help="Remove from this probability of a wrong label on; higher removes fewer.",
)
@click.option("--keep-duplicates", is_flag=True, help="Report pictures that are in two folders, but keep both.")
@click.option("--layout", type=click.Choice(LAYOUTS), default="auto", show_default=True, help="How PEOPLE is laid out.")
@file_option("--images", metavar="FOLDER", help="The photos that a list of people names.")
@model_options_with(IDENTITY_ENCODER, "Of a gated one, only the identity counts.")
@output_options
@click.pass_context
def clean(
    ctx: click.Context,
    people: str,
    output: str,
    index: str | None,
    sure: float,
    keep_duplicates: bool,
    layout: str,
    images: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Find photos that show somebody else than their folder says.

    PEOPLE holds a folder for each person, or is a list such as CelebA's. FOLDER gets clean.parquet and clean.csv with a
    row for each photo (kept or not, why, and whom it shows instead where that is clear), and report.html to look at.
    Photos are never moved or deleted. Thresholds are learnt from the photos themselves.

    The encoder is dlib-resnet unless you name another, whatever the other commands take: who somebody is counts here, not
    how real a face looks, and the settings were chosen with it. With --index, name the encoder that made the index.

    \b
    Example:
        faceembed data clean people -o cleaned
        faceembed data clean people -o cleaned --index people.faiss --encoder faceembed-r29 --sure 0.8
    """
    from faceembed.trainer.data.clean import CleanSettings
    from faceembed.trainer.data.clean import clean as clean_people

    ctx.meta[OUTPUT] = output
    ctx.meta[AFTER_INTERRUPT] = "What was embedded is kept; the same command goes on from there."
    with out.reporter() as reporter:
        cleaning = clean_people(
            people,
            output,
            settings=models.settings(),
            choices=CleanSettings(sure=sure, keep_duplicates=keep_duplicates),
            index=index,
            layout=layout,  # type: ignore[arg-type]
            images=images,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    out.summary(cleaning.to_json_dict(), _summary(cleaning))


def _summary(cleaning: Cleaning) -> str:
    kept = sum(row.kept for row in cleaning.rows)
    counts = f"{kept:,} kept, {len(cleaning.rows) - kept:,} to be removed"
    photos = f"{len(cleaning.rows):,} photos of {cleaning.persons:,} people"
    lines = [f"{photos} in {clock(cleaning.seconds)}: {counts}"]
    if cleaning.reasons:
        lines.append("  " + ", ".join(f"{count:,} {reason}" for reason, count in cleaning.reasons.items()))
    document = cleaning.to_json_dict()
    if document["not_judged"]:
        lines.append(f"{document['not_judged']:,} photos could not be judged and are kept")
    if cleaning.mixed:
        lines.append(f"a second person with several photos: {_some(list(cleaning.mixed))}")
    if cleaning.merged:
        lines.append(f"folders of one person, it seems: {_some([f'{a} + {b}' for a, b, _ in cleaning.merged])}")
    if cleaning.duplicates:
        lines.append(f"{len(cleaning.duplicates):,} pictures are in two people's folders")
    where = os.path.relpath(cleaning.output) if cleaning.output.startswith(os.getcwd() + os.sep) else cleaning.output
    lines.append(f"look: {os.path.join(where, 'report.html')}; use: {os.path.join(where, 'clean.parquet')}")
    return "\n".join(map(printable, lines))


def _some(names: list[str]) -> str:
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW:,} more" if len(names) > _FEW else "")
