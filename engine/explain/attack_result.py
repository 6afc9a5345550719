"""What an attack did: similarities, error rates, the worst cases. `report.attack` and `report.attack_picture` show it."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.pairs import PairList
from faceembed.files import atomic_write
from faceembed.outputs import check_output

Chips = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Case:
    """One pair under attack, with its pictures."""

    epsilon: float
    pair: int
    """Number in the list."""
    kind: str
    before: float
    after: float
    reference: Chips
    """(H, W, 3) uint8 RGB: the first photo's chip."""
    original: Chips
    changed: Chips

    @property
    def harm(self) -> float:
        """How far the similarity moved the attacker's way."""
        return (self.before - self.after) if self.kind == "same" else (self.after - self.before)


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures at one epsilon; 0 is the unchanged list. Rates are shares, None where a kind or class is missing."""

    epsilon: float
    levels: int | None
    """How many of 255 levels a pixel moved at most; None for noise."""
    similarity: dict[str, float]
    """Mean of each kind of pairs, failures left out."""
    change: dict[str, float]
    """Mean change of each kind of pairs that was attacked."""
    eer: float | None
    """At this epsilon's own threshold: what is left if the threshold may follow."""
    eer_other: float | None
    eer_fake: float | None
    fnmr: float | None
    """At the clean list's EER threshold: what is left if it stays."""
    fmr: float | None
    fmr_other: float | None
    fmr_fake: float | None


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack did to a list."""

    method: str
    goal: str
    encoder: str
    pairs: PairList
    numbers: NDArray[np.int64]
    """(n,) which pairs of the list were judged."""
    failed: NDArray[np.bool_]
    """(n,) whether a photo of the pair has no face; such pairs score -1."""
    failures: dict[str, str]
    """Photo to the reason why it has no face."""
    threshold: float | None
    """Where FMR equals FNMR on the unchanged list; None for a list of one class."""
    scores: NDArray[np.float64]
    """(1 + epsilons, n) similarities; the first row is the unchanged list's."""
    rows: list[Row]
    """In the order of ``scores``."""
    cases: list[Case]
    """The worst of each epsilon and kind, the worst first."""
    details: dict[str, Any]
    """How it was computed."""
    several: int = 0
    """Photos that show several faces, of which the largest was taken."""

    def to_json_dict(self) -> dict[str, Any]:
        """The figures as plain types; what the data cannot tell is null, and ``cannot_tell`` says why."""
        rates = ("eer", "eer_other", "eer_fake", "fnmr", "fmr", "fmr_other", "fmr_fake")
        missing = [name for name in rates if any(getattr(row, name) is None for row in self.rows)]
        return {
            "method": self.method,
            "goal": self.goal,
            "encoder": self.encoder,
            "pairs": len(self.numbers),
            "failed_pairs": int(self.failed.sum()),
            "failures": self.failures,
            "several_faces": self.several,
            "threshold": self.threshold,
            "rows": [dict(vars(row)) for row in self.rows],
            "cannot_tell": dict.fromkeys(
                [*missing, *(["threshold"] if self.threshold is None else [])],
                "no pairs of that kind or class in the list",
            ),
            **self.details,
        }

    def write_scores(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV: ``path_a,path_b,label,kind,epsilon,before,after,found``, one row a pair and epsilon.

        Raises:
            OSError: the file cannot be written.
        """
        check_output(path, "attack scores")
        with atomic_write(path, "w") as file:
            writer = csv.writer(file)
            writer.writerow(("path_a", "path_b", "label", "kind", "epsilon", "before", "after", "found"))
            for row, after in zip(self.rows[1:], self.scores[1:], strict=True):
                for number, missing, old, new in zip(self.numbers, self.failed, self.scores[0], after, strict=True):
                    pair = self.pairs[int(number)]
                    known = (pair.path_a, pair.path_b, int(bool(pair.label)), pair.kind)
                    writer.writerow((*known, f"{row.epsilon:g}", f"{old:.7g}", f"{new:.7g}", int(not missing)))

    @property
    def title(self) -> str:
        """What was done to what."""
        return f"{self.method} on {self.encoder}"


def figures(
    scores: NDArray[np.float64],
    kinds: NDArray[np.str_],
    *,
    failed: NDArray[np.bool_],
    attacked: NDArray[np.bool_],
    epsilons: Sequence[float],
    levels: Sequence[int | None],
) -> tuple[float | None, list[Row]]:
    """The threshold of the unchanged list, and a row for it and for each epsilon.

    Args:
        scores: (1 + epsilons, n) similarities, the unchanged list's first.
        kinds: (n,) of ``same``, ``other``, ``fake`` or another word.
        failed: (n,) whether the pair has no similarity.
        attacked: (n,) whether the attack was to change the pair.
        epsilons, levels: of each row after the first.
    """
    labels = kinds == "same"
    both = 0 < labels.sum() < len(labels)
    threshold = metrics.eer(scores[0], labels)[1] if both else None
    rows = []
    for epsilon, level, after in zip((0.0, *epsilons), (0, *levels), scores, strict=True):
        seen = {kind: (kinds == kind) & ~failed for kind in kinds_in_order(kinds)}
        hit = {kind: mask & attacked for kind, mask in seen.items()}

        def rate(kind: str, after: NDArray[np.float64] = after) -> float | None:
            mask = ~labels if kind == "negative" else kinds == kind
            if threshold is None or not mask.any():
                return None
            wrong = after[mask] < threshold if kind == "same" else after[mask] >= threshold
            return float(wrong.mean())

        rows.append(
            Row(
                epsilon,
                level,
                {kind: float(after[mask].mean()) for kind, mask in seen.items() if mask.any()},
                {kind: float((after - scores[0])[mask].mean()) for kind, mask in hit.items() if mask.any()},
                metrics.eer(after, labels)[0] if both else None,
                _eer_against("other", after, kinds),
                _eer_against("fake", after, kinds),
                rate("same"),
                rate("negative"),
                rate("other"),
                rate("fake"),
            )
        )
    return threshold, rows


def kinds_in_order(kinds: Iterable[str]) -> list[str]:
    """Each kind once: ``same``, ``other`` and ``fake`` first, then the list's own words."""
    known = ("same", "other", "fake")
    found = set(map(str, kinds))
    return [kind for kind in known if kind in found] + sorted(found - set(known))


def _eer_against(kind: str, scores: NDArray[np.float64], kinds: NDArray[np.str_]) -> float | None:
    chosen = (kinds == "same") | (kinds == kind)
    same = kinds[chosen] == "same"
    return metrics.eer(scores[chosen], same)[0] if 0 < np.count_nonzero(same) < len(same) else None
