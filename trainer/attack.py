"""Attacks on an encoder: how far its similarities and its EER move when pictures are changed a little.

    result = attack_pairs("pairs.csv", method="pgd", settings=AttackSettings(encoder="best.pt", epsilons=(0.01, 0.03)))
    print(result.to_json_dict()["rows"])

The attacker owns the second photo of each pair and knows the encoder (white box; ``noise`` needs no knowledge). The first photo,
and its embedding, is what they are compared with. They want a negative to pass (impersonation) and a positive to fail (dodging).
What is changed is the chip, the aligned face as the encoder takes it: detection and alignment are not attacked. A changed chip is
a real picture: whole numbers from 0 to 255, each within ``levels = floor(127.5 epsilon)`` of the chip's (noise is unbounded), so
that no figure rests on fractions that no file can hold.

Everything is computed in fp32 unless told otherwise: a similarity in bf16 moves by itself.
What is not known here: how a gradient is computed (`attack_gradient`), how cases are drawn (`attack_picture`).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.errors import DataError, UsageError
from faceembed.engine.evaluate import FAILED_SCORE
from faceembed.engine.pairs import PairList, check_files, read_pairs
from faceembed.engine.settings import EmbedSettings
from faceembed.trainer.attack_encoder import METHODS, Method, Notify, OnProgress, Vectors, Victim, open_victim
from faceembed.trainer.attack_result import Attacked, Case, Chips, figures

GOALS = ("both", "impersonate", "dodge")
EPSILONS = (0.01, 0.03, 0.1)
_LEVELS = 127.5  # of 255, in one unit of [-1, 1]
_ROUNDING = 1e-6
_OVERSTEP = 2.5  # all steps of PGD together reach this many epsilons
_CASES = 2  # worst cases kept for each epsilon and kind


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """What is attacked, and how hard."""

    embed: EmbedSettings = dataclasses.field(default_factory=EmbedSettings)
    """Aligner and runtime; its ``encoder`` is attacked: a checkpoint's file, ``dlib-resnet``, or, by noise, any encoder."""
    arch: str | None = None
    """The architecture of another project's checkpoint."""
    epsilons: tuple[float, ...] = EPSILONS
    """Largest change of a pixel in units of [-1, 1], of which one level of 255 is 0.0078; for noise its standard deviation."""
    goal: str = "both"
    """``impersonate`` changes negatives only, ``dodge`` positives only."""
    steps: int = 10
    """Of PGD."""
    step_size: float | None = None
    """Of PGD, in units of [-1, 1]; None for 2.5 epsilon / steps. Never less than one level."""
    seed: int = 0
    """Of the noise, and of the choice of ``max_pairs``."""
    max_pairs: int | None = None
    """Attack so many pairs at most, drawn from each kind in proportion."""
    skip_failures: bool = False
    """Leave out pairs with a photo without a face; else they score -1 before and after, as in `eval`."""
    batch_size: int = 32
    """Chips in a batch of gradients."""

    def __post_init__(self) -> None:
        if not self.epsilons:
            raise UsageError("--epsilon names no number; give one such as 0.03, or several separated by commas")
        for epsilon in self.epsilons:
            if not 0 < epsilon <= 2:
                raise UsageError(f"--epsilon {epsilon:g} must be more than 0 and at most 2, the whole range of a pixel")
        if self.goal not in GOALS:
            raise UsageError(f"--goal '{self.goal}' is not one of {', '.join(GOALS)}")
        if self.steps < 1:
            raise UsageError(f"--steps {self.steps} must be at least 1")
        if self.step_size is not None and not 0 < self.step_size <= 2:
            raise UsageError(f"--step-size {self.step_size:g} must be more than 0 and at most 2")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise UsageError(f"--max-pairs {self.max_pairs} must be at least 1")
        if self.batch_size < 1:
            raise UsageError(f"batch_size {self.batch_size} must be at least 1")


def levels_of(epsilon: float) -> int:
    """How many of 255 levels a pixel may change: the largest whole number within ``epsilon``.

    Raises:
        UsageError: that is 0.
    """
    levels = math.floor(epsilon * _LEVELS + _ROUNDING)
    if levels < 1:
        raise UsageError(
            f"--epsilon {epsilon:g} is less than one of 255 levels; the least is {math.ceil(1e4 / _LEVELS) / 1e4}"
        )
    return levels


def attack_pairs(
    pairs: str | os.PathLike[str] | PairList,
    *,
    method: Method,
    settings: AttackSettings | None = None,
    root: str | os.PathLike[str] | None = None,
    notice: Notify = lambda line: None,
    progress: OnProgress = lambda progress: None,
) -> Attacked:
    """Attack every pair of a list at every epsilon.

    Args:
        pairs: a labelled list in one of the formats that `read_pairs` knows.
        method: ``noise``: Gaussian, of which the same draw is scaled by each epsilon; ``fgsm``: one step along the sign of the
            gradient; ``pgd``: several, of which the best is taken, so it does no less harm than ``fgsm``.
        settings: what is attacked and how hard.
        root: the folder that the list's photos lie in, where it does not say.
        notice, progress: called with lines for the user, and while photos are aligned.

    Raises:
        PairListError: the list cannot be read or names photos that are not there.
        DataError: no labels, or no pair with two faces.
        UsageError: an epsilon below one level, or an encoder that gradients cannot reach.
    """
    settings = settings or AttackSettings()
    if method not in METHODS:
        raise UsageError(f"attack '{method}' is not one of {', '.join(METHODS)}")
    levels = [None if method == "noise" else levels_of(epsilon) for epsilon in settings.epsilons]
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs, root=root)
    check_files(listed)
    numbers = choose_pairs(listed, settings.max_pairs, settings.seed)
    photos = dict.fromkeys(path for n in numbers for path in (listed[int(n)].path_a, listed[int(n)].path_b))
    victim = open_victim(
        settings.embed, list(photos), method=method, arch=settings.arch, notice=notice, progress=progress
    )
    failed = np.array([not _found(listed, n, victim.chips) for n in numbers], np.bool_)
    if failed.all():
        raise DataError(f"{listed.source}: no pair has a face in both photos; look at the failures: faceembed eval")
    if settings.skip_failures:
        numbers, failed = numbers[~failed], failed[~failed]
    run = _Run(listed, numbers, failed, victim, method, settings)
    scores, cases = [run.clean], []
    for number, (epsilon, level) in enumerate(zip(settings.epsilons, levels, strict=True), 1):
        notice(f"{method}, epsilon {epsilon:g} ({number} of {len(levels)}): {run.attacked.sum():,} pairs")
        after, worst = run.attack(epsilon, level)
        scores.append(after)
        cases += worst
    threshold, rows = figures(
        np.stack(scores), run.kinds, failed=failed, attacked=run.attacked, epsilons=settings.epsilons, levels=levels
    )
    details = {**victim.runtime, "seed": settings.seed}
    if method == "pgd":
        details |= {"steps": settings.steps, "step_size": settings.step_size}
    return Attacked(
        method=method,
        goal=settings.goal,
        encoder=victim.name,
        pairs=listed,
        numbers=numbers,
        failed=failed,
        failures=victim.failures,
        threshold=threshold,
        scores=np.stack(scores),
        rows=rows,
        cases=cases,
        details=details,
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
        victim: Victim,
        method: Method,
        settings: AttackSettings,
    ) -> None:
        self.pairs, self.numbers, self.failed = pairs, numbers, failed
        self.victim, self.method, self.settings = victim, method, settings
        self.kinds = pairs.kinds[numbers]
        self.labels = pairs.labels[numbers]
        self.sign = np.where(self.labels, -1, 1).astype(np.float32)  # the attacker's way
        wanted = {"both": ~failed, "impersonate": ~self.labels, "dodge": self.labels}[settings.goal]
        self.attacked: NDArray[np.bool_] = wanted & ~failed
        if not self.attacked.any():
            raise DataError(f"{pairs.source}: no pair that --goal {settings.goal} could attack")
        self.vectors: dict[str, Vectors] = {}
        for part in _parts(list(victim.chips), settings.batch_size):
            self.vectors.update(zip(part, victim.encode(np.stack([victim.chips[path] for path in part])), strict=True))
        self.clean = np.array(
            [FAILED_SCORE if miss else self._cosine(n) for n, miss in zip(numbers, failed, strict=True)], np.float64
        )

    def _cosine(self, number: int) -> float:
        pair = self.pairs[int(number)]
        return float(self.vectors[pair.path_a] @ self.vectors[pair.path_b])

    def attack(self, epsilon: float, levels: int | None) -> tuple[NDArray[np.float64], list[Case]]:
        """Scores of all pairs after the attack, and the worst cases of each kind."""
        scores, chips = self.clean.copy(), self.victim.chips
        cases: list[Case] = []
        for part in _parts(np.flatnonzero(self.attacked).tolist(), self.settings.batch_size):
            numbers = self.numbers[part]
            members = [self.pairs[int(number)] for number in numbers]
            originals = np.stack([chips[pair.path_b] for pair in members])
            references = np.stack([self.vectors[pair.path_a] for pair in members])
            changed = self._changed(originals, references, self.sign[part], numbers, epsilon, levels)
            scores[part] = (self.victim.encode(changed) * references).sum(1)
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

    def _changed(
        self,
        chips: Chips,
        references: Vectors,
        sign: NDArray[np.float32],
        numbers: NDArray[np.int64],
        epsilon: float,
        levels: int | None,
    ) -> Chips:
        network = self.victim.network
        if levels is None:
            return noisy(chips, numbers, deviation=epsilon * _LEVELS, seed=self.settings.seed)
        from faceembed.trainer.attack_gradient import fgsm, pgd

        assert network is not None  # `open_victim` gives one for both
        if self.method == "fgsm":
            return fgsm(network, chips, references, sign, levels=levels)
        step = self.settings.step_size or _OVERSTEP * epsilon / self.settings.steps
        size = max(1, round(step * _LEVELS))
        return pgd(network, chips, references, sign, levels=levels, steps=self.settings.steps, size=size)


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


def _worst(cases: list[Case]) -> list[Case]:
    ordered = sorted(cases, key=lambda case: -case.harm)
    return [case for kind in ("same", "other", "fake") for case in [c for c in ordered if c.kind == kind][:_CASES]]


def _parts(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))
