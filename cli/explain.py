"""`faceembed explain`: which parts of two faces make them similar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.attack import numbers
from faceembed.cli.group import OUTPUT
from faceembed.cli.options import ModelOptions, Output, file_argument, model_options, output_file_option, output_options
from faceembed.cli.said import largest_taken, likeness
from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.explain.explained import Explained


@click.command()
@file_argument("photos", metavar="A B", nargs=-1)
@click.option(
    "--method",
    type=click.Choice(["occlusion", "gradient"]),
    default="occlusion",
    show_default=True,
    help="Cover parts of the faces; or follow gradients, in PyTorch, also of a checkpoint.",
)
@click.option(
    "--windows",
    default="0.3,0.2",
    show_default=True,
    callback=numbers,
    metavar="W,W,...",
    help="Of occlusion: sides of the covering windows, as shares of the face's; their maps are averaged.",
)
@click.option(
    "--fill",
    type=click.Choice(["blur", "mean"]),
    default="blur",
    show_default=True,
    help="What covers: the face blurred until no feature is left, or its mean colour.",
)
@click.option("--steps", type=int, default=24, show_default=True, metavar="N", help="Of gradient: points of the path.")
@click.option("--arch", metavar="NAME", help="Of gradient: architecture of another project's checkpoint.")
@output_file_option("--png", kind="picture", metavar="FILE", help="Also draw both faces with their maps there.")
@output_file_option("--html", kind="page", metavar="FILE", help="Also write faces, maps and figures as a page there.")
@click.option("--sample", is_flag=True, help="Explain a sample photo and an altered copy, instead of A and B.")
@model_options
@output_options
@click.pass_context
def explain(
    ctx: click.Context,
    photos: tuple[str, ...],
    method: str,
    windows: tuple[float, ...],
    fill: str,
    steps: int,
    arch: str | None,
    png: str | None,
    html: str | None,
    sample: bool,
    models: ModelOptions,
    out: Output,
) -> None:
    """Show which parts of two faces make them similar.

    The largest face of each photo is taken. A map says for each place how much of the similarity rests on it; below 0 the
    place tells the faces apart. How far the map is to be believed is measured too: the most important tenth of the face
    is deleted, and regions of the same form elsewhere.

    \b
    Example:
        faceembed explain a.jpg b.jpg --html why.html
        faceembed explain --sample --method gradient --png why.png
    """
    if len(photos) != (0 if sample else 2):
        raise click.UsageError("give two photos, or --sample alone")
    if sample:
        from faceembed.engine.photos.sample import sample_pair

        photos = tuple(map(str, sample_pair()))
    from faceembed.engine.report.explanation import write_explanation_html, write_explanation_png

    ctx.meta[OUTPUT] = html or png or ""
    with out.reporter() as reporter:
        if method == "occlusion":
            from faceembed.engine.explain.occlusion import OcclusionSettings
            from faceembed.engine.verbs.explain import explain_photos

            result = explain_photos(
                photos[0],
                photos[1],
                settings=models.settings(),
                occlusion=OcclusionSettings(windows, fill),  # type: ignore[arg-type]
                notice=reporter.notice,
            )
        else:
            from faceembed.trainer.gradients.explain import GradientSettings, explain_photos_gradient

            result = explain_photos_gradient(
                photos[0],
                photos[1],
                settings=models.settings(),
                gradient=GradientSettings(steps, fill),  # type: ignore[arg-type]
                arch=arch,
                notice=reporter.notice,
            )
    try:
        out.result(result.to_json_dict(), _text(result))
    finally:  # last, so that a disk that is full loses nothing else; and in spite of a stdout that is
        if html is not None:
            write_explanation_html(html, result)
        if png is not None:
            write_explanation_png(png, result)


def _text(result: Explained) -> str:
    lines = [
        f"similarity {result.explanation.similarity:.4f} of {result.encoder}, explained by {result.explanation.method}"
    ]
    alike = result.likeness
    lines += likeness(alike.identity, (alike.real_a, alike.real_b))
    lines += largest_taken(result.photos, result.faces)
    for photo, parts, test in zip(result.photos, result.parts, result.deletions, strict=True):
        lines.append(printable(photo))
        lines += [f"  {name:<13}{1000 * value:+8.3f}" for name, value in parts.items()]
        lines.append(
            f"  without the most important {100 * test.share:g} %: {test.important:.4f}; "
            f"without others: {test.random_mean:.4f} (mean of {len(test.random)})"
        )
    lines.append("parts: mean of the map, in thousandths")
    if result.gated:
        lines.append("maps, and similarities without parts, are of the identity, without the gate")
    return "\n".join(lines)
