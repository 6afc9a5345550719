"""`faceembed eval`: the error rates of an encoder on a pair list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faceembed.cli.group import OUTPUT
from faceembed.cli.options import (
    ModelOptions,
    Numbers,
    Output,
    file_argument,
    file_option,
    model_options,
    output_file_option,
    output_options,
)
from faceembed.cli.said import several_taken
from faceembed.engine.photos.photo_file import printable

if TYPE_CHECKING:
    from faceembed.engine.evaluate.discard import Discard
    from faceembed.engine.evaluate.figures import Evaluation
    from faceembed.engine.evaluate.groups import Groups
    from faceembed.engine.evaluate.one_class import OneClassRates
    from faceembed.engine.verbs.search_figures import SearchFigures


@click.command("eval")
@file_argument("pairs")
@file_option("--root", help="Folder of the photos, where the list does not say.")
@file_option("--index", metavar="INDEX.faiss", help="Take the embeddings that an index has; nothing is computed.")
@file_option(
    "--gallery",
    metavar="LIST",
    help="Measure a search: PAIRS are probes then, this the people among whom they are looked for (1:N).",
)
@click.option(
    "--threshold",
    type=Numbers(),
    help="Of a list of one class: where FMR or FNMR is taken.  [default: the encoder's own]",
)
@click.option(
    "--score",
    type=click.Choice(["cosine", "quality-aware"]),
    default="cosine",
    show_default=True,
    help="quality-aware: QMagFace's score, which counts for less where the poorer photo is poor; where it was fitted for the encoder.",
)
@click.option("--skip-failures", is_flag=True, help="Leave out pairs with a photo without a face; else they score -1.")
@output_file_option("--scores", kind="scores", metavar="CSV", help="Also write every pair and its similarity there.")
@output_file_option(
    "--report",
    kind="page",
    metavar="HTML",
    help="Also write curves, histogram and the worst pairs there; of a search the figures and their DET curve.",
)
@model_options
@output_options
@click.pass_context
def evaluate(
    ctx: click.Context,
    pairs: str,
    root: str | None,
    index: str | None,
    gallery: str | None,
    threshold: float | None,
    score: str,
    skip_failures: bool,
    scores: str | None,
    report: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    """Measure an encoder on a pair list.

    The figures are EER, AUC, FNMR at fixed FMR, 10-fold accuracy and the failure to enrol. PAIRS is a table (commas, semicolons or
    tabs) with the columns path_a, path_b, label and, if known, kind (same, or a word for the negatives: other, fake, kin …), under these names or
    others that are in use (img1, img2, issame; file_x, file_y, Decision), or without a header; or LFW's pairs.txt and Kaggle's tables of it (with
    --root), InsightFace's .bin (with --aligner none), a folder in the layout of the Kryptonite challenge, or a table score, label. With --index it
    may name faces: face_id_a, face_id_b, label. A list of one class has one rate: FMR or FNMR at --threshold. A column group (age, origin,
    sex, camera …) gives the rates of each group at the one threshold, and the worst ratio.

    With --gallery PAIRS is a list of probes: a folder of people, a table name, path, or IJB's TEMPLATE_ID, SUBJECT_ID, FILENAME. The figures are
    rank-k and FNIR at fixed FPIR.

    \b
    Example:
        faceembed eval pairs.csv --report report.html
        faceembed eval lfw/pairs.txt --root lfw --json
        faceembed eval cfp_fp.bin --aligner none
        faceembed eval pairs.csv --index people.faiss
        faceembed eval probes.csv --gallery gallery.csv --root ijb --report search.html
    """
    from faceembed.engine.evaluate.pair_formats import read_pairs
    from faceembed.engine.verbs.evaluate import check_report, score_pairs

    ctx.meta[OUTPUT] = report or scores or ""
    if gallery is not None:
        if scores or skip_failures or threshold is not None or score != "cosine":
            raise click.UsageError(
                "--gallery measures a search: --score, --scores, --skip-failures and --threshold are of pairs"
            )
        _search(pairs, gallery, root, index, report, models, out)
        return
    with out.reporter() as reporter:
        listed = read_pairs(pairs, root=root)
        if report is not None:
            check_report(listed)
        scored = score_pairs(
            listed,
            settings=models.settings(),
            index=index,
            threshold=threshold,
            skip_failures=skip_failures,
            scores=scores,
            score=score,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    try:
        several = scored.embedded.several if scored.embedded else None
        out.result({**scored.evaluation.to_json_dict(), "several_faces": several}, _text(scored.evaluation, several))
    finally:  # last, so that a disk that is full loses nothing else; and in spite of a stdout that is
        if report is not None:
            scored.write_report(report)


def _search(
    probes: str,
    gallery: str,
    root: str | None,
    index: str | None,
    report: str | None,
    models: ModelOptions,
    out: Output,
) -> None:
    from faceembed.engine.verbs.search_figures import evaluate_search

    with out.reporter() as reporter:
        found = evaluate_search(
            probes,
            gallery,
            root=root,
            settings=models.settings(),
            index=index,
            notice=reporter.notice,
            progress=reporter.progress,
        )
    try:
        out.result(found.to_json_dict(), _text_of_search(found))
    finally:  # last, as of pairs
        if report is not None:
            found.write_report(report, probes=probes, gallery=gallery)


def _text_of_search(found: SearchFigures) -> str:
    figures = found.figures
    rows = [
        ("gallery", f"{figures.gallery:,} people"),
        ("probes", f"{figures.mated:,} of them, {figures.non_mated:,} of strangers"),
        *((f"rank-{k}", _with_interval(rate, figures.rank_ci[k])) for k, rate in figures.rank.items()),
    ]
    for rate, at in figures.fnir_at_fpir.items():
        said = _percent(None) if at is None else f"{_with_interval(at.rate, at.ci)} at {at.threshold:.4f}"
        rows.append((f"FNIR at FPIR {rate}", said))
    rows.append(("intervals", f"95 %; of FNIR {figures.ci_how}"))
    if figures.failures:
        rows.append(
            ("probes without a face", f"{figures.failures:,}, counted as missed, and never as a stranger's match")
        )
    if found.without:
        rows.append(("gallery without a face", f"{found.without:,} people: their probes are missed"))
    return _aligned(rows)


def _text(result: Evaluation | OneClassRates, several: int | None) -> str:
    from faceembed.engine.evaluate.one_class import OneClassRates

    if isinstance(result, OneClassRates):
        return _text_of_one(result, several)
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
    if result.discard is not None:
        rows += _discard(result.discard)
    if result.groups is not None:
        rows += _groups(result.groups)
    if result.skipped_pairs:
        rows.append(("pairs left out", f"{result.skipped_pairs:,} with a photo without a face"))
    return _aligned(rows + [("note", flaw) for flaw in (*result.flaws, *several_taken(several or 0))])


def _discard(discard: Discard) -> list[tuple[str, str]]:
    """How far FNMR falls when pairs of the poorest photos are discarded, the best measure first."""
    known = [(name, curve) for name, curve in discard.by_quality.items() if curve.area is not None]
    if not known:
        return []
    known.sort(key=lambda entry: entry[1].area or 0.0)
    first = known[0][1].fnmr
    rows = [
        (
            "pairs discarded",
            f"FNMR at FMR {discard.fmr:g} of 0, 10, 30 % discarded; area, {discard.ideal or 0:.2f} at best",
        )
    ]
    for name, curve in known:
        told = ", ".join(_percent(curve.fnmr[place]) for place in (0, 10, len(first) - 1))
        rows.append((f"  by {name}", f"{told}; {curve.area:.2f}"))
    return rows


def _groups(groups: Groups) -> list[tuple[str, str]]:
    """The rates of each group at the one threshold, and how unevenly they lie."""
    rows = [("by group", f"at {groups.threshold:.4f} for all")]
    for name, of in groups.by_name.items():
        said = f"FMR {_with_interval(of.fmr, of.fmr_ci)}; FNMR {_with_interval(of.fnmr, of.fnmr_ci)}"
        rows.append((f"  {printable(name)}", f"{said}; {of.positives:,} same, {of.negatives:,} different"))
    for title, worst in (("FMR", groups.fmr_ratio), ("FNMR", groups.fnmr_ratio)):
        if worst is not None:
            ratio = "no error in the best" if worst.ratio is None else f"{worst.ratio:.2f} times"
            rows.append((f"  worst {title}", f"{ratio}: {printable(worst.worst)} over {printable(worst.best)}"))
    return rows


def _text_of_one(result: OneClassRates, several: int | None) -> str:
    name, rate = ("FMR", result.fmr) if result.fnmr is None else ("FNMR", result.fnmr)
    kind = "different" if result.fnmr is None else "same"
    rows = [
        ("pairs", f"{result.pairs:,}, all {kind}: no EER, and no other rate"),
        (f"{name} at {result.threshold:.4f}", f"{_with_interval(rate, result.ci)} ({result.ci_how})"),
        ("failure to enrol", _percent(result.failure_to_enrol)),
    ]
    if result.skipped_pairs:
        rows.append(("pairs left out", f"{result.skipped_pairs:,} with a photo without a face"))
    return _aligned(rows + [("note", flaw) for flaw in (*result.flaws, *several_taken(several or 0))])


def _aligned(rows: list[tuple[str, str]]) -> str:
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
