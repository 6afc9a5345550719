"""The verb `eval`: scores a pair list with an encoder and computes every metric."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate import figures as evaluation
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import PairList, check_files
from faceembed.engine.photos.thumbnail import thumbnail
from faceembed.engine.pipeline.few_photos import Embedded, embed_photos
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report import write_eval_report


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """A pair list with its scores and figures."""

    pairs: PairList
    similarity: NDArray[np.float64]
    """(n,) cosines; -1 where a photo has no face."""
    failed: NDArray[np.bool_]
    """(n,) whether one of the pair's photos has no face."""
    embedded: Embedded
    evaluation: evaluation.Evaluation

    def write_report(self, path: str | os.PathLike[str]) -> None:
        """Write curves, histogram and the worst pairs as one HTML file."""
        write_eval_report(
            path,
            self.evaluation,
            self.pairs,
            self.similarity,
            self.failed,
            title=f"{self.embedded.encoder} on {Path(self.pairs.source).name}",
            thumbnails=thumbnail,
            encoder=self.embedded.encoder,
            failures=self.embedded.failures,
            details=self.embedded.runtime,
        )


def score_pairs(
    pairs: str | os.PathLike[str] | PairList,
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    skip_failures: bool = False,
    scores: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> ScoredPairs:
    """Score a pair list and compute every metric.

    Args:
        pairs: a list in one of the formats that `read_pairs` knows.
        root: the folder that its photos lie in, where the list does not say.
        settings: models and runtime.
        skip_failures: leave out pairs with a photo without a face, instead of scoring them -1.
        scores: also write a CSV of all pairs and their similarities there; it is written before the metrics, so that a
            list without labels still gives its scores.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        PairListError: the list cannot be read or names photos that are not there.
        DataError: pairs of one class only, or no labels.
    """
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    similarity, failed, embedded = similarities(listed, settings=settings, notice=notice, progress=progress)
    if scores is not None:
        evaluation.write_scores(scores, listed, similarity, failed)
    result = evaluation.evaluate(listed, similarity, failures=embedded.failures, skip_failures=skip_failures)
    return ScoredPairs(listed, similarity, failed, embedded, result)


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
    vectors = embedded.vectors
    similarity = np.array(
        [
            float(vectors[pair.path_a] @ vectors[pair.path_b])
            if pair.path_a in vectors and pair.path_b in vectors
            else evaluation.FAILED_SCORE
            for pair in pairs
        ]
    )
    return similarity, evaluation.failed_pairs(pairs, embedded.failures), embedded


def evaluate_pairs(
    pairs: str | os.PathLike[str] | PairList,
    *,
    root: str | os.PathLike[str] | None = None,
    settings: EmbedSettings | None = None,
    skip_failures: bool = False,
    scores: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> evaluation.Evaluation:
    """The figures of `score_pairs`, whose arguments and errors these are.

    Args:
        report: also write an HTML report there.
    """
    scored = score_pairs(
        pairs,
        root=root,
        settings=settings,
        skip_failures=skip_failures,
        scores=scores,
        notice=notice,
        progress=progress,
    )
    if report is not None:
        scored.write_report(report)
    return scored.evaluation
