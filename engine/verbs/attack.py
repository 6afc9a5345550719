"""Attacks on an encoder: how far its similarities and its EER move when pictures are changed a little.

    result = attack_pairs("pairs.csv", Noise(), settings=AttackSettings(epsilons=(0.05, 0.1)))
    print(result.to_json_dict()["rows"])
    write_attack_report("noise.html", result)        # report.attack

The attacker owns the second photo of each pair. The first photo, and its embedding, is what they are compared with. They want a
negative to pass (impersonation) and a positive to fail (dodging). What is changed is the chip, the aligned face as the encoder
takes it: detection and alignment are not attacked. A changed chip is a real picture: whole numbers from 0 to 255, so that no
figure rests on fractions that no file can hold.

Noise needs no gradient, so it measures any encoder on any runtime. What is not known here: gradients, and attackers who know
the network (`faceembed.trainer.gradients.attack`).
"""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate.figures import FAILED_SCORE
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.evaluate.pairs import PairList, check_files
from faceembed.engine.explain.attack_result import Attacked, Case, figures
from faceembed.engine.explain.subject import Subject, open_subject
from faceembed.engine.pipeline.encodes import Chips, Vectors
from faceembed.engine.pipeline.progress import Notify, OnProgress
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import DataError, UsageError

GOALS = ("both", "impersonate", "dodge")
EPSILONS = (0.01, 0.03, 0.1)
LEVELS = 127.5  # of 255, in one unit of [-1, 1]
_CASES = 2  # worst cases kept for each epsilon and kind


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """What is attacked, and how hard."""

    embed: EmbedSettings = dataclasses.field(default_factory=EmbedSettings)
    """Aligner and runtime; its ``encoder`` is attacked."""
    epsilons: tuple[float, ...] = EPSILONS
    """Largest change of a pixel in units of [-1, 1], of which one level of 255 is 0.0078; for noise its standard deviation."""
    goal: str = "both"
    """``impersonate`` changes negatives only, ``dodge`` positives only."""
    seed: int = 0
    """Of the noise, and of the choice of ``max_pairs``."""
    max_pairs: int | None = None
    """Attack so many pairs at most, drawn from each kind in proportion."""
    skip_failures: bool = False
    """Leave out pairs with a photo without a face; else they score -1 before and after, as in `eval`."""
    batch_size: int = 32
    """Chips changed at a time."""

    def __post_init__(self) -> None:
        if not self.epsilons:
            raise UsageError("--epsilon names no number; give one such as 0.03, or several separated by commas")
        for epsilon in self.epsilons:
            if not 0 < epsilon <= 2:
                raise UsageError(f"--epsilon {epsilon:g} must be more than 0 and at most 2, the whole range of a pixel")
        if self.goal not in GOALS:
            raise UsageError(f"--goal '{self.goal}' is not one of {', '.join(GOALS)}")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise UsageError(f"--max-pairs {self.max_pairs} must be at least 1")
        if self.batch_size < 1:
            raise UsageError(f"batch_size {self.batch_size} must be at least 1")


@dataclasses.dataclass(frozen=True)
class Turn:
    """One batch of an attack: N chips, and what the attacker wants of each."""

    chips: Chips
    """(N, H, W, 3)."""
    references: Vectors
    """(N, D): what each chip is compared with."""
    sign: NDArray[np.float32]
    """(N,) 1 to raise the similarity, -1 to lower it."""
    numbers: NDArray[np.int64]
    """(N,) the pairs' numbers in the list."""
    epsilon: float
    levels: int | None
    """From `Attack.levels`."""
    seed: int


class Attack(abc.ABC):
    """A way to change pictures."""

    method: str

    @abc.abstractmethod
    def change(self, turn: Turn) -> Chips:
        """The changed chips, uint8 (N, H, W, 3)."""

    def open(self, settings: EmbedSettings, photos: Sequence[str], *, notice: Notify, progress: OnProgress) -> Subject:
        """Load the encoder and cut the faces; called once, before `change`. Errors are those of `open_subject`."""
        return open_subject(settings, photos, notice=notice, progress=progress)

    def levels(self, epsilon: float) -> int | None:
        """How many of 255 levels a pixel may change; None where there is no bound.

        Raises:
            UsageError: ``epsilon`` is too small.
        """
        return None

    def details(self) -> dict[str, Any]:
        """What else the result should say, as plain types."""
        return {}


class Noise(Attack):
    """Gaussian noise, whose standard deviation is epsilon; the same draw is scaled by each epsilon."""

    method = "noise"

    def change(self, turn: Turn) -> Chips:
        return noisy(turn.chips, turn.numbers, deviation=turn.epsilon * LEVELS, seed=turn.seed)


def attack_pairs(
    pairs: str | os.PathLike[str] | PairList,
    attack: Attack,
    *,
    settings: AttackSettings | None = None,
    root: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Attacked:
    """Attack every pair of a list at every epsilon.

    Args:
        pairs: a labelled list in one of the formats that `read_pairs` knows.
        attack: `Noise`, or one of `faceembed.trainer.gradients.attack`.
        settings: what is attacked and how hard.
        root: the folder that the list's photos lie in, where it does not say.
        notice, progress: called with lines for the user, and while photos are aligned.

    Raises:
        PairListError: the list cannot be read or names photos that are not there.
        DataError: no labels, or no pair with two faces.
        UsageError: an epsilon below one level, or an attack that needs PyTorch, which is not installed.
    """
    settings = settings or AttackSettings()
    levels = [attack.levels(epsilon) for epsilon in settings.epsilons]
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    check_files(listed)
    numbers = choose_pairs(listed, settings.max_pairs, settings.seed)
    photos = dict.fromkeys(path for n in numbers for path in (listed[int(n)].path_a, listed[int(n)].path_b))
    subject = attack.open(settings.embed, list(photos), notice=notice, progress=progress)
    failed = np.array([not _found(listed, n, subject.chips) for n in numbers], np.bool_)
    if failed.all():
        raise DataError(f"{listed.source}: no pair has a face in both photos; look at the failures: faceembed eval")
    if settings.skip_failures:
        numbers, failed = numbers[~failed], failed[~failed]
    run = _Run(listed, numbers, failed, subject, attack, settings)
    scores, cases = [run.clean], []
    for number, (epsilon, level) in enumerate(zip(settings.epsilons, levels, strict=True), 1):
        notice(f"{attack.method}, epsilon {epsilon:g} ({number} of {len(levels)}): {run.attacked.sum():,} pairs")
        after, worst = run.attack(epsilon, level)
        scores.append(after)
        cases += worst
    threshold, rows = figures(
        np.stack(scores), run.kinds, failed=failed, attacked=run.attacked, epsilons=settings.epsilons, levels=levels
    )
    return Attacked(
        method=attack.method,
        goal=settings.goal,
        encoder=subject.spec.name,
        pairs=listed,
        numbers=numbers,
        failed=failed,
        failures=subject.failures,
        threshold=threshold,
        scores=np.stack(scores),
        rows=rows,
        cases=cases,
        several=subject.several,
        details={**subject.runtime, "seed": settings.seed, **attack.details()},
    )


def choose_pairs(pairs: PairList, most: int | None, seed: int) -> NDArray[np.int64]:
    """The numbers of the pairs to judge, in order: all, or ``most`` drawn from each kind in proportion, at least one each.

    Raises:
        DataError: the list has no labels.
    """
    count = len(pairs.labels)  # raises where there are none
    if most is None or most >= count:
        return np.arange(count)
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(pairs.kinds == kind) for kind in np.unique(pairs.kinds)]
    ends = np.rint(np.cumsum([0.0, *(most * len(kind) / count for kind in kinds)])).astype(int)
    drawn = [rng.permutation(kind)[: max(1, n)] for kind, n in zip(kinds, np.diff(ends), strict=True)]
    return np.sort(np.concatenate(drawn))


def noisy(chips: Chips, numbers: Sequence[int] | NDArray[np.int64], *, deviation: float, seed: int) -> Chips:
    """Chips with Gaussian noise, rounded and cut to 0..255.

    Args:
        chips: uint8 (N, H, W, 3).
        numbers: of the pairs: noise depends on ``seed`` and the pair's number alone, not on the batch.
        deviation: standard deviation in levels of 255.
        seed: of the whole run.
    """
    draws = np.stack([np.random.default_rng((seed, int(n))).standard_normal(chips.shape[1:]) for n in numbers])
    return np.clip(np.rint(chips + deviation * draws), 0, 255).astype(np.uint8)


def _found(pairs: PairList, number: int, chips: dict[str, Chips]) -> bool:
    pair = pairs[int(number)]
    return pair.path_a in chips and pair.path_b in chips


class _Run:
    """The pairs that are judged, their unchanged embeddings, and which of them the goal attacks."""

    def __init__(
        self,
        pairs: PairList,
        numbers: NDArray[np.int64],
        failed: NDArray[np.bool_],
        subject: Subject,
        attack: Attack,
        settings: AttackSettings,
    ) -> None:
        self.pairs, self.numbers, self.failed = pairs, numbers, failed
        self.subject, self.method, self.settings = subject, attack, settings
        self.kinds = pairs.kinds[numbers]
        self.labels = pairs.labels[numbers]
        self.sign = np.where(self.labels, -1, 1).astype(np.float32)  # the attacker's way
        wanted = {"both": ~failed, "impersonate": ~self.labels, "dodge": self.labels}[settings.goal]
        self.attacked: NDArray[np.bool_] = wanted & ~failed
        if not self.attacked.any():
            raise DataError(f"{pairs.source}: no pair that --goal {settings.goal} could attack")
        self.vectors: dict[str, Vectors] = {}
        for part in _parts(list(subject.chips), settings.batch_size):
            self.vectors.update(zip(part, subject.vectors(subject.faces(part)), strict=True))
        self.clean = np.array(
            [FAILED_SCORE if miss else self._cosine(n) for n, miss in zip(numbers, failed, strict=True)], np.float64
        )

    def _cosine(self, number: int) -> float:
        pair = self.pairs[int(number)]
        return float(self.vectors[pair.path_a] @ self.vectors[pair.path_b])

    def attack(self, epsilon: float, levels: int | None) -> tuple[NDArray[np.float64], list[Case]]:
        """Scores of all pairs after the attack, and the worst cases of each kind."""
        scores, chips = self.clean.copy(), self.subject.chips
        cases: list[Case] = []
        for part in _parts(np.flatnonzero(self.attacked).tolist(), self.settings.batch_size):
            numbers = self.numbers[part]
            members = [self.pairs[int(number)] for number in numbers]
            originals = self.subject.faces([pair.path_b for pair in members])
            references = np.stack([self.vectors[pair.path_a] for pair in members])
            changed = self.method.change(
                Turn(originals, references, self.sign[part], numbers, epsilon, levels, self.settings.seed)
            )
            scores[part] = (self.subject.vectors(changed) * references).sum(1)
            cases += [
                Case(
                    epsilon=epsilon,
                    pair=int(self.numbers[i]),
                    kind=str(self.kinds[i]),
                    before=float(self.clean[i]),
                    after=float(scores[i]),
                    reference=chips[pair.path_a],
                    original=chips[pair.path_b],
                    changed=picture.copy(),
                )
                for i, pair, picture in zip(part, members, changed, strict=True)
            ]
            cases = _worst(cases)
        return scores, cases


def _worst(cases: list[Case]) -> list[Case]:
    ordered = sorted(cases, key=lambda case: -case.harm)
    return [case for kind in ("same", "other", "fake") for case in [c for c in ordered if c.kind == kind][:_CASES]]


def _parts(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))
