"""How good the network is, on pairs that stay the same over a whole training.

    validation = make_validation(crops, parts, config)
    metrics = validation.measure(embeddings_of(...))         # {'val_accuracy': ..., 'eer': ..., 'eer_fake:swap': ..., ...}

``eer``, ``eer_other`` and ``eer_fake`` are the engine's, at their own thresholds. ``val_accuracy`` (share of pairs that are
decided rightly) and ``error_real_deepfake`` (share of real+fake pairs that are taken for one person) are counted at the fixed
cosine `validation.threshold`, 0.2 by default: half way from strangers and deepfakes, which training puts near 0, to photos of one person that are hard.
Before a network has been trained to put strangers at 0, these two say little.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.evaluate import metrics
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.photos.photo_file import printable
from faceembed.errors import DataError
from faceembed.files import atomic_write
from faceembed.trainer.batches.dataset import Crops, Indices, Parts
from faceembed.trainer.data.sampler import DrawnPairs, PairSampler
from faceembed.trainer.recipes.crops import Validation
from faceembed.trainer.recipes.settings import TrainConfig


@dataclasses.dataclass(frozen=True)
class ValidationSet:
    """Fixed pairs and the crops in them."""

    pairs: DrawnPairs
    methods: tuple[str, ...]
    """Of the fakes among them, sorted."""
    method: NDArray[np.int64]
    """``(n,)`` place in `methods` of each real+fake pair; -1 for the others."""
    crops: Indices
    """Numbers of the crops that occur, sorted; embeddings are given in this order."""
    threshold: float
    alone: Indices = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    """Of `crops`, the numbers of photos that are in no pair: how real they look is all that is asked of them."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what `measure` gives, in order."""
        names = ["val_accuracy", "error_real_deepfake", "eer", "eer_other", "eer_fake"]
        return (*names, *(f"eer_fake:{method}" for method in self.methods))

    def similarities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cosine of each pair.

        Args:
            embeddings: (len(crops), D), raw.
        """
        values = embeddings.astype(np.float64)
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        a, b = (np.searchsorted(self.crops, side) for side in (self.pairs.a, self.pairs.b))
        return np.asarray((values[a] * values[b]).sum(1), np.float64)

    def measure(self, embeddings: NDArray[np.float32]) -> dict[str, float | None]:
        """All columns; None for a kind of which there are no pairs.

        Args:
            embeddings: (len(crops), D) float32, raw.
        """
        scores, same = self.similarities(embeddings), self.pairs.label
        accepted = scores >= self.threshold
        fake, other = self.pairs.kind == "fake", self.pairs.kind == "other"
        row: dict[str, float | None] = {
            "val_accuracy": float(np.mean(accepted == same)),
            "error_real_deepfake": float(np.mean(accepted[fake])) if fake.any() else None,
            "eer": metrics.eer(scores, same)[0],
            "eer_other": _eer_of(scores, same, other),
            "eer_fake": _eer_of(scores, same, fake),
        }
        for place, name in enumerate(self.methods):
            row[f"eer_fake:{name}"] = _eer_of(scores, same, self.method == place)
        return row

    def auc(self, embeddings: NDArray[np.float32]) -> float:
        """Area under the curve over all pairs; embeddings as for `measure`."""
        return metrics.auc(metrics.roc(self.similarities(embeddings), self.pairs.label))


def _eer_of(scores: NDArray[np.float64], same: NDArray[np.bool_], against: NDArray[np.bool_]) -> float | None:
    if not against.any():
        return None
    chosen = same | against
    return metrics.eer(scores[chosen], same[chosen])[0]


def make_validation(
    crops: Crops, parts: Parts, config: TrainConfig, *, unreadable: Collection[int] = ()
) -> ValidationSet:
    """The pairs that a config asks for.

    Args:
        crops: all there are.
        parts: what `validate` holds is not used where the config names a list.
        config: the training.
        unreadable: crops that a list may not name.

    Raises:
        DataError: pairs cannot be made, or a list has photos that are not among the crops or cannot be read.
    """
    settings = config.validation
    if settings.pairs:
        return _finished(crops, _listed(crops, settings.pairs, unreadable), parts.alone, settings)
    with_fakes = config.task == "finetune" and bool(config.data.fakes)
    ratios = (50.0, 25.0, 25.0) if with_fakes else (50.0, 0.0, 50.0)
    chosen = parts.validate
    samples = [crops.samples[index] for index in chosen.tolist()]
    sampler = PairSampler(samples, ratios=ratios, seed=f"{config.seed}:validation", what="validation")
    drawn = sampler.draw(min(settings.count, sampler.most))
    return _finished(crops, DrawnPairs(chosen[drawn.a], chosen[drawn.b], drawn.kind), parts.alone, settings)


def _finished(crops: Crops, pairs: DrawnPairs, alone: Indices, settings: Validation) -> ValidationSet:
    fake = pairs.kind == "fake"
    names = [crops.samples[b].method if is_fake else "" for b, is_fake in zip(pairs.b, fake, strict=True)]
    methods = tuple(sorted({name for name in names if name}))
    places: Mapping[str, int] = {name: place for place, name in enumerate(methods)}
    method = np.array([places.get(name, -1) for name in names], np.int64)
    occurring = np.unique(np.r_[pairs.a, pairs.b, alone])
    return ValidationSet(pairs, methods, method, occurring, settings.threshold, alone)


def _listed(crops: Crops, path: str, unreadable: Collection[int]) -> DrawnPairs:
    """The pairs of a list, whose paths are those of crops or of the photos they were cut from."""
    listed = read_pairs(path)
    if not listed.labelled:
        raise DataError(f"{path} has no labels; validation needs them")
    numbers = {os.path.abspath(photo): number for number, photo in enumerate(crops.photos)}
    numbers |= {os.path.abspath(sample.path): number for number, sample in enumerate(crops.samples)}
    numbers = {photo: number for photo, number in numbers.items() if number not in unreadable}
    missing = [photo for photo in listed.photos if os.path.abspath(photo) not in numbers]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of {len(listed.photos):,} photos are in none of the crop sets or cannot be read, the first is "
            f'{printable(missing[0])}; align them too, or let pairs be drawn (validation.pairs = "")'
        )
    sides = [
        [numbers[os.path.abspath(p)] for p in side]
        for side in zip(*((p.path_a, p.path_b) for p in listed), strict=True)
    ]
    a, b = (np.array(side, np.int64) for side in sides)
    swap = crops.fake[a] & ~crops.fake[b]  # the fake is the second one
    return DrawnPairs(np.where(swap, b, a), np.where(swap, a, b), listed.kinds)


def check_leaks(crops: Crops, train: Indices, validation: ValidationSet) -> None:
    """See that nobody who validates is trained on.

    Raises:
        DataError: somebody is; the message counts them and names one.
    """

    def people(indices: Indices) -> set[str]:
        chosen = [crops.samples[index] for index in indices]
        return {sample.person for sample in chosen} | {sample.other for sample in chosen if sample.other}

    if both := sorted(people(train) & people(validation.crops)):
        raise DataError(
            f"{len(both)} people are in the validation pairs and trained on, the first is '{printable(both[0])}': such figures "
            "would be worthless; give the split that the pairs were made with (data.split)"
        )


def write_pairs(path: str | os.PathLike[str], crops: Crops, pairs: DrawnPairs) -> None:
    """Write pairs as a list of crops that `faceembed.engine.evaluate.pair_formats.read_pairs` reads."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path_a", "path_b", "label", "kind", "method"))
        for a, b, kind in zip(pairs.a, pairs.b, pairs.kind, strict=True):
            first, second = crops.samples[a], crops.samples[b]
            writer.writerow((first.path, second.path, int(kind == "same"), kind, second.method))
