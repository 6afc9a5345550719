"""What a pair list holds that says less than it seems to: repeated pairs, a photo beside itself, one pair with both labels; and whose
photos its pairs share."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import numpy.typing as npt

from faceembed.engine.evaluate.pairs import PairList

_LEAST_PEOPLE = 10  # fewer folders are no people to draw from


@dataclasses.dataclass(frozen=True)
class Flaws:
    """Counts of pairs."""

    repeated: int
    """Pairs that are in the list already, in either order and with the same label; intervals count them once."""
    with_itself: int
    """Pairs of a photo with itself."""
    contradictory: int
    """Pairs that are in the list with both labels; each such couple of photos once."""
    once: npt.NDArray[np.bool_]
    """(n,) False for those that are repeated."""

    def texts(self) -> list[str]:
        """A line for each flaw that there is."""
        found = (
            (self.repeated, "repeat another pair of the list; intervals count them once"),
            (self.with_itself, "of a photo with itself"),
            (self.contradictory, "with both labels"),
        )
        return [f"{count:,} {'pair' if count == 1 else 'pairs'} {what}" for count, what in found if count]


def flaws_of(pairs: PairList) -> Flaws:
    """Count them."""
    seen: dict[tuple[str, str], set[bool | None]] = {}
    once = np.ones(len(pairs), np.bool_)
    itself = 0
    for number, pair in enumerate(pairs):
        a, b = sorted(map(os.path.normpath, (pair.path_a, pair.path_b)))
        itself += a == b
        labels = seen.setdefault((a, b), set())
        once[number] = pair.label not in labels
        labels.add(pair.label)
    return Flaws(int((~once).sum()), itself, sum(len(labels) > 1 for labels in seen.values()), once)


def people_of(pairs: PairList) -> npt.NDArray[np.int64] | None:
    """Whose photos each pair shows, as the folders that they lie in tell.

    Returns:
        (n, 2) numbers of people; None where folders are not people: where a pair of one person lies in two folders, a pair of two
        people in one, or there are fewer than 10 folders.
    """
    folders = [(os.path.dirname(pair.path_a), os.path.dirname(pair.path_b)) for pair in pairs]
    for pair, (a, b) in zip(pairs, folders, strict=True):
        if pair.label is None or (pair.label and a != b) or (pair.kind == "other" and a == b):
            return None
    names = {name: number for number, name in enumerate(dict.fromkeys(name for both in folders for name in both))}
    if len(names) < _LEAST_PEOPLE or not any(pair.label for pair in pairs):
        return None
    return np.array([(names[a], names[b]) for a, b in folders], np.int64)
