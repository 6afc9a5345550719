"""The verb `eval`: scores a pair list with an encoder and computes every metric."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from faceembed.engine import evaluate as evaluation
from faceembed.engine.compare import Notify, OnProgress, embed_photos
from faceembed.engine.pairs import PairList, check_files, read_pairs
from faceembed.engine.report import write_eval_report
from faceembed.engine.settings import EmbedSettings
from faceembed.engine.thumbnail import thumbnail


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
    """Score a pair list and compute every metric.

    Args:
        pairs: a list in one of the formats that `read_pairs` knows.
        root: the folder that its photos lie in, where the list does not say.
        settings: models and runtime.
        skip_failures: leave out pairs with a photo without a face, instead of scoring them -1.
        scores: also write a CSV of all pairs and their similarities there.
        report: also write an HTML report there.
        notice, progress: called with lines for the user, and after every batch.

    Raises:
        PairListError: the list cannot be read or names photos that are not there.
        DataError: pairs of one class only, or no labels.
    """
    settings = settings or EmbedSettings()
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    check_files(listed)
    embedded = embed_photos(listed.photos, settings, notice=notice, progress=progress)
    similarity = np.array(
        [
            float(embedded.vectors[pair.path_a] @ embedded.vectors[pair.path_b])
            if pair.path_a in embedded.vectors and pair.path_b in embedded.vectors
            else evaluation.FAILED_SCORE
            for pair in listed
        ]
    )
    failed = evaluation.failed_pairs(listed, embedded.failures)
    if scores is not None:  # before the metrics, so that a list without labels still gives its scores
        evaluation.write_scores(scores, listed, similarity, failed)
    result = evaluation.evaluate(listed, similarity, failures=embedded.failures, skip_failures=skip_failures)
    if report is not None:
        title = f"{embedded.encoder} on {Path(listed.source).name}"
        write_eval_report(
            report,
            result,
            listed,
            similarity,
            failed,
            title=title,
            thumbnails=thumbnail,
            encoder=embedded.encoder,
            failures=embedded.failures,
            details=embedded.runtime,
        )
    return result
