"""`faceembed data fakes`: deepfakes of people, with their provenance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT
from faceembed.cli.options import RUNTIMES, Output, file_argument, file_option, output_options
from faceembed.cli.reporter import clock, per_second
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.trainer.data.fakes.settings import FakesReport

# Written out, because the modules that know them load numpy and OpenCV; a test holds them together.
METHODS = ("selfblend", "swap", "morph", "transplant", "reenact")
SWAPPERS = ("inswapper", "simswap", "ghost")


@click.command()
@file_argument("people")
@file_option("-o", "--output", required=True, metavar="FOLDER", help="Where the fakes go; a folder of their own.")
@click.option(
    "--methods",
    metavar="NAME,...",
    help=f"Of {', '.join(METHODS)}.  [default: all of them, or with --swapper that alone]",
)
@click.option(
    "--per-photo", type=click.IntRange(min=1), metavar="N", help="Fakes of each photo by each method.  [default: 1]"
)
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="Fakes in all, instead of so many of each photo."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed gives other fakes."
)
@file_option("--split", metavar="SPLIT.json", help="Both people of a fake are in one part of it.")
@file_option("--swapper", metavar="FILE", help="An ONNX face swapper of your own, as a further method.")
@click.option("--swapper-kind", type=click.Choice(SWAPPERS), help="What it takes and gives; also the method's name.")
@click.option(
    "--embedder",
    metavar="MODEL",
    help="The identity encoder it was trained with (ArcFace, 512-d): a model's name or an ONNX file.",
)
@click.option(
    "--max-side",
    type=click.IntRange(min=64),
    default=1024,
    show_default=True,
    metavar="PX",
    help="Larger photos are made smaller.",
)
@file_option("--images", metavar="DIR", help="Folder of the photos that a list such as CelebA's names.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Fakes made side by side.  [default: all cores]"
)
@click.option("--runtime", type=click.Choice(RUNTIMES), default="auto", show_default=True, help="What finds the faces.")
@click.option("--fresh", is_flag=True, help="Start over: delete the fakes that are there.")
@output_options
@click.pass_context
def fakes(
    ctx: click.Context,
    people: str,
    output: str,
    methods: str | None,
    per_photo: int | None,
    count: int | None,
    seed: int,
    split: str | None,
    swapper: str | None,
    swapper_kind: str | None,
    embedder: str | None,
    max_side: int,
    images: str | None,
    workers: int | None,
    runtime: str,
    fresh: bool,
    out: Output,
) -> None:
    """Make deepfakes of people, for training and tests.

    PEOPLE is a folder of people's folders, or a list such as identity_CelebA.txt. The fakes are whole photos in
    FOLDER/<method>/<person>/, where the person is the one that the fake pretends to show; FOLDER/fakes.parquet says of each
    what it was made of. A photo that no fake could be made of is a row of FOLDER/errors.csv. The same seed gives the same
    files; a second run makes what is missing, and an interrupted run goes on.

    \b
    selfblend   a photo blended with an altered copy of itself
    swap        a person's face in another's photo
    morph       the face between two people in one's photo
    transplant  a person's photo with another's mouth, eyes or nose
    reenact     a person's photo, whose face takes another's pose and expression

    \b
    Example:
        faceembed data fakes people -o fakes --split split.json --seed 7
        faceembed data fakes people -o fakes --methods swap,morph --count 1000
        faceembed data fakes people -o fakes --swapper inswapper_128.onnx --swapper-kind inswapper --embedder w600k_r50.onnx
    """
    if per_photo is not None and count is not None:
        raise click.UsageError("give --per-photo or --count, not both")
    if (swapper is None) != (swapper_kind is None) or (swapper is None) != (embedder is None):
        raise click.UsageError("--swapper, --swapper-kind and --embedder belong together: give all three")
    from faceembed.trainer.data.fakes.make import METHODS as MADE
    from faceembed.trainer.data.fakes.make import make_fakes
    from faceembed.trainer.data.fakes.settings import FakeSettings
    from faceembed.trainer.data.people import read_people
    from faceembed.trainer.data.split import read_split

    ctx.meta[OUTPUT] = output
    again = "the same command without --fresh" if fresh else "the same command"
    ctx.meta[AFTER_INTERRUPT] = f"What was finished is kept; {again} goes on from there."
    known = dict(MADE)
    wanted = tuple(name.strip() for name in methods.split(",") if name.strip()) if methods is not None else METHODS
    if swapper is not None and swapper_kind is not None and embedder is not None:
        from faceembed.trainer.data.fakes.swappers import open_swapper

        known[swapper_kind] = open_swapper(swapper_kind, swapper, embedder=embedder)
        wanted = (*wanted, swapper_kind) if methods is not None else (swapper_kind,)
    settings = FakeSettings(
        methods=tuple(dict.fromkeys(wanted)),
        per_photo=per_photo or 1,
        count=count,
        seed=seed,
        max_side=max_side,
        workers=workers or 0,
        runtime=runtime,
    )
    found = read_people(people, images=images)
    parts = read_split(split) if split is not None else None
    with out.reporter() as reporter:
        for note in found.notes:
            reporter.notice(note)
        report = make_fakes(
            found,
            output,
            settings,
            split=parts,
            methods=known,
            fresh=fresh,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    shown = dataclasses.replace(report, output=encode_path(report.output))
    out.result(shown.to_json_dict(), _summary(report))


def _summary(report: FakesReport) -> str:
    pace = f" in {clock(report.seconds)} ({per_second(report.fakes_per_second)})" if report.made else " to make"
    lines = [f"{report.made:,} fakes{pace}"]
    if report.skipped:
        lines[0] += f", {report.skipped:,} made before"
    kinds = ", ".join(f"{count:,} {method}" for method, count in report.methods.items())
    lines.append(f"{report.fakes:,} fakes in {report.output}: {kinds}")
    if report.failed:
        lines.append(
            f"{report.photos - report.faces:,} of {report.photos:,} photos cannot be used: see errors.csv there"
        )
    return "\n".join(map(printable, lines))
