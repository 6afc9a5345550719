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
import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.discard import Discard, discard_curves
from faceembed.engine.evaluate.flaws import flaws_of, people_of
from faceembed.engine.evaluate.groups import Groups, rates_by_group
from faceembed.engine.evaluate.intervals import auc_bounds, eer_interval, share_bounds
from faceembed.engine.evaluate.pairs import PairList
from faceembed.errors import DataError
from faceembed.files import atomic_write
from faceembed.outputs import check_output

FAILED_SCORE = -1.0
INSUFFICIENT = "insufficient data"
"""What is shown to people where the data cannot tell; in JSON that is null, with the reason in ``cannot_tell``."""
Bounds = tuple[float, float]
_ROUNDING = 1e-3  # a cosine of float16 vectors may pass 1 by this much


@dataclasses.dataclass(frozen=True)
class KindRates:
    """The figures of the positives against one kind of negatives."""

    negatives: int
    eer: float
    eer_ci: Bounds
    threshold: float
    """Where FMR of this kind equals FNMR."""
    fnmr_at_fmr: dict[str, float | None]
    fnmr_ci: dict[str, Bounds | None]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one encoder on one pair list. Rates are shares in [0, 1], thresholds cosine similarities."""

    pairs: int
    """Pairs that were judged, those with a failure included unless they were skipped."""
    positives: int
    negatives: int
    eer: float
    eer_ci: Bounds
    """95 % interval of ``eer`` (`intervals.eer_interval`); so are all others whose names end in ``ci``."""
    eer_ci_how: str
    """How that interval was made, and what was taken as independent."""
    threshold: float
    """Where FMR equals FNMR on these very pairs: do not quote an accuracy on them with it."""
    eer_other: float | None
    """EER of same against other people; None without such pairs."""
    eer_fake: float | None
    """EER of same against deepfakes; None without such pairs."""
    kinds: dict[str, KindRates]
    """By what the negatives are: ``other``, ``fake`` and any other word of the list; without those that cannot be judged."""
    auc: float
    auc_ci: Bounds
    fnmr_at_fmr: dict[str, float | None]
    """From ``1e-1`` to ``1e-6``; None where there are fewer than 1 / FMR negatives."""
    fnmr_ci: dict[str, Bounds | None]
    """Of the FNMR at the threshold found: exact binomial bounds."""
    accuracy_10fold: metrics.FoldAccuracy | None
    """With the list's own folds, else ten drawn ones; None where there are too few pairs."""
    failure_to_enrol: float | None
    """Share of the list's photos, each counted once, in which no face was found or that could not be read; None of a list of scores."""
    skipped_pairs: int
    """Pairs left out because of a failure (``skip_failures``)."""
    repeated_pairs: int
    """Of the whole list, as `flaws.Flaws` has them."""
    pairs_with_itself: int
    contradictory_pairs: int
    flaws: list[str]
    """These in words."""
    groups: Groups | None = None
    """By group, at ``threshold``; None where the list has no column ``group``."""
    discard: Discard | None = None
    """Misses left when pairs of the poorest photos are discarded, by what says that they are poor; None of a list of scores."""

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON types; what the data cannot tell is null, and ``cannot_tell`` says why, by the field's name."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {**fields, "cannot_tell": self.cannot_tell()}

    def cannot_tell(self) -> dict[str, str]:
        """Why a field is null, by its name."""
        found = {
            f"eer_{kind}": f"no pairs of kind {kind}"
            for kind in ("other", "fake")
            if getattr(self, f"eer_{kind}") is None
        }
        found |= _too_few("fnmr_at_fmr", self.fnmr_at_fmr, self.negatives)
        for kind, rates in self.kinds.items():
            found |= _too_few(f"kinds.{kind}.fnmr_at_fmr", rates.fnmr_at_fmr, rates.negatives)
        if self.accuracy_10fold is None:
            found["accuracy_10fold"] = "fewer than ten pairs of a class, or a fold without the others' classes"
        if self.groups is None:
            found["groups"] = "the list has no column group"
        if self.discard is None:
            found["discard"] = "no quality of the photos is known, or there are too few negatives"
        if self.failure_to_enrol is None:
            found["failure_to_enrol"] = "a list of scores, without photos"
        return found


def evaluate(
    pairs: PairList,
    similarity: npt.ArrayLike,
    *,
    failures: Collection[str] = (),
    skip_failures: bool = False,
    qualities: Mapping[str, Mapping[str, float]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Compute every metric.

    Args:
        pairs: a labelled list.
        similarity: ``(n,)`` cosine similarity of each pair. Entries of pairs with a failure are not looked at.
        failures: paths of the photos in which no face was found (a mapping from path to reason serves).
        skip_failures: leave their pairs out instead of scoring them -1; ``skipped_pairs`` says how many.
        qualities: photo to its measures of quality, by name, the higher the better; for ``discard``.
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
    flaws, people = flaws_of(pairs), people_of(pairs)
    judged = _Judged(
        scores[kept], labels[kept], flaws.once[kept], None if people is None else people[kept], resamples, seed
    )
    kinds_kept = pairs.kinds[kept]
    scores, labels = scores[kept], labels[kept]
    curve = metrics.roc(scores, labels)
    every, how = judged.rates(np.ones(len(scores), np.bool_))
    kinds = {
        kind: judged.rates(labels | (kinds_kept == kind))[0]
        for kind in pairs.negative_kinds
        if (kinds_kept == kind).any()
    }
    return Evaluation(
        pairs=len(scores),
        positives=curve.positives,
        negatives=curve.negatives,
        eer=every.eer,
        eer_ci=every.eer_ci,
        eer_ci_how=how,
        threshold=every.threshold,
        eer_other=kinds["other"].eer if "other" in kinds else None,
        eer_fake=kinds["fake"].eer if "fake" in kinds else None,
        kinds=kinds,
        auc=metrics.auc(curve),
        auc_ci=auc_bounds(scores[judged.once], labels[judged.once]),
        fnmr_at_fmr=every.fnmr_at_fmr,
        fnmr_ci=every.fnmr_ci,
        accuracy_10fold=metrics.fold_accuracy(
            scores, labels, folds=None if pairs.folds is None else pairs.folds[kept], seed=seed
        ),
        failure_to_enrol=None if pairs.scores else sum(photo in failures for photo in pairs.photos) / len(pairs.photos),
        skipped_pairs=int(np.count_nonzero(~kept)),
        repeated_pairs=flaws.repeated,
        pairs_with_itself=flaws.with_itself,
        contradictory_pairs=flaws.contradictory,
        flaws=flaws.texts(),
        groups=rates_by_group(scores, labels, pairs.groups[kept], judged.once, every.threshold),
        discard=discard_curves(scores, labels, _lesser(pairs, qualities or {}, kept)),
    )


def _lesser(
    pairs: PairList, qualities: Mapping[str, Mapping[str, float]], kept: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.float64]]:
    """The lesser quality of each pair's photos, by measure; NaN where one is not known."""
    names = sorted({name for known in qualities.values() for name in known})
    nothing: Mapping[str, float] = {}
    looked = [(qualities.get(p.path_a, nothing), qualities.get(p.path_b, nothing)) for p in pairs]
    return {
        name: np.array([np.minimum(a.get(name, np.nan), b.get(name, np.nan)) for a, b in looked])[kept]
        for name in names
    }


@dataclasses.dataclass(frozen=True)
class _Judged:
    """Pairs that are judged, and what their intervals rest on."""

    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.bool_]
    once: npt.NDArray[np.bool_]
    people: npt.NDArray[np.int64] | None
    resamples: int
    seed: int

    def rates(self, chosen: npt.NDArray[np.bool_]) -> tuple[KindRates, str]:
        """The figures of some of the pairs, and how their interval was made."""
        scores, labels = self.scores[chosen], self.labels[chosen]
        curve = metrics.roc(scores, labels)
        rate, threshold = metrics.eer_of(curve)
        counted = self.once[chosen]
        people = None if self.people is None else self.people[chosen][counted]
        interval = eer_interval(
            scores[counted], labels[counted], people=people, resamples=self.resamples, seed=self.seed
        )
        ends = min(interval.low, rate), max(interval.high, rate)
        found = {f"1e-{k}": metrics.fnmr_at_fmr(curve, k) for k in metrics.FMR_EXPONENTS}
        positives = int(np.count_nonzero(labels[counted]))  # copies of a pair are no further evidence
        bounds = {
            name: None if value is None else share_bounds(round(value * positives), positives)
            for name, value in found.items()
        }
        return KindRates(curve.negatives, rate, ends, threshold, found, bounds), interval.how


def _too_few(name: str, rates: dict[str, float | None], negatives: int) -> dict[str, str]:
    return {
        f"{name}.{rate}": f"needs {round(1 / float(rate)):,} negatives, there are {negatives:,}"
        for rate, value in rates.items()
        if value is None
    }


def failed_pairs(pairs: PairList, failures: Collection[str]) -> npt.NDArray[np.bool_]:
    """``(n,)`` bool: True where one of a pair's photos is among ``failures``."""
    return np.fromiter((pair.path_a in failures or pair.path_b in failures for pair in pairs), np.bool_, len(pairs))


def pair_scores(pairs: PairList, similarity: npt.ArrayLike, failed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """``(n,)`` float64 in [-1, 1]: the similarities, with -1 where ``failed``. The scores of a list of scores are what they are.

    Raises:
        DataError: wrong shape, or a similarity of a pair that did not fail is NaN or not in [-1, 1].
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.shape != (len(pairs),) or failed.shape != values.shape:
        raise DataError(
            f"expected one similarity and one flag for each of {len(pairs)} pairs, got shapes {values.shape} and {failed.shape}"
        )
    if pairs.scores is not None:
        return values
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
    check_output(path, "scores")
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path_a", "path_b", "label", "kind", "similarity", "found"))
        for pair, score, miss in zip(pairs, scores.tolist(), failed.tolist(), strict=True):
            label = "" if pair.label is None else int(pair.label)
            writer.writerow((pair.path_a, pair.path_b, label, pair.kind or "", f"{score:.7g}", int(not miss)))
