"""Verification error of two encoders on the same pair list, from embeddings keyed by photo.

    report = compare(pairs, peer, ours)

A pair with a photo in which no face was found scores lowest of all, and so counts as a non-match: an encoder cannot win by
refusing hard photos. The EER, its threshold and its interval are those of `faceembed.engine.evaluate.metrics`; each threshold is the
test's own, so these are EERs and not error rates of a chosen setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.flaws import people_of
from faceembed.engine.evaluate.intervals import eer_interval
from faceembed.engine.evaluate.metrics import eer, eer_of, roc
from faceembed.engine.evaluate.pairs import PairList

Embeddings = Mapping[str, NDArray[np.float32]]
Floats = NDArray[np.float64]
FAILED_COSINE = -1.0
BOOTSTRAP_SAMPLES = 1000


def take_pairs(pairs: PairList, count: int) -> PairList:
    """Every n-th pair, so that both labels keep their shares. For a quick look only."""
    step = max(1, len(pairs.pairs) // count)
    return dataclasses.replace(pairs, pairs=pairs.pairs[::step], lines=pairs.lines[::step])


def pair_scores(pairs: PairList, embeddings: Embeddings, *, euclidean: bool = False) -> Floats:
    """One score a pair, higher is more alike.

    Args:
        pairs: n pairs of photo names.
        embeddings: photo name to (d,) float32; a photo without a face has none.
        euclidean: negative distance of the vectors as they are, which is how dlib's encoder is meant to be compared; a
            failed pair then scores one below the worst. Default: cosine similarity; a failed pair scores -1.

    Returns:
        (n,) float64.
    """
    scores = np.full(len(pairs.pairs), np.nan)
    for row, pair in enumerate(pairs.pairs):
        a, b = embeddings.get(pair.path_a), embeddings.get(pair.path_b)
        if a is None or b is None:
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        scores[row] = -np.linalg.norm(x - y) if euclidean else x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    failed = FAILED_COSINE
    if euclidean:
        failed = float(np.nanmin(scores, initial=0.0)) - 1.0
    return np.where(np.isnan(scores), failed, scores)


def error_rate(scores: Floats, labels: NDArray[np.bool_], people: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """EER, its 95 % interval and its threshold, as JSON; ``people`` as for `eer_interval`."""
    curve = roc(scores, labels)
    rate, threshold = eer_of(curve)
    interval = eer_interval(scores, labels, people=people, resamples=BOOTSTRAP_SAMPLES)
    return {"eer": rate, "ci95": list(interval.ends), "ci95_how": interval.how, "threshold": threshold}


def paired_difference(ours: Floats, peer: Floats, labels: NDArray[np.bool_], *, samples: int = 500) -> list[float]:
    """95 % interval of EER(ours) - EER(peer): both are scored on the same resampled pairs, so hard pairs cancel out.

    An interval that holds 0 says that these pairs cannot tell the two apart.
    """
    rng = np.random.default_rng(0)
    same, other = np.flatnonzero(labels), np.flatnonzero(~labels)
    differences = np.empty(samples)
    for i in range(samples):
        rows = np.concatenate([rng.choice(same, same.size), rng.choice(other, other.size)])
        differences[i] = eer(ours[rows], labels[rows])[0] - eer(peer[rows], labels[rows])[0]
    return [float(bound) for bound in np.quantile(differences, [0.025, 0.975])]


def compare(pairs: PairList, peer: Embeddings, ours: Embeddings) -> dict[str, Any]:
    """Both encoders on one list; `ratio` is ours over the peer's by the peer's own Euclidean distance."""
    labels, people = pairs.labels, people_of(pairs)
    ours_scores = pair_scores(pairs, ours)
    peer_scores = pair_scores(pairs, peer, euclidean=True)
    result: dict[str, Any] = {
        "pairs": len(pairs.pairs),
        "photos": len(pairs.photos),
        "no_face": {side: sum(p not in e for p in pairs.photos) for side, e in (("peer", peer), ("ours", ours))},
        "peer_euclidean": error_rate(peer_scores, labels, people),
        "peer_cosine": error_rate(pair_scores(pairs, peer), labels, people),
        "ours_cosine": error_rate(ours_scores, labels, people),
        "difference_ci95": paired_difference(ours_scores, peer_scores, labels),
    }
    base = result["peer_euclidean"]["eer"]
    result["ratio"] = result["ours_cosine"]["eer"] / base if base else None
    return result
