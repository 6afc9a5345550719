"""`faceembed compare`: several encoders on one pair list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.group import AFTER_INTERRUPT, OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_option,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.cli.said import several_taken
from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.evaluate.comparison import Comparison, Row


_LICENCE = 40  # characters of it in text; JSON has all


@click.command()
@click.argument("models_", metavar="MODELS...", nargs=-1, required=True)
@file_option("--pairs", required=True, help="Labelled pair list, as for `faceembed eval`.")
@file_option("--root", help="Folder of the photos, where the list does not say.")
@click.option("--skip-failures", is_flag=True, help="Leave out pairs with a photo without a face; else they score -1.")
@file_option("--save", metavar="FOLDER", help="Keep similarities there; a second run computes what is missing.")
@output_file_option("--html", kind="page", metavar="FILE", help="Also write table and curves as a page there.")
@model_options
@output_options
@click.pass_context
def compare(
    ctx: click.Context,
    models_: tuple[str, ...],
    pairs: str,
    root: str | None,
    skip_failures: bool,
    save: str | None,
    html: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Compare encoders on a pair list: errors, rate and size in one table.

    MODELS are names or ONNX files (--encoder is not looked at). Photos are searched for faces once for all encoders that
    take faces of one template and size. Rates are of the network alone, those encoders in turns, in this run. An encoder that
    fails is a row with its reason, and the exit code is 1.

    \b
    Example:
        faceembed compare faceembed-r29 tuned.onnx --pairs pairs.csv --html encoders.html
        faceembed compare faceembed-r29 sface --pairs lfw_pairs.txt --root lfw --save kept --json
    """
    from faceembed.engine.report.encoders import write_comparison
    from faceembed.engine.verbs.compare import compare_encoders

    ctx.meta[OUTPUT] = html or save or ""
    if save:
        ctx.meta[AFTER_INTERRUPT] = f"Encoders that were finished are kept in {save}; run the same command to go on."
    with out.reporter() as reporter:
        result = compare_encoders(
            models_,
            pairs,
            root=root,
            settings=models.settings(),
            skip_failures=skip_failures,
            save=save,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    try:
        out.result(result.to_json_dict(), _text(result))
    finally:  # last, so that a disk that is full loses nothing else; and in spite of a stdout that is
        if html is not None:
            write_comparison(html, result)
    if failed := result.failed:
        click.echo(f"Error: {len(failed)} of {len(result.rows)} encoders failed; their rows say why", err=True)
        ctx.exit(1)


def _text(result: Comparison) -> str:
    kinds = list(result.pairs.negative_kinds) if len(result.pairs.negative_kinds) > 1 else []
    head = ["encoder", "EER", "95 % interval", *(f"EER {kind}" for kind in kinds)]
    head += ["TAR@FAR 1e-2", "TAR@FAR 1e-3", "faces/s", "size", "dim", "licence"]
    table = [head, *(_cells(row, kinds) for row in result.rows if not row.reason)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    if len(table) == 1:
        lines = []
    lines += [f"{printable(row.name)}: {printable(row.reason)}" for row in result.failed]
    positives = int(result.pairs.labels.sum())
    lines.append(f"{len(result.pairs):,} pairs ({positives:,} same); rates on {result.rate_faces} faces")
    judged = [row.evaluation for row in result.rows if row.evaluation]
    lines += [f"intervals: {how}" for how in dict.fromkeys(found.eer_ci_how for found in judged)]
    lines += judged[0].flaws if judged else []
    lines += several_taken(result.several or 0)
    return "\n".join(lines)


def _cells(row: Row, kinds: list[str]) -> list[str]:
    from faceembed.engine.evaluate.comparison import size_text

    found = row.evaluation
    assert found is not None and row.model is not None
    tar = [None if (value := found.fnmr_at_fmr[rate]) is None else 1 - value for rate in ("1e-2", "1e-3")]
    low, high = found.eer_ci
    return [
        printable(row.name),
        _percent(found.eer),
        f"{100 * low:.2f} to {100 * high:.2f}",
        *(_percent(found.kinds[kind].eer if kind in found.kinds else None) for kind in kinds),
        *map(_percent, tar),
        f"{row.rate.median:,.0f}" if row.rate else "-",
        size_text(row.size_bytes) if row.size_bytes else "-",
        str(row.model.spec.dimension),
        printable(row.model.spec.licence)[:_LICENCE],
    ]


def _percent(rate: float | None) -> str:
    return "insufficient data" if rate is None else f"{100 * rate:.2f} %"
