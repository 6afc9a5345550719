"""`faceembed data split`: who trains, who validates, who tests."""

from __future__ import annotations

import click

from faceembed.cli.data.selection import Selection, selection_options
from faceembed.cli.group import OUTPUT
from faceembed.cli.options import Output, file_argument, output_file_option, output_options


@click.command()
@file_argument("people")
@output_file_option("-o", "--output", kind="split", required=True, metavar="SPLIT.json", help="Where the split goes.")
@click.option("--train", type=float, metavar="N|SHARE", default=0.75, show_default=True, help="People to train on.")
@click.option(
    "--validate", type=float, metavar="N|SHARE", default=0.1, show_default=True, help="People to choose settings on."
)
@click.option(
    "--test", type=float, metavar="N|SHARE", default=0.15, show_default=True, help="People to report figures on."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed gives another split.")
@selection_options
@output_options
@click.pass_context
def split(
    ctx: click.Context,
    people: str,
    output: str,
    train: float,
    validate: float,
    test: float,
    seed: int,
    selection: Selection,
    out: Output,
) -> None:
    """Split people into those to train, to validate and to test on.

    PEOPLE is a folder of people's folders, a list such as identity_CelebA.txt, a Kryptonite folder or a crop set. The
    split is by person: nobody is in two parts. Numbers are people, or all three are shares of them.

    \b
    Example:
        faceembed data split people -o split.json --train 180 --validate 20 --test 40 --seed 7
    """
    from faceembed.trainer.data.split import split_people, write_split

    ctx.meta[OUTPUT] = output
    with out.reporter() as reporter:
        found = selection.read([people], reporter.notice)
    parts = split_people(found.real_persons, train=train, validate=validate, test=test, seed=seed)
    write_split(output, parts, seed=seed)
    counts = {part: len(persons) for part, persons in parts.items()}
    unused = len(found.real_persons) - sum(counts.values())
    text = ", ".join(f"{count:,} to {part}" for part, count in counts.items()) + f": {output}"
    if unused:
        text += f"\n{unused:,} of {len(found.real_persons):,} people are in no part"
    out.result({"people": len(found.real_persons), **counts, "unused": unused, "seed": seed, "output": output}, text)
