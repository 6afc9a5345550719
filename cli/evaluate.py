"""`faceembed eval`: the error rates of an encoder on a pair list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Output,
    file_argument,
    file_option,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.cli.said import several_taken

if TYPE_CHECKING:
    from faceembed.engine.evaluate.figures import Evaluation


@click.command("eval")
@file_argument("pairs")
@file_option("--root", help="Folder of the photos, where the list does not say.")
@click.option("--skip-failures", is_flag=True, help="Leave out pairs with a photo without a face; else they score -1.")
@output_file_option("--scores", kind="scores", metavar="CSV", help="Also write every pair and its similarity there.")
@output_file_option(
    "--report", kind="page", metavar="HTML", help="Also write curves, histogram and the worst pairs there."
)
@model_options
@output_options
@click.pass_context
def evaluate(
    ctx: click.Context,
    pairs: str,
    root: str | None,
    skip_failures: bool,
    scores: str | None,
    report: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Measure an encoder on a pair list.

    The figures are EER, AUC, FNMR at fixed FMR, 10-fold accuracy and the failure to enrol. PAIRS is a CSV file with the
    columns path_a, path_b, label and, if known, kind (same, or a word for the negatives: other, fake, kin …); or LFW's pairs.txt (with --root), a folder in
    the layout of the Kryptonite challenge, or file_x, file_y, Decision.

    \b
    Example:
        faceembed eval pairs.csv --report report.html
        faceembed eval lfw/pairs.txt --root lfw --json
    """
    from faceembed.engine.verbs.evaluate import score_pairs

    ctx.meta[OUTPUT] = report or scores or ""
    with out.reporter() as reporter:
        scored = score_pairs(
            pairs,
            root=root,
            settings=models.settings(),
            skip_failures=skip_failures,
            scores=scores,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    try:
        several = scored.embedded.several
        out.result({**scored.evaluation.to_json_dict(), "several_faces": several}, _text(scored.evaluation, several))
    finally:  # last, so that a disk that is full loses nothing else; and in spite of a stdout that is
        if report is not None:
            scored.write_report(report)


def _text(result: Evaluation, several: int) -> str:
    low, high = result.eer_ci
    rows = [
        ("pairs", f"{result.pairs:,} ({result.positives:,} same, {result.negatives:,} different)"),
        ("EER", f"{_percent(result.eer)} (95 % interval {_percent(low)} to {_percent(high)}; {result.eer_ci_how})"),
        ("  threshold", f"{result.threshold:.4f}"),
        *_kinds(result),
        ("AUC", f"{result.auc:.5f} (95 % interval {result.auc_ci[0]:.5f} to {result.auc_ci[1]:.5f})"),
        *(
            (f"FNMR at FMR {rate}", _with_interval(value, result.fnmr_ci[rate]))
            for rate, value in result.fnmr_at_fmr.items()
        ),
        ("accuracy, 10-fold", _accuracy(result)),
        ("failure to enrol", _percent(result.failure_to_enrol)),
    ]
    if result.skipped_pairs:
        rows.append(("pairs left out", f"{result.skipped_pairs:,} with a photo without a face"))
    rows += [("note", flaw) for flaw in (*result.flaws, *several_taken(several))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _kinds(result: Evaluation) -> list[tuple[str, str]]:
    """Each kind of negatives with its own figures; the two usual ones also where there are none."""
    names = {"other": "other people", "fake": "deepfakes"}
    rows = []
    for kind in dict.fromkeys((*names, *result.kinds)):
        if (rates := result.kinds.get(kind)) is None:
            rows.append((f"  {names[kind]}", _percent(None)))
            continue
        told = [(rate, value) for rate, value in rates.fnmr_at_fmr.items() if value is not None]
        fnmr = "".join(f"; FNMR at FMR {rate}: {_percent(value)}" for rate, value in told[-1:])
        rows.append((f"  {names.get(kind, kind)}", f"{_with_interval(rates.eer, rates.eer_ci)}{fnmr}"))
    return rows


def _with_interval(rate: float | None, ends: tuple[float, float] | None) -> str:
    return _percent(rate) + ("" if ends is None else f" ({_percent(ends[0])} to {_percent(ends[1])})")


def _percent(rate: float | None) -> str:
    return "insufficient data" if rate is None else f"{100 * rate:.2f} %"


def _accuracy(result: Evaluation) -> str:
    fold = result.accuracy_10fold
    return "insufficient data" if fold is None else f"{_percent(fold.mean)} ± {100 * fold.std:.2f}"
