"""The report of `faceembed eval --report`: figures, curves, and the pairs that went wrong, to look at."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.figures import INSUFFICIENT, Evaluation, pair_scores
from faceembed.engine.evaluate.pairs import PairList
from faceembed.engine.report import plots
from faceembed.engine.report.page import Thumbnails, percent, short_names, shown, thumbnail_source, write_page

MOST_FAILURES = 60
Source = Callable[[str], "str | None"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the summary table."""

    name: str
    value: str
    interval: str
    note: str


@dataclasses.dataclass(frozen=True)
class Card:
    """One pair with its two photos."""

    names: tuple[str, str]
    thumbnails: tuple[str | None, str | None]
    kind: str
    score: float
    number: int
    wrong: bool
    """Whether the EER's threshold decides it wrongly."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """One photo that could not be compared."""

    name: str
    thumbnail: str | None
    reason: str


def write_eval_report(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    pairs: PairList,
    similarity: npt.ArrayLike,
    failed: npt.NDArray[np.bool_],
    *,
    title: str,
    thumbnails: Thumbnails,
    encoder: str = "",
    failures: Mapping[str, str] | None = None,
    details: Mapping[str, str] | None = None,
    worst: int = 12,
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: the file to write.
        evaluation: what `evaluate` gave for these pairs.
        pairs: the labelled list.
        similarity: ``(n,)`` cosine similarities.
        failed: ``(n,)`` bool, True where a face was missing.
        title: heading of the page.
        thumbnails: called once for each photo that is shown.
        encoder: its name, for the heading.
        failures: photo to reason; without it, the failures are shown as pairs.
        details: further facts for the heading, such as runtime and precision.
        worst: how many of the highest negatives and of the lowest positives are shown.

    Raises:
        DataError: see `evaluate`.
        OSError: the file cannot be written.
    """
    scores = pair_scores(pairs, similarity, failed)
    kept = ~failed if evaluation.skipped_pairs else np.ones(len(pairs), np.bool_)
    curves = _curves(scores[kept], pairs.kinds[kept])
    source = thumbnail_source(thumbnails)
    facts = {"Encoder": encoder, "Pair list": os.path.basename(os.path.normpath(pairs.source)), **(details or {})}
    write_page(
        path,
        "evaluation",
        title=shown(title),
        facts={name: shown(value) for name, value in facts.items() if value},
        evaluation=evaluation,
        rows=_summary(evaluation, pairs),
        roc=plots.roc_svg(curves),
        det=plots.det_svg(curves),
        histogram=plots.histogram_svg(scores[~failed], pairs.kinds[~failed], threshold=evaluation.threshold),
        rates=plots.rates_svg(curves, threshold=evaluation.threshold),
        failed_pairs=int(np.count_nonzero(failed)),
        negatives=_cards(pairs, scores, ~failed & ~pairs.labels, evaluation.threshold, source, -worst),
        positives=_cards(pairs, scores, ~failed & pairs.labels, evaluation.threshold, source, worst),
        failures=_failures(pairs, failed, failures, source),
        most_failures=MOST_FAILURES,
    )


def _curves(scores: npt.NDArray[np.float64], kinds: npt.NDArray[np.str_]) -> dict[str, metrics.Roc]:
    """One curve for each kind of negatives, and one for all where there are several."""
    same = kinds == "same"
    found = {kind for kind in kinds.tolist() if kind != "same"}
    present = [kind for kind in ("other", "fake") if kind in found] + sorted(found - {"other", "fake"})
    curves = {kind: metrics.roc(scores[same | (kinds == kind)], same[same | (kinds == kind)]) for kind in present}
    return {"all": metrics.roc(scores, same), **curves} if len(present) > 1 else {"all": metrics.roc(scores, same)}


def _summary(evaluation: Evaluation, pairs: PairList) -> list[Row]:
    """Every metric with its 95 % interval."""
    rows = [Row("EER", percent(evaluation.eer), _range(*evaluation.eer_ci), f"FMR = FNMR; {evaluation.eer_ci_how}")]
    notes = {"other": "same against other people", "fake": "same against deepfakes of the person"}
    for kind in dict.fromkeys((*notes, *evaluation.kinds)):
        if (rates := evaluation.kinds.get(kind)) is None:
            rows.append(Row(f"EER, {kind}", "–", "", f"no pairs of kind {kind}"))
            continue
        note = notes.get(kind, f"same against {shown(kind)}")
        rows.append(Row(f"EER, {shown(kind)}", percent(rates.eer), _range(*rates.eer_ci), note))
        for rate, value in rates.fnmr_at_fmr.items():
            ends = rates.fnmr_ci[rate]
            if len(evaluation.kinds) > 1 and value is not None and ends is not None:
                rows.append(Row(f"FNMR @ FMR {rate}, {shown(kind)}", percent(value), _range(*ends), note))
    rows.append(Row("Threshold at EER", f"{evaluation.threshold:.4f}", "", "cosine similarity, chosen on these pairs"))
    low, high = evaluation.auc_ci
    note = "area under TMR over FMR; DeLong and Newcombe"
    rows.append(Row("AUC", f"{evaluation.auc:.5f}", f"{low:.5f} – {high:.5f}", note))
    for rate, value in evaluation.fnmr_at_fmr.items():
        if value is None:
            rows.append(Row(f"FNMR @ FMR {rate}", INSUFFICIENT, "", f"needs {round(1 / float(rate)):,} negatives"))
            continue
        interval = evaluation.fnmr_ci[rate] or (0.0, 1.0)
        note = "1 − TAR; exact bounds, threshold held fixed"
        rows.append(Row(f"FNMR @ FMR {rate}", percent(value), _range(*interval), note))
    if (accuracy := evaluation.accuracy_10fold) is None:
        rows.append(Row("10-fold accuracy", INSUFFICIENT, "", "needs ten pairs of each class"))
    else:
        note = (
            "folds of the list; ± standard deviation"
            if pairs.folds is not None
            else "drawn folds; ± standard deviation"
        )
        rows.append(Row("10-fold accuracy", percent(accuracy.mean), f"± {percent(accuracy.std)}", note))
    photos = len(pairs.photos)
    share = evaluation.failure_to_enrol or 0.0  # a list of scores alone has no report
    lost = round(share * photos)
    interval = metrics.wilson_interval(lost, photos)
    rows.append(
        Row(
            "Failure to enrol",
            percent(share),
            _range(*interval),
            f"{lost:,} of {photos:,} photos; Wilson",
        )
    )
    return rows


def _cards(
    pairs: PairList,
    scores: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.bool_],
    threshold: float,
    source: Source,
    count: int,
) -> list[Card]:
    """The lowest ``count`` of the chosen pairs, or the highest where it is negative."""
    index = np.flatnonzero(chosen)
    order = np.argsort(scores[index] if count > 0 else -scores[index], kind="stable")[: abs(count)]
    names = short_names([path for i in index[order] for path in (pairs[int(i)].path_a, pairs[int(i)].path_b)])
    cards: list[Card] = []
    for i in index[order].tolist():
        pair, score = pairs[i], float(scores[i])
        cards.append(
            Card(
                names=(names[pair.path_a], names[pair.path_b]),
                thumbnails=(source(pair.path_a), source(pair.path_b)),
                kind=pair.kind or "",
                score=score,
                number=i + 1,
                wrong=(score >= threshold) != pair.label,
            )
        )
    return cards


def _failures(
    pairs: PairList, failed: npt.NDArray[np.bool_], failures: Mapping[str, str] | None, source: Source
) -> list[Failure]:
    """The first failures: photos with their reasons, or pairs where the reasons are not known."""
    if failures is None:
        found = [pairs[i] for i in np.flatnonzero(failed).tolist()][:MOST_FAILURES]
        return [Failure(f"{shown(p.path_a)} – {shown(p.path_b)}", None, "no face in one of the two") for p in found]
    photos = [photo for photo in pairs.photos if photo in failures][:MOST_FAILURES]
    names = short_names(photos)
    return [Failure(names[photo], source(photo), shown(failures[photo])) for photo in photos]


def _range(low: float, high: float) -> str:
    return f"{percent(low)} – {percent(high)}"
