"""Pairs of crops drawn on the fly: real+real of one person, real+fake of one person, real+other person.

    drawer = PairDrawer(crops, train, ratios=(50, 25, 25))
    pairs = drawer.draw(10_000, rng)                  # pairs.a, pairs.b, pairs.same, pairs.kind

Every real photo is a first photo as often as every other, every fake of a method as often as every other of it, and methods
are equally frequent. A pair list of files is `data/pairs.py`; here crops are numbers and an epoch's pairs cost milliseconds.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.errors import DataError
from faceembed.trainer.dataset import Crops

Indices = NDArray[np.int64]
KINDS = ("same", "fake", "other")


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of numbers of crops."""

    a: Indices
    """``(n,)``, always real photos."""
    b: Indices
    """``(n,)``."""
    kind: NDArray[np.int64]
    """``(n,)`` places in `KINDS`."""

    def __len__(self) -> int:
        return len(self.a)

    @property
    def same(self) -> NDArray[np.bool_]:
        """``(n,)``: whether both are real photos of one person."""
        return self.kind == KINDS.index("same")

    def take(self, places: Indices) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.a[places], self.b[places], self.kind[places])


class PairDrawer:
    """Draws pairs among some crops.

    Args:
        crops: all there are.
        chosen: numbers of those to pair.
        ratios: shares of the kinds, in the order of `KINDS`.
        what: what the pairs are for, for messages.

    Raises:
        DataError: a kind that is asked for cannot be made.
    """

    def __init__(self, crops: Crops, chosen: Indices, *, ratios: tuple[float, ...], what: str = "training") -> None:
        self._person = crops.person
        self._shares = np.array(ratios) / sum(ratios)
        fake = crops.fake[chosen]
        real, fakes = chosen[~fake], chosen[fake]
        order = real[np.argsort(self._person[real], kind="stable")]
        self._real = order
        # Where each person's real photos begin in `_real`, and how many there are: (people + 1,), (people,)
        self._counts = np.bincount(self._person[order], minlength=len(crops.persons))
        self._starts = np.r_[0, np.cumsum(self._counts)]
        self._anchors = order[self._counts[self._person[order]] > 1]
        paired = fakes[self._counts[self._person[fakes]] > 0]
        names = np.array([crops.samples[index].method for index in paired], dtype=str)
        self._fakes = [paired[names == name] for name in np.unique(names)]
        self._check(what, real=len(real), fakes=len(fakes))

    def _check(self, what: str, *, real: int, fakes: int) -> None:
        people = int(np.count_nonzero(self._counts))
        if people < 2 and self._shares[2]:
            raise DataError(
                f"{what}: pairs of different people need at least two people with real photos, there are {people}"
            )
        if not len(self._anchors):
            raise DataError(
                f"{what}: each of the {people} people has one real photo only ({real} photos), so there is no pair of one "
                "person; give people with two photos or more"
            )
        if self._shares[1] and not self._fakes:
            why = (
                f"none of the {fakes:,} fakes shows one of these people"
                if fakes
                else "there are no fakes of these people"
            )
            raise DataError(f"{what}: {why}; give data.fakes, or leave such pairs out with data.ratios = [50, 0, 50]")

    def draw(self, count: int, rng: np.random.Generator) -> Pairs:
        """Draw pairs, in random order.

        Args:
            count: how many.
            rng: decides.
        """
        edges = np.rint(np.cumsum(self._shares) * count).astype(np.int64)
        counts = np.diff(np.r_[0, edges])
        parts = [self._same(int(counts[0]), rng), self._fake(int(counts[1]), rng), self._other(int(counts[2]), rng)]
        a = np.concatenate([part[0] for part in parts])
        b = np.concatenate([part[1] for part in parts])
        return Pairs(a, b, np.repeat(np.arange(3), counts)).take(rng.permutation(len(a)))

    def draw_distinct(self, count: int, rng: np.random.Generator) -> Pairs:
        """The same without pairs that occur twice, either way round: fewer than ``count`` where there are not as many."""
        pairs = self.draw(2 * count, rng)
        key = np.stack([np.minimum(pairs.a, pairs.b), np.maximum(pairs.a, pairs.b)])
        _, first = np.unique(key, axis=1, return_index=True)
        pairs = pairs.take(np.sort(first))
        wanted = np.rint(self._shares * count)
        rank = np.zeros(len(pairs), np.int64)
        for kind in range(len(KINDS)):
            of_kind = pairs.kind == kind
            rank[of_kind] = np.arange(np.count_nonzero(of_kind))
        return pairs.take(np.flatnonzero(rank < wanted[pairs.kind]))

    def _same(self, count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        a = _cycled(self._anchors, count, rng)
        person = self._person[a]
        # One of the person's other photos: the place of `a` among them plus 1 to n - 1, round.
        own = self._place[a]
        step = rng.integers(1, self._counts[person])
        return a, self._real[self._starts[person] + (own + step) % self._counts[person]]

    def _fake(self, count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        if not count:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        edges = np.rint(np.arange(len(self._fakes) + 1) * count / len(self._fakes)).astype(np.int64)
        b = np.concatenate([_cycled(fakes, int(n), rng) for fakes, n in zip(self._fakes, np.diff(edges), strict=True)])
        person = self._person[b]
        return self._real[self._starts[person] + rng.integers(0, self._counts[person])], b

    def _other(self, count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        a = _cycled(self._real, count, rng)
        person = self._person[a]
        # Any real photo that is not among the person's own: a step past the end of theirs, round.
        step = rng.integers(0, len(self._real) - self._counts[person]) if count else np.empty(0, np.int64)
        return a, self._real[(self._starts[person + 1] + step) % len(self._real)]

    @functools.cached_property
    def _place(self) -> Indices:
        """Place of each crop among the real photos of its person, by number of crop."""
        place = np.zeros(len(self._person), np.int64)
        place[self._real] = np.arange(len(self._real)) - self._starts[self._person[self._real]]
        return place


def _cycled(items: Indices, count: int, rng: np.random.Generator) -> Indices:
    """``count`` of the items: all in random order, and again, so that none comes twice more than another."""
    rounds = -(-count // max(len(items), 1))
    if not rounds:
        return np.empty(0, np.int64)
    return np.concatenate([rng.permutation(items) for _ in range(rounds)])[:count]
