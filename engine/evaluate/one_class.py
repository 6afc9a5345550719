"""The one error rate that a list of one class can tell: pairs of one person give FNMR at a threshold, pairs of two people FMR."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate.figures import Bounds, failed_pairs, pair_scores
from faceembed.engine.evaluate.flaws import flaws_of
from faceembed.engine.evaluate.intervals import INDEPENDENT, share_bounds
from faceembed.engine.evaluate.pairs import PairList
from faceembed.errors import DataError

_BOTH = ("eer", "eer_ci", "eer_other", "eer_fake", "auc", "auc_ci", "fnmr_at_fmr", "fnmr_ci", "accuracy_10fold")


@dataclasses.dataclass(frozen=True)
class OneClassRates:
    """What a list of one class tells. Rates are shares in [0, 1]."""

    pairs: int
    positives: int
    negatives: int
    threshold: float
    """Given, or the encoder's own: a pair is accepted from it on."""
    fmr: float | None
    """Share of the pairs of two people that are accepted; None of a list of one person's pairs."""
    fnmr: float | None
    """Share of the pairs of one person that are not; None of the others."""
    ci: Bounds
    """95 % interval of the rate: exact binomial bounds; a pair that the list repeats counts once."""
    ci_how: str
    failure_to_enrol: float | None
    """Share of the list's photos without a face; None of a list of scores."""
    skipped_pairs: int
    repeated_pairs: int
    pairs_with_itself: int
    flaws: list[str]

    def to_json_dict(self) -> dict[str, Any]:
        """The fields, and those that only both classes together can tell as null."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        missing = "pairs of two people" if self.fmr is None else "pairs of one person"
        null = [name for name, value in fields.items() if value is None]
        reasons = {name: f"the list has no {missing}" for name in (*_BOTH, *null) if name != "failure_to_enrol"}
        return {**fields, **dict.fromkeys(_BOTH), "cannot_tell": reasons}


def rates_of_one_class(
    pairs: PairList,
    similarity: npt.ArrayLike,
    threshold: float | None,
    *,
    failures: Collection[str] = (),
    skip_failures: bool = False,
) -> OneClassRates:
    """FMR or FNMR at a threshold.

    Args:
        pairs: a labelled list of one class.
        similarity: (n,) scores, as `figures.evaluate` takes them.
        threshold: None where the encoder has none.
        failures, skip_failures: as for `figures.evaluate`.

    Raises:
        DataError: no threshold, or nothing is left of the list.
    """
    if threshold is None:
        kind = "of one person" if pairs.labels[0] else "of two people"
        raise DataError(
            f"{pairs.source}: all {len(pairs)} pairs are {kind}; an EER needs both kinds, and a rate of one kind a threshold: give "
            "--threshold"
        )
    failed = failed_pairs(pairs, failures)
    kept = ~failed if skip_failures else np.ones(len(pairs), np.bool_)
    if not kept.any():
        raise DataError(
            f"{pairs.source}: every pair has a photo without a face; look at the failures before the metrics"
        )
    flaws, same = flaws_of(pairs), bool(pairs.labels[0])
    accepted = pair_scores(pairs, similarity, failed) >= threshold
    wrong = ~accepted if same else accepted
    count, total = int(wrong[kept].sum()), int(kept.sum())
    once = kept & flaws.once
    return OneClassRates(
        pairs=total,
        positives=total if same else 0,
        negatives=0 if same else total,
        threshold=threshold,
        fmr=None if same else count / total,
        fnmr=count / total if same else None,
        ci=share_bounds(int(wrong[once].sum()), int(once.sum())),
        ci_how=f"exact binomial bounds, {INDEPENDENT}",
        failure_to_enrol=None if pairs.scores else sum(p in failures for p in pairs.photos) / len(pairs.photos),
        skipped_pairs=int(np.count_nonzero(~kept)),
        repeated_pairs=flaws.repeated,
        pairs_with_itself=flaws.with_itself,
        flaws=flaws.texts(),
    )
