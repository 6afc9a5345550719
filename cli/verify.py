"""`faceembed verify`: whether two photos show one person."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from faceembed.cli.options import (
    ModelOptions,
    Output,
    faces_option,
    file_argument,
    fmr_option,
    model_options,
    output_options,
    threshold_option,
)
from faceembed.cli.said import largest_taken, likeness
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.engine.verbs.verify import Verification


@click.command()
@file_argument("photos", metavar="A B", nargs=-1)
@threshold_option
@fmr_option
@faces_option
@click.option("--sample", is_flag=True, help="Compare a sample photo with an altered copy, instead of A and B.")
@model_options
@output_options
def verify(
    photos: tuple[str, ...],
    threshold: float | None,
    fmr: float | None,
    faces: str,
    sample: bool,
    models: ModelOptions,
    out: Output,
) -> None:
    """Say whether two photos show one person.

    The largest face of each is compared, or with --faces all the two that are most alike. Different people are a result too:
    exit code 0.

    \b
    Example:
        faceembed verify a.jpg b.jpg
        faceembed verify photos.zip::a.jpg b.jpg
        faceembed verify --sample
    """
    if len(photos) != (0 if sample else 2):
        raise click.UsageError("give two photos, or --sample alone")
    from faceembed.engine.verbs.verify import verify as verify_photos

    if sample:
        from faceembed.engine.photos.sample import sample_pair

        photos = tuple(map(str, sample_pair()))
    with out.reporter() as reporter:
        result = verify_photos(
            photos[0],
            photos[1],
            settings=models.settings(),
            threshold=threshold,
            fmr=fmr,
            every=faces == "all",
            notice=reporter.notice,
        )
    document = {"photos": [encode_path(photo) for photo in photos], **dataclasses.asdict(result)}
    verdict = "the same person" if result.same else "different people"
    lines = [f"{verdict}: similarity {result.similarity:.4f}, threshold {result.threshold:.4f}"]
    if result.strangers:
        even = (
            ""
            if result.probability is None
            else f"; one person with probability {result.probability:.3f}, at even odds"
        )
        lines.append(result.strangers + even)
    lines += likeness(result.identity, result.real)
    if result.remark:
        lines.append(result.remark)
    lines += _faces(photos, result)
    if result.threshold_source:
        lines.append(f"the threshold of {result.encoder}: {result.threshold_source}")
    if sample:
        lines.insert(0, " and ".join(map(printable, photos)))
    out.result(document, "\n".join(lines))


def _faces(photos: tuple[str, ...], result: Verification) -> list[str]:
    """Which faces were compared, where a photo has several."""
    if result.chosen is None:
        return largest_taken(photos, result.faces, "; --faces all compares all")
    if result.similarities is None or max(result.faces) == 1:
        return []
    named = zip(photos, result.chosen, result.faces, strict=True)
    words = " and ".join(f"face {number} of {found} of {printable(photo)}" for photo, number, found in named)
    rows = [
        f"  face {number}: " + " ".join(f"{value:7.4f}" for value in row)
        for number, row in enumerate(result.similarities)
    ]
    return [f"most alike: {words} (numbers from 0, largest first)", *rows]
