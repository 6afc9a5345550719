"""How well groups agree with people: pairwise and BCubed precision, recall and F1.

    scores = cluster_scores(people, groups)
    scores.pairwise.f1, scores.bcubed.f1

Pairwise counts couples of faces, so large groups weigh with the square of their size; BCubed (Bagga and Baldwin 1998; Amigó
et al. 2009, https://doi.org/10.1007/s10791-008-9066-8, section 3.4) averages over faces. Time and memory grow with the number of
faces, not with that of pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DataError

Labels = Sequence[object] | NDArray[np.generic]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Precision and recall in [0, 1]."""

    precision: float
    """Share of what was joined that belongs together; 1 where nothing was joined."""
    recall: float
    """Share of what belongs together that was joined; 1 where nothing belongs together."""

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclasses.dataclass(frozen=True)
class ClusterScores:
    """How well groups agree with people."""

    pairwise: Agreement
    bcubed: Agreement


def cluster_scores(people: Labels, groups: Labels) -> ClusterScores:
    """Compare groups with the truth.

    Args:
        people: who each face is, N labels of any kind.
        groups: the group that each face was put into.

    Raises:
        DataError: no faces, or not as many groups as people.
    """
    if len(people) != len(groups) or not len(people):
        raise DataError(
            f"{len(people)} labels of people and {len(groups)} of groups; expected as many of both, 1 or more"
        )
    truth = np.unique(np.asarray(people), return_inverse=True)[1].ravel().astype(np.int64)
    found = np.unique(np.asarray(groups), return_inverse=True)[1].ravel().astype(np.int64)
    person, group = np.bincount(truth), np.bincount(found)
    _, cell, both = np.unique(truth * len(group) + found, return_inverse=True, return_counts=True)
    together, joined, belong = (float((size * (size - 1)).sum()) for size in (both, group, person))
    shared = both[cell.ravel()]
    return ClusterScores(
        pairwise=Agreement(together / joined if joined else 1.0, together / belong if belong else 1.0),
        bcubed=Agreement(float((shared / group[found]).mean()), float((shared / person[truth]).mean())),
    )
