"""From photo files to chips, the aligned faces that an encoder takes: batch by batch, in the order of the files.

    read ahead (a few threads) ─► decode ─► detect ─► align
                                  └── one batch a core, side by side ──┘

A batch is a run of neighbouring photos, bounded in count and in bytes, and one thread takes it all the way: cores never
wait for each other inside a batch, and reading overlaps with computing. One batch more than cores is under way, so that a core
has work while a thread waits for Python's lock. What is in flight is bounded, so memory does not grow with the number of
photos. Batches depend on the list of photos alone, so a run gives the same bits every time.

What is not known here: the encoder's network. A chip needs its template and input size alone.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.align import similarity_matrices, warp_chips
from faceembed.engine.detect.detections import Detections
from faceembed.engine.detect.interface import Detector
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.parity.detectors import admit, admitted
from faceembed.engine.parity.drawn import DRAWN_FACE, drawn_photos
from faceembed.engine.photos.decode import Photo, check_size, decode, min_face_of, reduction_for
from faceembed.engine.photos.listing import PhotoFile
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.reading import read_file
from faceembed.engine.photos.rows import Failure
from faceembed.engine.pipeline.batch import Cut, Item, Read, faces_of, whole_crops
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.shortage import REASON, in_halves
from faceembed.errors import PhotoError

BATCH_BYTES = 192 << 20  # of decoded pixels in one batch; a single larger photo makes a batch of its own
READ_BYTES = 64 << 20  # of encoded files read at a time
READERS = 4
SPARE = 1  # batches under way in `Cutter.run` beyond one a core; a server does better without (419 against 471 photos/s of 32 clients)
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

    def cut(self, photos: Sequence[PhotoFile], *, boundary: int = 0) -> Iterator[Cut]:
        """Cut the faces out of photos; arguments and errors as for `run`."""
        return self.run(photos, self.cut_batch, boundary=boundary)

    def run(
        self, photos: Sequence[PhotoFile], process: Callable[[Read, float], T], *, boundary: int = 0
    ) -> Iterator[T]:
        """Read photos in batches, and process several batches side by side.

        Args:
            photos: what to read.
            process: called in a thread with a batch and the seconds spent reading it.
            boundary: no batch reaches across a multiple of this many photos; 0 for none.

        Yields:
            What ``process`` gave, in the order of ``photos``; more than once a batch where memory was short.

        Raises:
            FaceEmbedError: the set-up is bad; a bad photo is a failure in its batch.
        """
        pending: collections.deque[concurrent.futures.Future[list[T]]] = collections.deque()
        readers = concurrent.futures.ThreadPoolExecutor(READERS, "faceembed-read")
        computing = concurrent.futures.ThreadPoolExecutor(self.batches_at_once, "faceembed-compute")
        try:
            for group in self.groups(photos, boundary=boundary):
                started = time.perf_counter()
                read = list(readers.map(self.read_one, group))
                waited = time.perf_counter() - started
                each = functools.partial(_sharing, process, waited / len(read))
                for part in _split(read):
                    pending.append(computing.submit(in_halves, each, part, instead=without_memory))
                while len(pending) > self.batches_at_once + 1:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:  # also when the consumer stops early
            readers.shutdown(wait=True, cancel_futures=True)
            computing.shutdown(wait=True, cancel_futures=True)

    @property
    def batches_at_once(self) -> int:
        """How many batches `run` processes side by side."""
        return self.workers + SPARE

    def cut_batch(self, read: Read, read_seconds: float) -> Cut:
        """Decode, detect and align one batch."""
        seconds = {"read": read_seconds}
        clock = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            seconds[stage], clock = now - clock, now

        decoded, items, failures = _decode_all(read)
        lap("decode")
        faces, without = self.find(decoded)
        failures += [Failure(items[index].photo, "detect", reason) for index, reason in without.items()]
        lap("detect")
        faces, chips, flat = self._align(decoded, items, faces)
        failures += [Failure(items[index].photo, "align", "the five landmarks do not span a face") for index in flat]
        lap("align")
        position = {id(entry): index for index, entry in enumerate(read)}
        places = np.array([position[id(item)] for item in items], np.int32)
        failures.sort(key=lambda failure: failure.photo.path)
        photos = [entry.photo for entry in read]
        sizes = np.zeros((len(read), 2), np.int32)
        sizes[places] = [(photo.width, photo.height) for photo in decoded] or np.zeros((0, 2), np.int32)
        return Cut(photos, faces_of(decoded, faces, places), chips, sizes, failures, seconds)

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
            found = admit(self.detector, pixels, self._smallest(decoded), only_largest=self._only_largest)
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
        for group in self.groups(photos):
            for read in _split([self.read_one(photo) for photo in group]):
                for decoded, chips in in_halves(self._sample_batch, read, instead=without_memory):
                    parts.append(chips)
                    taken += decoded
                if sum(map(len, parts)) >= wanted:
                    return taken, np.concatenate(parts)[:wanted]
        return taken, np.concatenate(parts)

    def _sample_batch(self, read: Read) -> tuple[list[Photo], NDArray[np.uint8]]:
        decoded, items, _ = _decode_all(read)
        return decoded, self._align(decoded, items, self.find(decoded)[0])[1]

    def stages(self) -> dict[str, Callable[[Any], Any]]:
        """Each stage as a function of one batch, from what the stage before gave to what the next takes (for `bench`)."""

        def decode_batch(read: Read) -> tuple[list[Photo], list[Item]]:
            return _decode_all(read)[:2]

        def detect(given: tuple[list[Photo], list[Item]]) -> tuple[list[Photo], list[Item], Detections]:
            return (*given, self.find(given[0])[0])

        def align(given: tuple[list[Photo], list[Item], Detections]) -> NDArray[np.uint8]:
            return self._align(*given)[1]

        def read(batch: Sequence[PhotoFile]) -> list[Item | Failure]:
            return [self.read_one(photo) for photo in batch]

        return {"read": read, "decode": decode_batch, "detect": detect, "align": align}

    def groups(self, photos: Sequence[PhotoFile], *, boundary: int = 0) -> Iterator[list[PhotoFile]]:
        """The runs of photos that are read together."""
        group: list[PhotoFile] = []
        size = 0
        for number, photo in enumerate(photos):
            full = len(group) >= self.settings.batch_size or size + photo.size > READ_BYTES
            if group and (full or (boundary and number % boundary == 0)):
                yield group
                group, size = [], 0
            group.append(photo)
            size += photo.size
        if group:
            yield group

    def read_one(self, photo: PhotoFile) -> Item | Failure:
        """A photo's file in memory, or why it cannot be there."""
        try:
            data = read_file(photo.path, max_bytes=self.settings.max_bytes)
            photo = photo.holding(data)
            return self.item(photo, data)
        except PhotoError as error:
            return Failure(photo, error.stage, error.reason)

    def item(self, photo: PhotoFile, data: bytes) -> Item:
        """A photo whose bytes are here already, as `cut_batch` takes it.

        Raises:
            PhotoError: not a picture, or too large.
        """
        header = probe(data)
        check_size(header, self.settings.max_pixels)
        detecting = self.detector is not None
        return Item(photo, data, header, reduction_for(header, self.settings.min_face) if detecting else 1)

    @property
    def _only_largest(self) -> bool:
        return self.settings.faces == "largest"

    def _smallest(self, photos: Sequence[Photo]) -> list[float]:
        """The smallest face looked for in each photo, in its decoded pixels."""
        return [min_face_of(photo.width, photo.height, self.settings.min_face) / photo.reduction for photo in photos]

    def find(self, photos: Sequence[Photo]) -> tuple[Detections, dict[int, str]]:
        """Faces, largest first in each photo, and the reason for each photo without one."""
        if not photos:
            return Detections.none(), {}
        if self.detector is None:
            return whole_crops(photos)
        smallest = self._smallest(photos)
        least = self.detector.min_score
        faces = self.detector.detect([photo.pixels for photo in photos], smallest, only_largest=self._only_largest)
        faces = faces.take(np.lexsort((-faces.sides(), faces.photo)))
        without = self._without(photos, faces, least)
        return faces.take(faces.scores >= np.float32(least)), without

    def _without(self, photos: Sequence[Photo], faces: Detections, least: float) -> dict[int, str]:
        """Why photos have no face, in pixels of the photo: nothing was found in them, or nothing that is sure."""
        reasons = {}
        for index, photo in enumerate(photos):
            mine = np.flatnonzero(faces.photo == index)
            best = mine[faces.scores[mine].argmax()] if len(mine) else None
            if best is None:
                side = min_face_of(photo.width, photo.height, self.settings.min_face)
                reasons[index] = f"no face of {side:.0f} px or more found"
            elif faces.scores[best] < np.float32(least):
                side, score = float(faces.sides()[best]) * photo.reduction, _below(float(faces.scores[best]), least)
                reasons[index] = (
                    f"no sure face: the best, of {side:.0f} px, scores {score}, below the limit of {least:g}"
                )
        return reasons

    def _align(
        self, photos: list[Photo], items: Sequence[Item], faces: Detections
    ) -> tuple[Detections, NDArray[np.uint8], list[int]]:
        """Chips of all faces; faces whose landmarks are degenerate are left out, and photos thus without one are named."""
        matrices = similarity_matrices(faces.landmarks, self.spec)
        sound = np.asarray(np.isfinite(matrices).all(axis=(1, 2)), np.bool_)
        if not sound.all():
            lost = set(faces.photo[~sound].tolist()) - set(faces.photo[sound].tolist())
            faces, matrices = faces.take(sound), matrices[sound]
        else:
            lost = set()
        pixels = [photo.pixels for photo in photos]
        for index in _too_coarse(photos, faces, matrices):
            mine = np.flatnonzero(faces.photo == index)
            finest = float(np.sqrt(np.abs(np.linalg.det(matrices[mine, :, :2]))).min())
            finer = self._reread(items[index], finest)
            faces, matrices[mine] = self._again(photos[index], finer, faces, mine)
            pixels[index] = finer.pixels
        return faces, warp_chips(pixels, faces.photo, matrices, self.spec), sorted(lost)

    def _reread(self, item: Item, scale: float) -> Photo:
        """Decode a photo again, finely enough that no chip is magnified from a reduced decode where more is in the file."""
        reduction = item.reduction
        while reduction > 1 and scale < 1:
            reduction, scale = reduction // 2, scale * 2
        return decode(item.data, reduction=reduction, max_pixels=self.settings.max_pixels)

    def _again(
        self, coarse: Photo, finer: Photo, faces: Detections, mine: NDArray[np.int64]
    ) -> tuple[Detections, NDArray[np.float64]]:
        """Look at some faces of a photo once more where it is decoded finer.

        Returns:
            All faces, landmarks of ``mine`` exact now; and the matrices of ``mine``, from chips to the finer pixels.
        """
        zoom = coarse.reduction / finer.reduction
        shift = (np.array(finer.offset) - np.array(coarse.offset)) / finer.reduction
        found = faces.take(mine)
        found = Detections(
            np.zeros(len(mine), np.int32),
            np.asarray(found.boxes * zoom + np.tile(shift, 2), np.float32),
            np.asarray(found.landmarks * zoom + shift, np.float32),
            found.scores,
        )
        if self.detector is not None:
            found = self.detector.sharpened(finer.pixels, found)
        landmarks = faces.landmarks.copy()
        landmarks[mine] = (found.landmarks - shift) / zoom
        everything = Detections(faces.photo, faces.boxes, landmarks, faces.scores)
        return everything, similarity_matrices(found.landmarks, self.spec)


def without_memory(entry: Item | Failure) -> Failure:
    """What stands for a photo whose batch does not fit into memory even by itself."""
    return Failure(entry.photo, "memory", REASON)


def _sharing(process: Callable[[Read, float], T], seconds: float, read: Read) -> T:
    """Process a batch of which each photo took so long to read."""
    return process(read, seconds * len(read))


def _below(score: float, least: float) -> str:
    """A score that is below the limit, with as many digits as show that it is."""
    return next(text for digits in range(2, 18) if float(text := f"{score:.{digits}f}") < least)


def _split(read: Sequence[Item | Failure]) -> Iterator[list[Item | Failure]]:
    """Cut what was read where its decoded pixels would exceed `BATCH_BYTES`."""
    part: list[Item | Failure] = []
    size = 0
    for entry in read:
        more = entry.decoded_bytes if isinstance(entry, Item) else 0
        if part and size + more > BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(entry)
        size += more
    yield part


def _decode_all(read: Iterable[Item | Failure]) -> tuple[list[Photo], list[Item], list[Failure]]:
    photos: list[Photo] = []
    items: list[Item] = []
    failures: list[Failure] = []
    for entry in read:
        if isinstance(entry, Failure):
            failures.append(entry)
            continue
        try:
            photos.append(decode(entry.data, reduction=entry.reduction, max_pixels=entry.header.pixels))
            items.append(entry)
        except PhotoError as error:
            failures.append(Failure(entry.photo, error.stage, error.reason))
    return photos, items, failures


def _too_coarse(photos: Sequence[Photo], faces: Detections, matrices: NDArray[np.float64]) -> list[int]:
    """Photos decoded at reduced size, of which a chip would be magnified."""
    magnified = np.abs(np.linalg.det(matrices[:, :, :2])) < 1
    return [int(index) for index in np.unique(faces.photo[magnified]) if photos[index].reduction > 1]
