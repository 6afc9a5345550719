"""The crops of a training: which there are, whose, who trains and who validates, and their pixels.

    crops = open_crops(config.data, spec)
    parts = divide(crops, config)                           # parts.train, parts.validate
    pixels = CropCache(crops, limit_mb=1024)[0]             # uint8 RGB (H, W, 3)

A crop is a number, its place in `Crops`; real ones come before fakes. Knows nothing of losses or networks.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from faceembed.cores import available_cores
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.photos.decode import decode
from faceembed.engine.photos.photo_file import printable
from faceembed.engine.photos.reading import read_file
from faceembed.errors import DataError, PhotoError
from faceembed.trainer.data.crops import CropSet, read_crops
from faceembed.trainer.data.people import people_in_pairs
from faceembed.trainer.data.samples import Sample
from faceembed.trainer.data.split import read_split, split_people
from faceembed.trainer.recipes.crops import Data
from faceembed.trainer.recipes.settings import TrainConfig

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]

_CHECKED_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Crops:
    """Crops of one size and template, from several sets."""

    samples: tuple[Sample, ...]
    photos: tuple[str, ...]
    """The photo each crop was cut from."""
    height: int
    width: int
    template: tuple[tuple[float, float], ...] = ()
    """Where the five landmarks lie in a crop, (x, y) in pixels, pixel centres at whole numbers."""
    extra: frozenset[str] = frozenset()
    """People who are all trained on."""
    alone: frozenset[str] = frozenset()
    """People of whom only photos by themselves validate."""

    def __len__(self) -> int:
        return len(self.samples)

    @functools.cached_property
    def fake(self) -> NDArray[np.bool_]:
        """``(n,)``: whether a crop is of a deepfake."""
        return np.fromiter((sample.fake for sample in self.samples), np.bool_, len(self))

    @functools.cached_property
    def persons(self) -> tuple[str, ...]:
        """Everybody of whom there is a crop, sorted."""
        return tuple(sorted({sample.person for sample in self.samples}))

    @functools.cached_property
    def person(self) -> Indices:
        """``(n,)``: place of the crop's person in `persons`."""
        places = {name: place for place, name in enumerate(self.persons)}
        return np.fromiter((places[sample.person] for sample in self.samples), np.int64, len(self))

    def subset(self, kept: Indices) -> Crops:
        """Some of the crops, in the order given."""
        return dataclasses.replace(
            self, samples=tuple(self.samples[i] for i in kept), photos=tuple(self.photos[i] for i in kept)
        )


@dataclasses.dataclass(frozen=True)
class Parts:
    """Numbers of the crops, by what they are for."""

    train: Indices
    """To train on, without the methods that are left out."""
    validate: Indices
    """To make validation pairs of."""
    alone: Indices
    """To validate by themselves: `data.validate_extra`."""


def open_crops(data: Data, spec: ModelSpec) -> Crops:
    """Every crop of the sets, without the people who are excluded.

    Raises:
        DataError: no set, a damaged one, one for another size or template than the network's, fakes among the real ones or
            the other way round, or nothing left.
    """
    if not data.crops:
        raise DataError("no crops to train on: give data.crops, a folder made by 'faceembed data align'")
    rows: list[tuple[Sample, str]] = []
    extra: set[str] = set()
    alone: set[str] = set()
    real = (data.crops, data.extra, data.unlabelled, data.validate_extra)
    for folders, fake in (*((given, False) for given in real), (data.fakes, True)):
        for folder in folders:
            crop_set = read_crops(folder)
            if folders is data.unlabelled:
                crop_set = _of_nobody(crop_set)
            _check_fits(crop_set, spec)
            wrong = sum(sample.fake is not fake for sample in crop_set.samples)
            if wrong:
                kind, key = ("deepfakes", "data.crops") if not fake else ("real photos", "data.fakes")
                raise DataError(
                    f"{printable(folder)} holds {wrong:,} {kind}, but was given as {key}; make sets of one kind"
                )
            if folders is data.extra or folders is data.unlabelled:
                extra |= {sample.person for sample in crop_set.samples}
            if folders is data.validate_extra:
                alone |= {sample.person for sample in crop_set.samples}
            rows += zip(crop_set.samples, crop_set.photos, strict=True)
    unwanted = _excluded(data.exclude)
    kept = [row for row in rows if row[0].person not in unwanted and row[0].other not in unwanted]
    if not kept:
        why = "all of their people are excluded" if rows else "they are empty"
        raise DataError(f"no crops to train on in {', '.join(map(printable, data.crops))}: {why}")
    height, width = spec.input_size
    samples, photos = (tuple(column) for column in zip(*kept, strict=True))
    return Crops(samples, photos, height, width, spec.template, frozenset(extra), frozenset(alone))


def _of_nobody(crop_set: CropSet) -> CropSet:
    """The same crops, each of a person of its own, whom no folder can be called after."""
    return dataclasses.replace(
        crop_set, rows=tuple(dataclasses.replace(row, person=f"/{crop_set.folder}/{row.crop}") for row in crop_set.rows)
    )


def _check_fits(crop_set: CropSet, spec: ModelSpec) -> None:
    size = (crop_set.height, crop_set.width)
    if size != spec.input_size:
        raise DataError(
            f"{printable(crop_set.folder)} holds crops of {size[1]}x{size[0]} (made for {crop_set.info.encoder}), but "
            f"{spec.name} takes {spec.input_size[1]}x{spec.input_size[0]}; align again with --encoder {spec.name}"
        )
    if not np.allclose(crop_set.template, spec.template, atol=0.01):
        raise DataError(
            f"{printable(crop_set.folder)} was cut with another template (for {crop_set.info.encoder}) than {spec.name} "
            f"takes: its left eye lies at {crop_set.template[0]}, not at {spec.template[0]}; align again with "
            f"--encoder {spec.name}"
        )


def _excluded(names: Sequence[str]) -> frozenset[str]:
    people: set[str] = set()
    for name in names:
        people |= people_in_pairs(name) if os.path.isfile(name) else {name}
    return frozenset(people)


def divide(crops: Crops, config: TrainConfig) -> Parts:
    """Who trains and who validates; both people of a fake are on one side, else it is on neither.

    Raises:
        DataError: a side has nobody, or the split does not fit the crops.
    """
    real = sorted({sample.person for sample in crops.samples if not sample.fake} - crops.extra - crops.alone)
    if len(real) < 2:
        raise DataError(f"the crops show {len(real)} person; training needs at least two")
    if config.data.split:
        split = read_split(config.data.split)
        train, validate = set(split["train"]), set(split["validate"])
        if both := sorted(crops.extra & (validate | set(split["test"]))):
            raise DataError(
                f"{len(both)} people of data.extra are to validate or to test by {config.data.split}, the first is "
                f"'{printable(both[0])}'; they cannot be trained on"
            )
    else:
        count = config.validation.people or max(2, len(real) // 10)
        if len(real) < count + 2:
            raise DataError(
                f"the crops show {len(real)} people; {count} to validate leave fewer than two to train: give more people, "
                "or a split (data.split)"
            )
        parts = split_people(real, train=len(real) - count, validate=count, test=0, seed=config.seed)
        train, validate = set(parts["train"]), set(parts["validate"])
    for part, people in (("train", train), ("validate", validate)):
        if not people & set(real):
            raise DataError(
                f"{config.data.split}: none of its {part} people is in the crops; is it the split of other data?"
            )
    train |= crops.extra
    if both := sorted(crops.alone & train):
        raise DataError(
            f"{len(both)} people of data.validate_extra are trained on, the first is '{printable(both[0])}'; give photos of others"
        )
    left_out = set(config.data.leave_out)
    known = {sample.method for sample in crops.samples if sample.fake}
    if unknown := sorted(left_out - known):
        raise DataError(
            f"data.leave_out names '{unknown[0]}', but the fakes are of {', '.join(sorted(known)) or 'no'} method"
        )
    chosen = [
        [i for i, sample in enumerate(crops.samples) if _belongs(sample, people) and sample.method not in skipped]
        for people, skipped in ((train, left_out), (validate, set()), (crops.alone, known))
    ]
    return Parts(*(np.array(numbers, np.int64) for numbers in chosen))


def _belongs(sample: Sample, people: AbstractSet[str]) -> bool:
    return sample.person in people and (not sample.other or sample.other in people)


class CropCache:
    """The pixels of crops; decoded once where memory allows. Safe for many threads.

    Args:
        crops: whose numbers it takes.
        limit_mb: memory for decoded crops.
    """

    def __init__(self, crops: Crops, *, limit_mb: int) -> None:
        self.crops = crops
        self._room = limit_mb * 2**20 // (3 * crops.height * crops.width)
        self._kept: dict[int, Pixels] = {}
        self._lock = threading.Lock()

    def __getitem__(self, index: int) -> Pixels:
        """uint8 RGB (H, W, 3); not to be written to.

        Raises:
            DataError: the crop cannot be read; the message names it.
        """
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        try:
            pixels = self.read(index)
        except PhotoError as error:
            raise DataError(
                f"{printable(self.crops.samples[index].path)} cannot be used ({error}); mend or remove it, align again, or "
                "set data.check = true to leave such crops out"
            ) from error
        if len(self._kept) < self._room:
            with self._lock:
                self._kept[index] = pixels
        return pixels

    def read(self, index: int) -> Pixels:
        """The same, from the file.

        Raises:
            PhotoError: it is missing, damaged or of another size.
        """
        pixels = decode(read_file(self.crops.samples[index].path)).pixels
        if pixels.shape[:2] != (self.crops.height, self.crops.width):
            height, width = pixels.shape[:2]
            raise PhotoError("decode", f"{width}x{height}, not {self.crops.width}x{self.crops.height}")
        pixels.flags.writeable = False
        return pixels

    def unreadable(
        self, indices: Indices, *, threads: int, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[int, str]:
        """Decode every crop once: which cannot be read, and why. What can fills the cache.

        Args:
            indices: which crops.
            threads: how many decode.
            progress: given how many were looked at and how many there are.
        """

        def look(index: int) -> str:
            try:
                pixels = self.read(index)
            except PhotoError as error:
                return str(error)
            if len(self._kept) < self._room:
                with self._lock:
                    self._kept[index] = pixels
            return ""

        reasons: dict[int, str] = {}
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(indices), _CHECKED_AT_ONCE):
                part = [int(index) for index in indices[start : start + _CHECKED_AT_ONCE]]
                reasons |= {index: why for index, why in zip(part, pool.map(look, part), strict=True) if why}
                progress(start + len(part), len(indices))
        return reasons


def loader_threads(data: Data) -> int:
    """How many threads decode and augment; OpenCV's own are turned off, as each crop is the work of one thread."""
    cv2.setNumThreads(1)
    return data.threads or available_cores()
