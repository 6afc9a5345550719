"""`faceembed data pairs`: pair lists to train, validate and test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.data.selection import Selection, selection_options
from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, file_option, output_options
from faceembed.engine.photos.photo_file import encode_path, printable

if TYPE_CHECKING:
    from faceembed.trainer.data.pairs import PairsReport


@click.command()
@file_argument("real", nargs=-1, required=True)
@file_option("--fakes", multiple=True, metavar="DIR", help="A folder of `data fakes`, or crops of it; may be repeated.")
@file_option("-o", "--output", required=True, metavar="FOLDER", help="Where the lists go.")
@file_option("--split", "split_file", required=True, metavar="SPLIT.json", help="Who trains, validates and tests.")
@click.option("--count", type=click.IntRange(min=1), required=True, metavar="N", help="Pairs in all lists together.")
@click.option(
    "--ratios",
    default="50,25,25",
    show_default=True,
    metavar="S,F,O",
    help="Shares of real+real, real+fake, real+other.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed gives other pairs.")
@click.option("--methods", metavar="A,B,...", help="Use fakes of these methods alone.  [default: all]")
@click.option("--leave-out", default="", metavar="METHOD", help="Keep this method for a test list of its own.")
@selection_options
@output_options
@click.pass_context
def pairs(
    ctx: click.Context,
    real: tuple[str, ...],
    fakes: tuple[str, ...],
    output: str,
    split_file: str,
    count: int,
    ratios: str,
    seed: int,
    methods: str | None,
    leave_out: str,
    selection: Selection,
    out: Output,
) -> None:
    """Draw pairs of photos for training, validation and tests.

    FOLDER gets train.csv, validate.csv and test.csv: real+real of one person, real+fake of one person, and real+real of
    two people. Nobody is in two lists, which goes for both people of a fake: one whose people are in different parts is
    left out and counted. People take turns, and so do the methods of the fakes. `faceembed eval` reads the lists.

    \b
    Example:
        faceembed data pairs people --fakes fakes -o pairs --split split.json --count 20000 --seed 7
        faceembed data pairs people --fakes fakes -o pairs --split split.json --count 20000 --leave-out swap
    """
    from faceembed.trainer.data.pairs import make_pairs, parse_ratios
    from faceembed.trainer.data.split import read_split

    ctx.meta[OUTPUT] = output
    shares = parse_ratios(ratios)
    with out.reporter() as reporter:
        found = selection.read([*real, *fakes], reporter.notice)
        report = make_pairs(
            found,
            output,
            split=read_split(split_file),
            count=count,
            ratios=shares,
            seed=seed,
            methods=[name for name in (methods or "").split(",") if name],
            leave_out=leave_out,
        )
        if report.people_missing:
            reporter.notice(f"{report.people_missing:,} people of the split have no photo here")
        if report.people_unused:
            reporter.notice(f"{report.people_unused:,} people are in no part of the split and were left out")
        if report.fakes_across:
            reporter.notice(f"{report.fakes_across:,} fakes were left out: their two people are not in one part")
        if report.fakes_other_methods:
            reporter.notice(f"{report.fakes_other_methods:,} fakes of other methods were left out")
    out.result({**report.to_json_dict(), "output": encode_path(report.output)}, _summary(report))


def _summary(report: PairsReport) -> str:
    lines = []
    for name, count in report.pairs.items():
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in report.kinds[name].items())
        methods = ", ".join(f"{method} {number:,}" for method, number in report.methods[name].items())
        lines.append(f"{name}.csv: {count:,} pairs of {report.people[name]:,} people ({kinds})")
        if methods:
            lines[-1] += f"; fakes: {methods}"
    return "\n".join(map(printable, [*lines, f"in {report.output}"]))
