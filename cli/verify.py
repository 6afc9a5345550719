"""`faceembed verify`: whether two photos show one person."""

from __future__ import annotations

import dataclasses

import click

from faceembed.cli.options import ModelOptions, Output, file_argument, model_options, output_options
from faceembed.engine.photos.listing import encode_path, printable


@click.command()
@file_argument("photos", metavar="A B", nargs=-1)
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="Similarity from which on they count as one person.  [default: the encoder's own]",
)
@click.option("--sample", is_flag=True, help="Compare a sample photo with an altered copy, instead of A and B.")
@model_options
@output_options
def verify(photos: tuple[str, ...], threshold: float | None, sample: bool, models: ModelOptions, out: Output) -> None:
    """Say whether two photos show one person.

    The largest face of each is compared. Different people are a result too: exit code 0.

    \b
    Example:
        faceembed verify a.jpg b.jpg
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
            photos[0], photos[1], settings=models.settings(), threshold=threshold, notice=reporter.notice
        )
    document = {"photos": [encode_path(photo) for photo in photos], **dataclasses.asdict(result)}
    verdict = "the same person" if result.same else "different people"
    lines = [f"{verdict}: similarity {result.similarity:.4f}, threshold {result.threshold:.4f}"]
    if result.threshold_source:
        lines.append(f"the threshold of {result.encoder}: {result.threshold_source}")
    if sample:
        lines.insert(0, " and ".join(map(printable, photos)))
    out.result(document, "\n".join(lines))
