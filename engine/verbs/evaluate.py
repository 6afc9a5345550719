"""The verb `eval`: scores a pair list with an encoder and computes every metric."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate import figures as evaluation
from faceembed.engine.evaluate.index_pairs import vectors_in
from faceembed.engine.evaluate.one_class import OneClassRates, rates_of_one_class
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import PairList, check_files
from faceembed.engine.evaluate.quality_scores import quality_aware_scores
from faceembed.engine.models.registry import resolve
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.few_photos import Embedded, embed_photos
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.quality import quality_of
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report import write_eval_report
from faceembed.errors import DataError, UsageError

SCORES = ("cosine", "quality-aware")


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """A pair list with its scores and figures."""

    pairs: PairList
    similarity: NDArray[np.float64]
    """(n,) cosines; -1 where a photo has no face."""
    failed: NDArray[np.bool_]
    """(n,) whether one of the pair's photos has no face."""
    embedded: Embedded | None
    """The photos' embeddings; None where nothing was computed: of a list of scores, or of an index's own rows."""
    evaluation: evaluation.Evaluation | OneClassRates
    encoder: str = ""
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    """Photo to the reason why it has no face."""

    def write_report(self, path: str | os.PathLike[str]) -> None:
        """Write curves, histogram and the worst pairs as one HTML file.

        Raises:
            DataError: of a list that `check_report` refuses.
        """
        if isinstance(self.evaluation, OneClassRates):
            raise DataError(_NO_REPORT.format(self.pairs.source))
        write_eval_report(
            path,
            self.evaluation,
            self.pairs,
            self.similarity,
            self.failed,
            title=f"{self.encoder} on {Path(self.pairs.source).name}",
            thumbnails=thumbnail,
            encoder=self.encoder,
            failures=self.failures,
            details=self.embedded.runtime if self.embedded else {},
        )


def check_report(pairs: PairList) -> None:
    """Refuse a report of a list that has no photos, or one class, before its photos are looked at.

    Raises:
        DataError: such a list.
    """
    if pairs.scores is not None or pairs.rows or (pairs.labelled and pairs.one_class):
        raise DataError(_NO_REPORT.format(pairs.source))


_NO_REPORT = "{}: a report shows photos and curves, for which a list of photos with pairs of both classes is needed"


def score_pairs(
    pairs: str | os.PathLike[str] | PairList,
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    index: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    skip_failures: bool = False,
    scores: str | os.PathLike[str] | None = None,
    score: str = "cosine",
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> ScoredPairs:
    """Score a pair list and compute every metric.

    Args:
        pairs: a list in one of the formats that `read_pairs` knows. A list of one class has one rate, FMR or FNMR at a threshold.
        root: the folder that its photos lie in, where the list does not say.
        settings: models and runtime.
        index: take the embeddings of its rows; nothing is computed.
        threshold: of a list of one class; None: the encoder's own.
        skip_failures: leave out pairs with a photo without a face, instead of scoring them -1.
        scores: also write a CSV of all pairs and their similarities there; it is written before the metrics, so that a
            list without labels still gives its scores.
        score: ``cosine``, or ``quality-aware`` for QMagFace's score, where it was fitted for the encoder.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        PairListError: the list cannot be read or names photos that are not there.
        DataError: no labels; or one class only and no threshold.
        UsageError: a threshold for a list of both classes, or a file for the scores of a list of scores.
    """
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    if threshold is not None and listed.labelled and not listed.one_class:
        raise UsageError("--threshold is for lists of one class; leave it out: where both rates are equal is found")
    if scores is not None and listed.scores is not None:
        raise UsageError(f"--scores: {listed.source} is a list of scores already")
    if score not in SCORES:
        raise UsageError(f"--score '{score}' is none of {', '.join(SCORES)}")
    if score != "cosine" and listed.scores is not None:
        raise UsageError(f"--score {score}: {listed.source} is a list of scores already")
    embedded, name, limit = None, "", threshold
    qualities: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    if listed.scores is not None:
        similarity = np.array(listed.scores)
    elif index is not None:
        vectors, failures, name, rows = vectors_in(listed, index, notice=notice)
        similarity = _cosines(listed, vectors)
        qualities = {photo: quality_of(row) for photo, row in rows.items()}
    else:
        similarity, _, embedded = similarities(listed, settings=settings, notice=notice, progress=progress)
        failures, name, limit = (
            embedded.failures,
            embedded.encoder,
            threshold if threshold is not None else embedded.threshold,
        )
        qualities = embedded.quality
    if score == "quality-aware":
        spec = embedded.spec if embedded else resolve(name, task="encoder").spec
        similarity, limit = quality_aware_scores(listed, similarity, qualities, spec), threshold
    failed = evaluation.failed_pairs(listed, failures)
    if scores is not None:
        evaluation.write_scores(scores, listed, similarity, failed)
    result: evaluation.Evaluation | OneClassRates
    if listed.labelled and listed.one_class:
        result = rates_of_one_class(listed, similarity, limit, failures=failures, skip_failures=skip_failures)
    else:
        result = evaluation.evaluate(
            listed, similarity, failures=failures, skip_failures=skip_failures, qualities=qualities
        )
    return ScoredPairs(listed, similarity, failed, embedded, result, name, failures)


def _cosines(pairs: PairList, vectors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """(n,) the cosine of each pair; -1 where a photo has no face."""
    return np.array(
        [
            float(vectors[pair.path_a] @ vectors[pair.path_b])
            if pair.path_a in vectors and pair.path_b in vectors
            else evaluation.FAILED_SCORE
            for pair in pairs
        ]
    )


def similarities(
    pairs: PairList,
    *,
    settings: EmbedSettings | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Embedded]:
    """Score the pairs of a list, with labels or without.

    Args:
        pairs: from `read_pairs`.
        settings, notice, progress: as for `score_pairs`.

    Returns:
        similarity: (n,) cosines; -1 where a photo has no face.
        failed: (n,) whether one of the pair's photos has no face.
        embedded: the photos' embeddings, and why some have none.

    Raises:
        PairListError: the list names photos that are not there.
    """
    check_files(pairs)
    embedded = embed_photos(pairs.photos, settings or EmbedSettings(), notice=notice, progress=progress)
    similarity = _cosines(pairs, embedded.vectors)
    return similarity, evaluation.failed_pairs(pairs, embedded.failures), embedded


def evaluate_pairs(
    pairs: str | os.PathLike[str] | PairList,
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    index: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    skip_failures: bool = False,
    scores: str | os.PathLike[str] | None = None,
    score: str = "cosine",
    report: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> evaluation.Evaluation | OneClassRates:
    """The figures of `score_pairs`, whose arguments and errors these are.

    Args:
        report: also write an HTML report there.
    """
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    if report is not None:
        check_report(listed)
    scored = score_pairs(
        listed,
        settings=settings,
        index=index,
        threshold=threshold,
        skip_failures=skip_failures,
        scores=scores,
        score=score,
        notice=notice,
        progress=progress,
    )
    if report is not None:
        scored.write_report(report)
    return scored.evaluation
