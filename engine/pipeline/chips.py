"""From photo files to chips, the aligned faces that an encoder takes: batch by batch, in the order of the files.

    read ahead (a few threads) ─► decode ─► detect ─► align
       intake                     └── one batch a core, side_by_side ──┘  finder

One batch more than cores is under way, so that a core has work while a thread waits for Python's lock; a server does better without (419
against 471 photos/s of 32 clients).

What is not known here: the encoder's network. A chip needs its template and input size alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.parity.detectors import admit, admitted
from faceembed.engine.parity.drawn import DRAWN_FACE, drawn_photos
from faceembed.engine.photos.decode import Photo
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile, printable
from faceembed.engine.pipeline.batch import Cut, Item, Read, faces_of
from faceembed.engine.pipeline.finder import Finder
from faceembed.engine.pipeline.intake import Boundary, Intake, decode_all, split
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.shortage import in_halves
from faceembed.engine.pipeline.side_by_side import side_by_side, without_memory

T = TypeVar("T")


class Cutter:
    """The aligner and an encoder's template, ready to cut faces out of any number of photos.

    Args:
        settings: what to look for and how to batch.
        detector: finds faces; None where photos are aligned crops already (``--aligner none``). It must have passed its
            parity gate before `cut`.
        spec: the encoder that the chips are for.
        workers: cores to compute on.
    """

    def __init__(self, settings: EmbedSettings, detector: Detector | None, spec: ModelSpec, *, workers: int) -> None:
        self.settings = settings
        self.detector = detector
        self.spec = spec
        self.workers = workers
        self.intake = Intake(settings, reducing=detector is not None)
        self.finder = Finder(settings, detector, spec)
        self.damaged: dict[str, str] = {}
        """By path, what a library said of damage that it got over."""

    def cut(self, photos: Sequence[PhotoFile], *, boundary: Boundary = 0) -> Generator[Cut, None, None]:
        """Cut the faces out of photos; arguments and errors as for `run`."""
        return self.run(photos, self.cut_batch, boundary=boundary)

    def run(
        self, photos: Sequence[PhotoFile], process: Callable[[Read, float], T], *, boundary: Boundary = 0
    ) -> Generator[T, None, None]:
        """Read photos in batches, and process several batches side by side.

        Args:
            photos: what to read.
            process: called in a thread with a batch and the seconds spent reading it.
            boundary: no batch reaches across it.

        Yields:
            What ``process`` gave, in the order of ``photos``; more than once a batch where memory was short. To be closed by whoever
            may stop before the end, because of an interrupt or an error of his own: threads compute until then.

        Raises:
            FaceEmbedError: the set-up is bad; a bad photo is a failure in its batch.
        """
        groups = self.intake.groups(photos, boundary=boundary)
        return side_by_side(
            groups, self.intake.read_one, process, at_once=self.batches_at_once, decoded=self.settings.spending.decoded
        )

    @property
    def batches_at_once(self) -> int:
        """How many batches `run` processes side by side."""
        return self.workers + self.settings.spending.spare

    def cut_batch(self, read: Read, read_seconds: float) -> Cut:
        """Decode, detect and align one batch."""
        seconds = {"read": read_seconds}
        clock = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            seconds[stage], clock = now - clock, now

        decoded, items, failures = decode_all(read)
        self.note_damage(items, decoded)
        lap("decode")
        faces, without = self.finder.find(decoded)
        failures += [Failure(items[index].photo, "detect", reason) for index, reason in without.items()]
        lap("detect")
        faces, chips, flat = self.finder.align(decoded, items, faces)
        failures += [Failure(items[index].photo, "align", "the five landmarks do not span a face") for index in flat]
        lap("align")
        position = {id(entry): index for index, entry in enumerate(read)}
        places = np.array([position[id(item)] for item in items], np.int32)
        failures.sort(key=lambda failure: failure.photo.path)
        photos = [entry.photo for entry in read]
        sizes = np.zeros((len(read), 2), np.int32)
        sizes[places] = [(photo.width, photo.height) for photo in decoded] or np.zeros((0, 2), np.int32)
        return Cut(photos, faces_of(decoded, faces, places), chips, sizes, failures, seconds)

    def note_damage(self, items: Sequence[Item], decoded: Sequence[Photo]) -> None:
        """Remember what was said of photos; may be called from several threads."""
        self.damaged.update(
            {item.photo.path: photo.said for item, photo in zip(items, decoded, strict=True) if photo.said}
        )

    def remarks(self) -> list[str]:
        """A line about damaged photos that were taken as far as they could be read."""
        if not self.damaged:
            return []
        path, said = min(self.damaged.items())
        which = f"{printable(path)} ({said})"
        if len(self.damaged) == 1:
            return [f"1 photo is damaged, and was taken as decoded: {which}"]
        return [f"{len(self.damaged):,} photos are damaged, and were taken as decoded: the first, {which}"]

    @property
    def admitted(self) -> bool:
        """Whether the aligner may run at its precision."""
        return self.detector is None or admitted(self.detector)

    def admit(self, photos: Sequence[PhotoFile], wanted: int) -> list[str]:
        """Pass the aligner's parity gate, if it is still to be passed; arguments and errors as for `Pipeline.admit`."""
        return [] if self.admitted else self.admit_on(*self.sample(photos, wanted))

    def admit_on(self, decoded: Sequence[Photo], chips: NDArray[np.uint8]) -> list[str]:
        """The same on the photos and chips of a `sample`; on drawn faces where it found none."""
        if self.detector is None or admitted(self.detector):
            return []
        if len(chips):
            pixels, what = [photo.pixels for photo in decoded], "faces"
            smallest, only_largest = self.finder.smallest(decoded), self.finder.only_largest
            found = admit(self.detector, pixels, smallest, only_largest=only_largest)
        else:
            pixels, what = drawn_photos(), "drawn faces"
            found = admit(self.detector, pixels, [DRAWN_FACE] * len(pixels), only_largest=True, remember=False)
        line = (
            f"parity of {self.detector.choice.precision} with fp32 in detection: {100 * found.found:.0f} % of {found.faces} {what}, "
            f"landmarks {100 * found.deviation:.1f} % of the eyes' distance apart"
        )
        return [line]

    def sample(self, photos: Sequence[PhotoFile], wanted: int) -> tuple[list[Photo], NDArray[np.uint8]]:
        """The first photos that are needed for so many chips, decoded, and these chips."""
        taken: list[Photo] = []
        parts = [np.zeros((0, *self.spec.input_size, 3), np.uint8)]
        for group in self.intake.groups(photos):
            for read in split([self.intake.read_one(photo) for photo in group], self.settings.spending.decoded):
                for decoded, chips in in_halves(self._sample_batch, read, instead=without_memory):
                    parts.append(chips)
                    taken += decoded
                if sum(map(len, parts)) >= wanted:
                    return taken, np.concatenate(parts)[:wanted]
        return taken, np.concatenate(parts)

    def _sample_batch(self, read: Read) -> tuple[list[Photo], NDArray[np.uint8]]:
        decoded, items, _ = decode_all(read)
        return decoded, self.finder.align(decoded, items, self.finder.find(decoded)[0])[1]

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        """Each stage as a function of one batch, from what the stage before gave to what the next takes (for `bench`)."""

        def decode_batch(read: Read) -> tuple[list[Photo], list[Item]]:
            return decode_all(read)[:2]

        def detect(given: tuple[list[Photo], list[Item]]) -> tuple[list[Photo], list[Item], Detections]:
            return (*given, self.finder.find(given[0])[0])

        def align(given: tuple[list[Photo], list[Item], Detections]) -> NDArray[np.uint8]:
            return self.finder.align(*given)[1]

        def read(batch: Sequence[PhotoFile]) -> list[Item | Failure]:
            return [self.intake.read_one(photo) for photo in batch]

        return {"read": read, "decode": decode_batch, "detect": detect, "align": align}
