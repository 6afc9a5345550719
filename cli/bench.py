"""`faceembed bench`: how fast each stage and the whole pipeline are on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.card import CardOptions, card_options
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_argument,
    given,
    model_options,
    output_file_option,
    output_options,
)

if TYPE_CHECKING:
    from faceembed.engine.verbs.bench import BenchReport


@click.command()
@file_argument("photos", nargs=-1)
@click.option("--sample", is_flag=True, help="Measure with sample photos, instead of PHOTOS.")
@click.option(
    "--faces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="One face a photo, or every face.",
)
@click.option(
    "--photos",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Photos a round, taken evenly from all.  [default: 512, or more to keep many cores busy]",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Take the median of so many.")
@card_options
@output_file_option("--plot", kind="picture", metavar="FILE.png", help="Draw the rates.")
@model_options
@output_options
def bench(
    photos: tuple[str, ...],
    sample: bool,
    faces: str,
    count: int | None,
    rounds: int,
    card: CardOptions,
    plot: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Measure each stage alone, the whole pipeline, and their ratio.

    Each stage runs by itself on all workers; the pipeline runs over the same photos. Where every stage has hardware of
    its own, the slowest one bounds the whole. On a CPU the stages share the cores, and the bound is 1 / sum(1 / rate).
    On a card (the first, or --device cuda:N) the encoder is also compared with what its tensor cores can do in FP16.

    \b
    Example:
        faceembed bench photos
        faceembed bench --sample --json
        faceembed bench photos --device cuda --aligner faceembed-align --plot rates.png
    """
    if sample == bool(photos):
        raise click.UsageError("give PHOTOS, or --sample for sample photos" + (", not both" if sample else ""))
    from faceembed.engine.verbs.bench import bench as measure

    if sample:
        from faceembed.engine.photos.sample import sample_photos

        photos = (str(sample_photos()),)
    with out.reporter() as reporter:
        report = measure(
            given(photos),
            settings=card.added_to(models.settings(faces=faces)),
            count=count,
            rounds=rounds,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    if plot:
        from faceembed.engine.report.rates_picture import write_rates

        write_rates(plot, [(f"{report.encoder}, {report.device}", report.to_json_dict())])
    out.result(report.to_json_dict(), _text(report))


def _text(report: BenchReport) -> str:
    rows = [(stage, rate, f"{report.end_to_end / rate:.2f}") for stage, rate in report.stages.items()]
    rows.append(("all, sharing cores", report.sharing_bound, f"{report.ratio_to_bound:.2f}"))
    rows.append(("end to end", report.end_to_end, ""))
    lines = [f"{'stage':<18}  {'photos/s':>10}  end to end over it"]
    lines += [f"{name:<18}  {rate:10,.0f}  {ratio:>18}".rstrip() for name, rate, ratio in rows]
    lines.append(
        f"{report.end_to_end:,.0f} photos/s: {report.ratio_to_slowest:.2f} of the slowest stage ({report.slowest}), "
        f"{report.ratio_to_bound:.2f} of what stages that share their cores can do"
    )
    if report.roofline:
        lines += _roofline(report.roofline)
    return "\n".join(lines)


def _roofline(line: dict[str, Any]) -> list[str]:
    peak = (
        f"{100 * line['share_of_peak']:.0f} % of the card's {line['peak_tflops']:,.0f} in FP16"
        if line["share_of_peak"]
        else ""
    )
    return [
        f"{line['device']}: encoder {line['flops_per_face'] / 1e9:.2f} GFLOP a face, {line['encoder_tflops']:,.2f} TFLOP/s"
        + (f", {peak}" if peak else ""),
        f"pixels take {100 * line['share_of_copy']:.1f} % of the copy bandwidth, measured {line['copy_gigabytes_per_second']:,.0f} GB/s",
    ]
