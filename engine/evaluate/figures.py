"""From scored pairs to the figures of `faceembed eval`.

    result = evaluate(pairs, similarity, failures=failures)        # photo -> reason, e.g. {"b.jpg": "no face found"}
    print(json.dumps(result.to_json_dict()))
    write_scores("scores.csv", pairs, similarity, failed_pairs(pairs, failures))

A photo without a face cannot be compared: each of its pairs scores -1 and is counted, so a model cannot gain by refusing hard
photos. What is not known here: how photos become scores.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.pairs import PairList
from faceembed.errors import DataError
from faceembed.files import atomic_write

FAILED_SCORE = -1.0
INSUFFICIENT = "insufficient data"
_ROUNDING = 1e-3  # a cosine of float16 vectors may pass 1 by this much


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one encoder on one pair list. Rates are shares in [0, 1], thresholds cosine similarities."""

    pairs: int
    """Pairs that were judged, those with a failure included unless they were skipped."""
    positives: int
    negatives: int
    eer: float
    eer_ci: tuple[float, float]
    """95 % bootstrap interval of ``eer``."""
    threshold: float
    """Where FMR equals FNMR on these very pairs: do not quote an accuracy on them with it."""
    eer_other: float | None
    """EER of same against other people; None without such pairs."""
    eer_fake: float | None
    """EER of same against deepfakes; None without such pairs."""
    auc: float
    fnmr_at_fmr: dict[str, float | None]
    """From ``1e-1`` to ``1e-6``; None where there are fewer than 1 / FMR negatives."""
    accuracy_10fold: metrics.FoldAccuracy | None
    """With the list's own folds, else ten drawn ones; None where there are too few pairs."""
    failure_to_enrol: float
    """Share of the list's photos, each counted once, in which no face was found or that could not be read."""
    skipped_pairs: int
    """Pairs left out because of a failure (``skip_failures``)."""

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON types; what the data cannot tell is ``"insufficient data"``."""
        fields = dataclasses.asdict(self)
        fields["eer_ci"] = list(self.eer_ci)
        fields["fnmr_at_fmr"] = {k: INSUFFICIENT if v is None else v for k, v in self.fnmr_at_fmr.items()}
        return fields


def evaluate(
    pairs: PairList,
    similarity: npt.ArrayLike,
    *,
    failures: Collection[str] = (),
    skip_failures: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Compute every metric.

    Args:
        pairs: a labelled list.
        similarity: ``(n,)`` cosine similarity of each pair. Entries of pairs with a failure are not looked at.
        failures: paths of the photos in which no face was found (a mapping from path to reason serves).
        skip_failures: leave their pairs out instead of scoring them -1; ``skipped_pairs`` says how many.
        resamples: for ``eer_ci``.
        seed: for ``eer_ci`` and drawn folds.

    Raises:
        DataError: no labels, one class only, or a similarity that is NaN or not in [-1, 1].
    """
    labels = pairs.labels
    failed = failed_pairs(pairs, failures)
    scores = pair_scores(pairs, similarity, failed)
    kept = ~failed if skip_failures else np.ones(len(pairs), np.bool_)
    if not kept.any():
        raise DataError(
            f"{pairs.source}: every pair has a photo without a face; look at the failures before the metrics"
        )
    scores, labels, kinds = scores[kept], labels[kept], pairs.kinds[kept]
    curve = metrics.roc(scores, labels)
    rate, threshold = metrics.eer_of(curve)
    return Evaluation(
        pairs=len(scores),
        positives=curve.positives,
        negatives=curve.negatives,
        eer=rate,
        eer_ci=metrics.bootstrap_eer(curve, resamples=resamples, seed=seed),
        threshold=threshold,
        eer_other=_eer_against("other", scores, kinds),
        eer_fake=_eer_against("fake", scores, kinds),
        auc=metrics.auc(curve),
        fnmr_at_fmr={f"1e-{k}": metrics.fnmr_at_fmr(curve, k) for k in metrics.FMR_EXPONENTS},
        accuracy_10fold=metrics.fold_accuracy(
            scores, labels, folds=None if pairs.folds is None else pairs.folds[kept], seed=seed
        ),
        failure_to_enrol=sum(photo in failures for photo in pairs.photos) / len(pairs.photos),
        skipped_pairs=int(np.count_nonzero(~kept)),
    )


def failed_pairs(pairs: PairList, failures: Collection[str]) -> npt.NDArray[np.bool_]:
    """``(n,)`` bool: True where one of a pair's photos is among ``failures``."""
    return np.fromiter((pair.path_a in failures or pair.path_b in failures for pair in pairs), np.bool_, len(pairs))


def pair_scores(pairs: PairList, similarity: npt.ArrayLike, failed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """``(n,)`` float64 in [-1, 1]: the similarities, with -1 where ``failed``.

    Raises:
        DataError: wrong shape, or a similarity of a pair that did not fail is NaN or not in [-1, 1].
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.shape != (len(pairs),) or failed.shape != values.shape:
        raise DataError(
            f"expected one similarity and one flag for each of {len(pairs)} pairs, got shapes {values.shape} and {failed.shape}"
        )
    values = np.where(failed, FAILED_SCORE, values)
    wrong = ~(np.abs(values) <= 1 + _ROUNDING)  # NaN is wrong too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{pairs.source}: the similarity of pair {first} ({pairs[first].path_a!r}, {pairs[first].path_b!r}) is "
            f"{values[first]}; expected a cosine in [-1, 1], and -1 with 'failed' set where no face was found"
        )
    return np.clip(values, -1.0, 1.0)


def write_scores(
    path: str | os.PathLike[str], pairs: PairList, similarity: npt.ArrayLike, failed: npt.NDArray[np.bool_]
) -> None:
    """Write ``path_a,path_b,label,kind,similarity,found``, one row a pair, as UTF-8 CSV, complete or not at all.

    The file is a pair list itself. ``label`` is 1, 0, or empty for a list without labels; ``found`` is 0 where a face was
    missing and the similarity is therefore -1.

    Raises:
        DataError: see `pair_scores`.
        OSError: the file cannot be written.
    """
    scores = pair_scores(pairs, similarity, failed)
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path_a", "path_b", "label", "kind", "similarity", "found"))
        for pair, score, miss in zip(pairs, scores.tolist(), failed.tolist(), strict=True):
            label = "" if pair.label is None else int(pair.label)
            writer.writerow((pair.path_a, pair.path_b, label, pair.kind or "", f"{score:.7g}", int(not miss)))


def _eer_against(kind: str, scores: npt.NDArray[np.float64], kinds: npt.NDArray[np.str_]) -> float | None:
    chosen = (kinds == "same") | (kinds == kind)
    same = kinds[chosen] == "same"
    if not 0 < np.count_nonzero(same) < len(same):
        return None
    return metrics.eer(scores[chosen], same)[0]
