"""Which pairs of samples: real+real of one person, real+fake of that person, real+real of two people, by their numbers.

    sampler = PairSampler(samples, ratios=(50, 25, 25), seed=7)
    drawn = sampler.draw(10_000, epoch=3)          # drawn.a, drawn.b, drawn.label, drawn.kind

No pair comes twice in a draw. People take turns, so that nobody counts more for having more photos, and so do the methods of
the fakes; whoever has no pairs left drops out. (Where fakes take turns instead, every fake counts as much as any other.) A draw
depends on the samples, the seed and the epoch alone: not on the order of the samples, nor on the machine.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.pairs import Kind
from faceembed.errors import DataError, UsageError
from faceembed.trainer.data.samples import Sample

T = TypeVar("T")
Number = tuple[int, int]
KINDS: tuple[Kind, ...] = ("same", "fake", "other")
RATIOS = (50.0, 25.0, 25.0)
_TRIES = 64  # draws of a pair that is new, before its person is taken to have none left


@dataclasses.dataclass(frozen=True)
class DrawnPairs:
    """N pairs, as numbers of samples; the first is always real."""

    a: NDArray[np.int64]
    """(N,)."""
    b: NDArray[np.int64]
    """(N,)."""
    kind: NDArray[np.str_]
    """(N,) ``same``, ``fake`` or ``other``."""

    def __len__(self) -> int:
        return len(self.a)

    @property
    def label(self) -> NDArray[np.bool_]:
        """(N,) whether both show the same real person."""
        result: NDArray[np.bool_] = self.kind == "same"
        return result


class PairSampler:
    """Draws pairs of samples.

    Args:
        samples: real photos and fakes.
        ratios: shares of `KINDS`, of any sum.
        seed: another seed draws other pairs.
        turns: of real+fake pairs: ``people``, or ``fakes`` where many people have one photo each, beside which those with more would
            hardly be seen.
        what: what the pairs are for, for messages.

    Raises:
        UsageError: ratios that are no shares.
        DataError: a kind with a share of which there is no pair at all.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        ratios: Sequence[float] = RATIOS,
        seed: int | str = 0,
        turns: str = "people",
        what: str = "training",
    ) -> None:
        self._shares = _shares(ratios)
        self._seed = seed
        self._turns = turns
        self._what = what
        self._real: dict[str, list[int]] = collections.defaultdict(list)
        self._fakes: dict[str, dict[str, list[int]]] = {}
        order = sorted(range(len(samples)), key=lambda index: _order(samples[index]))
        for index in order:
            if not samples[index].fake:
                self._real[samples[index].person].append(index)
        for index in order:
            sample = samples[index]
            if sample.fake and sample.person in self._real:
                self._fakes.setdefault(sample.method, {}).setdefault(sample.person, []).append(index)
        self._methods = dict(sorted(self._fakes.items()))
        for kind, share in self._shares.items():
            if share and not self.available[kind]:
                raise DataError(f"{what}: there are no pairs of kind {kind}: {self._why_none(kind)}")

    @functools.cached_property
    def available(self) -> Mapping[Kind, int]:
        """How many different pairs of each kind there are."""
        counts = [len(photos) for photos in self._real.values()]
        total = sum(counts)
        return {
            "same": sum(n * (n - 1) // 2 for n in counts),
            "fake": sum(self.fakes_available.values()),
            "other": (total * total - sum(n * n for n in counts)) // 2,
        }

    @functools.cached_property
    def fakes_available(self) -> Mapping[str, int]:
        """How many different pairs of a real photo and a fake there are, by method."""
        return {
            method: sum(len(fakes) * len(self._real[person]) for person, fakes in people.items())
            for method, people in self._methods.items()
        }

    @functools.cached_property
    def most(self) -> int:
        """The largest draw that meets the ratios."""
        return min(math.floor(self.available[kind] / share + 1e-9) for kind, share in self._shares.items() if share)

    def draw(self, count: int, *, epoch: int = 0) -> DrawnPairs:
        """Draw pairs, in random order.

        Args:
            count: so many; each kind has its share, to the nearest whole number.
            epoch: another epoch draws other pairs.

        Raises:
            DataError: there are too few of a kind.
        """
        wanted = apportion(count, self._shares)
        for kind, number in wanted.items():
            if number > self.available[kind]:
                raise DataError(
                    f"{self._what}: {number:,} pairs of kind {kind} are wanted and {self.available[kind]:,} exist; at these "
                    f"ratios {self.most:,} pairs altogether are possible"
                )
        rng = _rng(self._seed, epoch)
        pairs = [
            *((a, b, "same") for a, b in self._draw_same(wanted["same"], rng)),
            *((a, b, "fake") for a, b in self._draw_fake(wanted["fake"], rng)),
            *((a, b, "other") for a, b in self._draw_other(wanted["other"], rng)),
        ]
        pairs = shuffled(pairs, rng)
        return DrawnPairs(
            np.array([a for a, _, _ in pairs], np.int64),
            np.array([b for _, b, _ in pairs], np.int64),
            np.array([kind for _, _, kind in pairs], "U5"),
        )

    def _why_none(self, kind: Kind) -> str:
        if not self._real:
            return "there are no real photos"
        if kind == "same":
            return "nobody has two real photos"
        if kind == "other":
            return "all real photos show one person"
        return "there is no fake of anybody with a real photo; make some with: faceembed data fakes"

    def _draw_same(self, count: int, rng: random.Random) -> list[Number]:
        people = shuffled([photos for photos in self._real.values() if len(photos) > 1], rng)
        return _take_turns([_same_pairs(shuffled(photos, rng)) for photos in people], count)

    def _draw_fake(self, count: int, rng: random.Random) -> list[Number]:
        methods = shuffled(list(self._methods.values()), rng)
        return _take_turns([self._fake_pairs(people, rng) for people in methods], count)

    def _fake_pairs(self, people: Mapping[str, Sequence[int]], rng: random.Random) -> Iterator[Number]:
        """All pairs of a method, people taking turns, or its fakes."""
        if self._turns == "fakes":
            fakes = shuffled([(person, fake) for person, those in people.items() for fake in those], rng)
            return iter(_turns([_crossed(shuffled(self._real[person], rng), [fake]) for person, fake in fakes]))
        order = shuffled(list(people), rng)
        each = [_crossed(shuffled(self._real[p], rng), shuffled(people[p], rng)) for p in order]
        return iter(_turns(each))

    def _draw_other(self, count: int, rng: random.Random) -> list[Number]:
        people = shuffled(list(self._real), rng)
        photos = [shuffled(self._real[person], rng) for person in people]
        seen: set[Number] = set()
        drawn: list[Number] = []
        if 4 * count <= self.available["other"]:  # else drawing would meet the same again and again
            drawn = _take_turns([_other_pairs(photos, place, seen, rng) for place in range(len(photos))], count)
        if len(drawn) < count:
            pairs = ((a, b) for one, two in itertools.combinations(photos, 2) for a, b in itertools.product(one, two))
            drawn += shuffled([pair for pair in pairs if _unordered(pair) not in seen], rng)[: count - len(drawn)]
        return drawn


def apportion(count: int, shares: Mapping[T, float]) -> dict[T, int]:
    """Divide a whole number by shares that sum to 1, by largest remainders."""
    exact = {key: count * share for key, share in shares.items()}
    result = {key: math.floor(value + 1e-9) for key, value in exact.items()}
    order = sorted(exact, key=lambda key: result[key] - exact[key])
    for key in order[: count - sum(result.values())]:
        result[key] += 1
    return result


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """In random order. `Random.random` is what is promised to stay as Python changes; `Random.shuffle` is not."""
    return [items[index] for _, index in sorted((rng.random(), index) for index in range(len(items)))]


def _shares(ratios: Sequence[float]) -> dict[Kind, float]:
    shown = ",".join(f"{ratio:g}" for ratio in ratios)
    if len(ratios) != 3 or any(ratio < 0 or not math.isfinite(ratio) for ratio in ratios) or sum(ratios) <= 0:
        raise UsageError(f"ratios {shown}: expected three shares, of same, fake and other, as in 50,25,25")
    return {kind: ratio / sum(ratios) for kind, ratio in zip(KINDS, ratios, strict=True)}


def _rng(seed: int | str, epoch: int) -> random.Random:
    return random.Random(int.from_bytes(hashlib.sha256(f"pairs:{seed}:{epoch}".encode()).digest(), "big"))


def _order(sample: Sample) -> tuple[str, bool, str, str, str]:
    return (sample.person, sample.fake, sample.method, sample.other, sample.path)


def _turns(sources: Sequence[Iterator[T]]) -> Iterator[T]:
    """One of each source in turn; a source that has ended drops out."""
    left = list(sources)
    while left:
        ended = []
        for place, source in enumerate(left):
            try:
                yield next(source)
            except StopIteration:
                ended.append(place)
        for place in reversed(ended):
            del left[place]


def _take_turns(sources: Sequence[Iterator[T]], count: int) -> list[T]:
    return list(itertools.islice(_turns(sources), count))


def _same_pairs(photos: Sequence[int]) -> Iterator[Number]:
    """Every pair of one person's photos once, no photo much more often than another at any time.

    Pairs are those at a distance on a circle, one distance after the other; of each distance first those that share no photo.
    """
    count = len(photos)
    for distance in range(1, count // 2 + 1):
        starts = range(count) if 2 * distance != count else range(distance)
        block = sorted(starts, key=lambda start: (start // distance) % 2)
        for start in block:
            yield photos[start], photos[(start + distance) % count]


def _crossed(real: Sequence[int], fakes: Sequence[int]) -> Iterator[Number]:
    """Every fake with every real photo once: first each fake with one, each time another."""
    for turn in range(len(real)):
        for place, fake in enumerate(fakes):
            yield real[(turn + place) % len(real)], fake


def _other_pairs(
    photos: Sequence[Sequence[int]], place: int, seen: set[Number], rng: random.Random
) -> Iterator[Number]:
    """Pairs of one person's photos, in turn, with one of another person each, until new ones are hard to find."""
    for turn in itertools.count():
        a = photos[place][turn % len(photos[place])]
        for _ in range(_TRIES):
            other = int(rng.random() * (len(photos) - 1))
            theirs = photos[other + (other >= place)]
            b = theirs[int(rng.random() * len(theirs))]
            if _unordered((a, b)) not in seen:
                seen.add(_unordered((a, b)))
                yield a, b
                break
        else:
            return


def _unordered(pair: Number) -> Number:
    return min(pair), max(pair)
