"""`faceembed compare`: several encoders on one pair list, or on several."""

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
    from faceembed.engine.evaluate.comparison import Comparison, Comparisons, Row
    from faceembed.engine.verbs.compare_searches import Searches


_LICENCE = 40  # characters of it in text; JSON has all


@click.command()
@click.argument("models_", metavar="MODELS...", nargs=-1)
@click.option(
    "--all", "everyone", is_flag=True, help="Every encoder of `faceembed models list`; those to pull are rows."
)
@file_option(
    "--pairs", required=True, multiple=True, help="Labelled pair list, as for `faceembed eval`; may be repeated."
)
@file_option(
    "--root",
    multiple=True,
    help="Folder of the photos, where the list does not say; one for all lists, or one for each, in their order.",
)
@file_option(
    "--gallery",
    metavar="LIST",
    help="Compare a search: --pairs are probes then, this the people among whom they are looked for (see `eval`).",
)
@click.option(
    "--quality-aware", is_flag=True, help="A row for QMagFace's score too, where it was fitted (see `eval --score`)."
)
@click.option("--skip-failures", is_flag=True, help="Leave out pairs with a photo without a face; else they score -1.")
@file_option("--save", metavar="FOLDER", help="Keep similarities there; a second run computes what is missing.")
@output_file_option("--html", kind="page", metavar="FILE", help="Also write table and curves as a page there.")
@model_options
@output_options
@click.pass_context
def compare(
    ctx: click.Context,
    models_: tuple[str, ...],
    everyone: bool,
    pairs: tuple[str, ...],
    root: tuple[str, ...],
    gallery: str | None,
    quality_aware: bool,
    skip_failures: bool,
    save: str | None,
    html: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Compare encoders on pair lists: errors, rate and size in one table.

    MODELS are names or ONNX files (--encoder is not looked at). Photos are searched for faces once for all encoders that
    take faces of one template and size. Rates are of the network alone, those encoders in turns, in this run. An encoder that
    fails is a row with its reason, and the exit code is 1; one that --all has and this machine has not is a row that says how to get it.

    \b
    Example:
        faceembed compare faceembed-r29 tuned.onnx --pairs pairs.csv --html encoders.html
        faceembed compare faceembed-r29 sface --pairs lfw_pairs.txt --root lfw --save kept --json
        faceembed compare --all --pairs lfw_pairs.txt --root lfw --pairs kin.csv --root fiw --html models.html
        faceembed compare faceembed-r29 sface --pairs probes.csv --gallery gallery.csv --html search.html
    """
    from faceembed.engine.report.encoders import write_comparisons
    from faceembed.engine.verbs.compare_lists import compare_lists

    if not models_ and not everyone:
        raise click.UsageError("Missing argument 'MODELS...': give encoders, or --all")
    absent = _add_known(models_) if everyone else {}
    ctx.meta[OUTPUT] = html or save or ""
    if gallery is not None:
        if skip_failures or save or quality_aware or len(pairs) > 1 or len(root) > 1:
            raise click.UsageError(
                "--gallery compares one search: --save, --skip-failures, --quality-aware and further --pairs are of pairs"
            )
        _searches(ctx, (*models_, *absent), absent, pairs[0], gallery, next(iter(root), None), html, models, out)
        return
    if save:
        ctx.meta[AFTER_INTERRUPT] = f"Encoders that were finished are kept in {save}; run the same command to go on."
    with out.reporter() as reporter:
        result = compare_lists(
            (*models_, *absent),
            pairs,
            roots=root,
            quality_aware=quality_aware,
            settings=models.settings(),
            skip_failures=skip_failures,
            save=save,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    try:
        if len(result.lists) == 1:
            out.result(result.lists[0].to_json_dict(), _text(result.lists[0]))
        else:
            out.result(result.to_json_dict(), _text_of_all(result))
    finally:  # last, so that a disk that is full loses nothing else; and in spite of a stdout that is
        if html is not None:
            write_comparisons(html, result)
    if failed := [rows for rows in result.failed if not absent.get(rows[0].source)]:
        click.echo(f"Error: {len(failed)} of {len(result.encoders())} encoders failed; their rows say why", err=True)
        ctx.exit(1)


def _searches(
    ctx: click.Context,
    encoders: tuple[str, ...],
    absent: dict[str, bool],
    probes: str,
    gallery: str,
    root: str | None,
    html: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    from faceembed.engine.verbs.compare_searches import compare_searches

    with out.reporter() as reporter:
        found = compare_searches(
            encoders,
            probes,
            gallery,
            root=root,
            settings=models.settings(),
            notice=reporter.notice,
            progress=reporter.progress,
        )
    try:
        out.result(found.to_json_dict(), _text_of_searches(found))
    finally:
        if html is not None:
            found.write_report(html, probes=probes, gallery=gallery)
    if failed := [name for name in found.reasons if not absent.get(name)]:
        click.echo(f"Error: {len(failed)} of {len(encoders)} encoders failed; their rows say why", err=True)
        ctx.exit(1)


def _text_of_searches(found: Searches) -> str:
    rates = list(dict.fromkeys(rate for of in found.figures.values() for rate in of.figures.fnir_at_fpir))
    table = [["encoder", "rank-1", *(f"FNIR at FPIR {rate}" for rate in rates)]]
    for name, of in found.figures.items():
        misses = [of.figures.fnir_at_fpir.get(rate) for rate in rates]
        table.append(
            [
                printable(name),
                _percent(of.figures.rank.get("1")),
                *(_percent(None if at is None else at.rate) for at in misses),
            ]
        )
    lines = _lines(table) if len(table) > 1 else []
    return "\n".join([*lines, *(f"{printable(name)}: {printable(why)}" for name, why in found.reasons.items())])


def _add_known(given: tuple[str, ...]) -> dict[str, bool]:
    """The encoders that are known beside those given, and whether each is absent from this machine."""
    from faceembed.engine.models.registry import list_models

    return {m.name: m.state != "ready" for m in list_models() if m.task == "encoder" and m.name not in given}


def _text_of_all(result: Comparisons) -> str:
    """One table of all lists, then each list's own."""
    from faceembed.engine.evaluate.comparison import size_text

    head = ["encoder", *(f"EER {printable(name)}" for name in result.names), "faces/s", "size", "licence"]
    table, lines = [head], []
    for rows in result.encoders():
        first = next((row for row in rows if not row.reason), None)
        if first is None or first.model is None:
            lines.append(f"{printable(rows[0].name)}: {printable(rows[0].reason)}")
            continue
        rate = next((row.rate for row in rows if row.rate), None)
        cells = [printable(first.name), *(_percent(row.evaluation.eer) if row.evaluation else "-" for row in rows)]
        cells += [f"{rate.median:,.0f}" if rate else "-", size_text(first.size_bytes) if first.size_bytes else "-"]
        table.append([*cells, printable(first.model.spec.licence)[:_LICENCE]])
    parts = ["\n".join([*(_lines(table) if len(table) > 1 else []), *lines])]
    for name, of in zip(result.names, result.lists, strict=True):
        parts.append(f"{printable(name)}\n{_text(of, alone=False)}")
    return "\n\n".join(parts)


def _lines(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]


def _text(result: Comparison, *, alone: bool = True) -> str:
    kinds = list(result.pairs.negative_kinds) if len(result.pairs.negative_kinds) > 1 else []
    head = ["encoder", "EER", "95 % interval", *(f"EER {kind}" for kind in kinds)]
    head += ["TAR@FAR 1e-2", "TAR@FAR 1e-3"]
    head += ["faces/s", "size", "dim", "licence"] if alone else []
    table = [head, *(_cells(row, kinds)[: len(head)] for row in result.rows if not row.reason)]
    lines = _lines(table) if len(table) > 1 else []
    if alone:
        lines += [f"{printable(row.name)}: {printable(row.reason)}" for row in result.failed]
    positives = int(result.pairs.labels.sum())
    rates = f"; rates on {result.rate_faces} faces" if alone else ""
    lines.append(f"{len(result.pairs):,} pairs ({positives:,} same){rates}")
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
