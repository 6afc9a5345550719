"""What an epoch consists of: the two kinds of training, which differ in what a batch holds.

`ClassTask` gives crops with the number of their person, `PairTask` crops in pairs. Both draw an epoch from (seed, epoch) and
every change of a crop from (seed, epoch, place), so an epoch, or the rest of one, can be made again anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faceembed.errors import DataError, UsageError
from faceembed.trainer.batches.augment import augment, generator
from faceembed.trainer.batches.dataset import CropCache, Crops, Indices
from faceembed.trainer.batches.everyday import everyday
from faceembed.trainer.batches.making import ALL_METHODS, MADE_METHODS, FakeMaker
from faceembed.trainer.batches.sampling import batches, class_order
from faceembed.trainer.batches.targets import Targets
from faceembed.trainer.data.sampler import PairSampler
from faceembed.trainer.recipes.settings import TrainConfig

Arrays = dict[str, NDArray[np.generic]]
_ORDER, _CHANGES, _MADE, _EVERYDAY = 1, 2, 3, 4
"""Places of the seed, so that what is drawn for one purpose does not repeat in another."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Which crops a batch holds; picklable, cheap, and all that `Task.load` needs."""

    epoch: int
    places: Indices
    """Of its items in the epoch, over all processes."""
    crops: Indices
    """Numbers of the crops; for pairs all first ones, then all second ones."""
    same: NDArray[np.bool_] | None = None


class Task(Protocol):
    """A kind of training."""

    classes: int
    """People to tell apart."""
    crops: Indices
    """Numbers of the crops that are trained on."""
    unit: str
    """What a batch counts: ``crops`` or ``pairs``."""

    def plan(self, epoch: int, *, processes: int = 1, process: int = 0) -> Sequence[Batch]:
        """The batches of one process in an epoch."""
        ...

    def load(self, batch: Batch) -> Arrays:
        """The arguments of `Learner.forward`; called in many threads."""
        ...


class _Loading:
    def __init__(self, cache: CropCache, config: TrainConfig) -> None:
        self._cache = cache
        self._config = config

    def _chips(self, batch: Batch, instead: Mapping[int, NDArray[np.uint8]] | None = None) -> NDArray[np.uint8]:
        """uint8 (N, H, W, 3): the crops of a batch, or what is given for some of its slots, changed."""
        crops = self._cache.crops
        instead, settings = instead or {}, self._config.augment
        points = np.asarray(crops.template, np.float64)
        chips = np.empty((len(batch.crops), crops.height, crops.width, 3), np.uint8)
        for slot, index in enumerate(batch.crops.tolist()):
            side, item = divmod(slot, len(batch.places))
            rng = generator(self._config.seed, _CHANGES, batch.epoch, int(batch.places[item]), side)
            crop = instead[slot] if slot in instead else self._cache[index]
            if settings.everyday_share:
                alike = generator(self._config.seed, _EVERYDAY, batch.epoch, int(batch.places[item]))
                if alike.random() < settings.everyday_share:
                    crop = everyday(crop, points, alike, cover=settings.cover_share)
            chips[slot] = augment(crop, settings, rng)
        return chips


class ClassTask(_Loading):
    """Pre-training: whose face is it?

    Args:
        cache: of the crops.
        train: numbers of the crops to train on.
        config: the training.
        targets: what teachers say of all crops; with them, crops without a target are left out, and those of people with too few
            photos are learned from by their target alone.

    Raises:
        DataError: fewer than two people, or nobody with two photos.
    """

    unit = "crops"

    def __init__(
        self, cache: CropCache, train: Indices, config: TrainConfig, *, targets: Targets | None = None
    ) -> None:
        super().__init__(cache, config)
        self._targets = None if targets is None else targets.vectors
        if self._targets is not None:
            train = train[np.isfinite(self._targets[train]).all(axis=1)]
        self.crops, labels = _of_enough_photos(cache.crops, train, config.data.min_photos)
        self.classes = int(labels.max()) + 1
        self._labels = labels  # (n,) person of each, 0 to classes - 1; -1: nobody's
        if self._targets is not None:
            others = np.setdiff1d(train[~cache.crops.fake[train]], self.crops)
            self.crops = np.r_[self.crops, others]
            self._labels = np.r_[labels, np.full(len(others), -1, np.int64)]

    def plan(self, epoch: int, *, processes: int = 1, process: int = 0) -> Sequence[Batch]:
        """See `Task.plan`."""
        order = class_order(self._labels, self._config.data, generator(self._config.seed, _ORDER, epoch))
        cut = batches(len(order), size=self._config.loop.batch_size, processes=processes, process=process)
        return [Batch(epoch, places, order[places]) for places in cut]

    def load(self, batch: Batch) -> Arrays:
        """``chips`` and ``labels``; with teachers ``targets`` too."""
        # Here a batch's numbers are places among the training crops, of which the label is known.
        chosen = dataclasses.replace(batch, crops=self.crops[batch.crops])
        arrays: Arrays = {"chips": self._chips(chosen), "labels": self._labels[batch.crops]}
        return arrays if self._targets is None else arrays | {"targets": self._targets[chosen.crops]}


def _of_enough_photos(crops: Crops, train: Indices, least: int) -> tuple[Indices, Indices]:
    """The real crops of people with enough of them, and their labels from 0."""
    real = train[~crops.fake[train]]
    people, label, counts = np.unique(crops.person[real], return_inverse=True, return_counts=True)
    if len(people) < 2:
        raise DataError(f"training: {len(people)} person to train on; a class head needs at least two")
    if counts.max() < 2:
        raise DataError(
            f"training: each of the {len(people)} people has one photo only, which says nothing of what stays the same in a "
            "face; give people with two photos or more"
        )
    enough = counts >= least
    if np.count_nonzero(enough) < 2:
        raise DataError(f"training: {np.count_nonzero(enough)} people have data.min_photos = {least} photos; lower it")
    kept = enough[label]
    return real[kept], np.unique(label[kept], return_inverse=True)[1].astype(np.int64)


class PairTask(_Loading):
    """Fine-tuning: are both photos real and of one person?

    Args:
        cache: of the crops.
        train: numbers of the crops to train on.
        config: the training.

    Raises:
        DataError: a kind of pair cannot be made.
        UsageError: an unknown method of making deepfakes.
    """

    unit = "pairs"

    def __init__(self, cache: CropCache, train: Indices, config: TrainConfig) -> None:
        super().__init__(cache, config)
        crops = cache.crops
        self.classes = len(crops.persons)
        self.crops = train
        samples = [crops.samples[index] for index in train.tolist()]
        self._sampler = PairSampler(samples, ratios=config.data.ratios, seed=config.seed, turns=config.data.turns)
        self._real = train[~crops.fake[train]]
        self._count = config.data.pairs_per_epoch or min(len(self._real), self._sampler.most)
        self._maker: FakeMaker | None = None
        if config.data.made:
            chosen = config.data.methods or MADE_METHODS
            if unknown := [name for name in chosen if name not in ALL_METHODS]:
                raise UsageError(f"data.methods: '{unknown[0]}' is unknown; known are {', '.join(ALL_METHODS)}")
            methods = [name for name in chosen if name not in config.data.leave_out]
            self._maker = FakeMaker(crops.template, methods=methods)
        self._own: dict[int, list[int]] = {}  # of each person, the places in `_real`, rising
        for place, person in enumerate(crops.person[self._real].tolist()):
            self._own.setdefault(person, []).append(place)
        # A fake has a label of its own: no two photos of it are the same person.
        self._label = np.where(crops.fake, len(crops.persons) + np.arange(len(crops)), crops.person).astype(np.int64)

    def plan(self, epoch: int, *, processes: int = 1, process: int = 0) -> Sequence[Batch]:
        """See `Task.plan`."""
        pairs = self._sampler.draw(self._count, epoch=epoch)
        a, b = self.crops[pairs.a], self.crops[pairs.b]
        cut = batches(len(pairs), size=self._config.loop.batch_size, processes=processes, process=process)
        return [Batch(epoch, places, np.r_[a[places], b[places]], pairs.label[places]) for places in cut]

    def load(self, batch: Batch) -> Arrays:
        """``chips``, ``labels``, ``same``, ``fake``, and ``collected``: in a pair whose deepfake is not made anew."""
        assert batch.same is not None
        fake = self._cache.crops.fake[batch.crops]
        made = self._made(batch, fake)
        pairs = fake[len(batch.places) :].copy()
        pairs[[slot for slot in made if slot < len(pairs)]] = False
        labels = self._label[batch.crops]
        chips = self._chips(batch, made)
        return {"chips": chips, "labels": labels, "same": batch.same, "fake": fake, "collected": np.r_[pairs, pairs]}

    def _made(self, batch: Batch, fake: NDArray[np.bool_]) -> dict[int, NDArray[np.uint8]]:
        """Both crops of the pairs whose fake is made anew, by their slots."""
        crops, pairs = self._cache.crops, len(batch.places)
        made: dict[int, NDArray[np.uint8]] = {}
        if self._maker is None:
            return made
        for item in np.flatnonzero(fake[pairs:]).tolist():
            rng = generator(self._config.seed, _MADE, batch.epoch, int(batch.places[item]))
            if rng.random() >= self._config.data.made:
                continue
            photo = int(batch.crops[item])
            own = self._own[int(crops.person[photo])]
            place = int(rng.integers(len(self._real) - len(own)))
            for taken in own:  # the place among all photos, from that among those of others
                place += taken <= place
            other = int(self._real[place])
            made[item], made[pairs + item] = self._maker.pair(self._cache[photo], self._cache[other], rng)
        return made
