"""From listed photos to batches of files in memory, each with what its header says.

    for group in intake.groups(photos):       # neighbouring photos that are read together
        read = [intake.read_one(photo) for photo in group]
        for part in split(read):              # as many as may lie decoded in memory at a time
            photos, items, failures = decode_all(part)

Batches depend on the list of photos and on their headers alone, so a run gives the same bits every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import cast

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.native import _native
from faceembed.engine.photos.decode import Photo, check_size, decode, reduction_for
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.header import Header, upright
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.photos.probe import probe
from faceembed.engine.photos.reading import read_file
from faceembed.engine.photos.sidecar import ENDING, with_sidecar
from faceembed.engine.pipeline.batch import Item
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.errors import PhotoError

BATCH_BYTES = 192 << 20  # of decoded pixels in one batch; a single larger photo makes a batch of its own
READ_BYTES = 64 << 20  # of encoded files read at a time
READERS = 4  # threads that read
RUN = 8  # files that a thread takes at a time: one at a time, handing over costs as much as reading
Boundary = int | frozenset[int]
"""Across which photos no batch reaches: every multiple of a number (0: none), or those before which one ends."""


class Intake:
    """Reads photos as the settings say.

    Args:
        settings: what is too large, how many make a batch, how small the faces are that are wanted.
        reducing: whether large photos may be decoded at a part of their size. Crops are taken whole.
        on_card: whether what is read goes to a card, in larger batches.
    """

    def __init__(self, settings: EmbedSettings, *, reducing: bool, on_card: bool = False) -> None:
        self.settings = settings
        self.reducing = reducing
        self.batch = settings.photos_a_batch(on_card=on_card)

    def groups(self, photos: Sequence[PhotoFile], *, boundary: Boundary = 0) -> Iterator[list[PhotoFile]]:
        """The runs of photos that are read together; none reaches across a ``boundary``."""
        group: list[PhotoFile] = []
        size = 0
        for number, photo in enumerate(photos):
            full = len(group) >= self.batch or size + photo.size > READ_BYTES
            ends = number in boundary if isinstance(boundary, frozenset) else boundary and number % boundary == 0
            if group and (full or ends):
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
            return self.item(photo, with_sidecar(data, photo.path))
        except PhotoError as error:
            return Failure(photo, error.stage, error.reason)

    def read_run(self, photos: Sequence[PhotoFile], readers: Executor | None = None) -> list[Item | Failure]:
        """`read_one` of each, ordinary JPEGs in native code: the same bytes, digests and headers in a fifth of the processor's time.

        Args:
            photos: what to read.
            readers: threads for what is left to Python, and as many native ones; None: one thread alone.
        """
        read = self._ordinary(photos, READERS if readers else 1)
        left = [place for place, entry in enumerate(read) if entry is None]
        runs = [left[start : start + RUN] for start in range(0, len(left), RUN)]

        def slowly(run: Sequence[int]) -> list[Item | Failure]:
            return [self.read_one(photos[place]) for place in run]

        for run, entries in zip(runs, (readers.map if readers else map)(slowly, runs), strict=True):
            for place, entry in zip(run, entries, strict=True):
                read[place] = entry
        return cast("list[Item | Failure]", read)

    def _ordinary(self, photos: Sequence[PhotoFile], threads: int) -> list[Item | Failure | None]:
        """Photos that `_native` reads; None for each that it leaves to `read_one`."""
        sizes = [photo.size if photo.size <= self.settings.max_bytes else 0 for photo in photos]
        read: list[Item | Failure | None] = []
        before, header = (0, 0, 0, 0), None
        for photo, found in zip(
            photos, _native.read_photos([photo.path for photo in photos], sizes, ENDING, threads), strict=True
        ):
            if found is None:
                read.append(None)
                continue
            data, digest, numbers, whole = found
            if header is None or numbers != before:  # neighbours are of one camera most often
                width, height, orientation, colours = before = numbers
                header = upright("JPEG", width, height, orientation, colours=colours)
            photo = PhotoFile(photo.path, photo.size, photo.mtime_ns, photo.ctime_ns, digest)
            try:
                check_size(header, self.settings.max_pixels)
            except PhotoError as error:
                read.append(Failure(photo, error.stage, error.reason))
            else:
                read.append(Item(photo, data, header, self._reduction(header), ordinary=whole))
        return read

    def decoded(self, photo: PhotoFile, pixels: NDArray[np.uint8]) -> Item:
        """A photo that is decoded already: uint8 RGB (H, W, 3), upright.

        Raises:
            PhotoError: too large.
        """
        header = Header("array", pixels.shape[1], pixels.shape[0])
        check_size(header, self.settings.max_pixels)
        return Item(photo, b"", header, 1, pixels)

    def item(self, photo: PhotoFile, data: bytes) -> Item:
        """A photo whose bytes are here already.

        Raises:
            PhotoError: not a picture, or too large.
        """
        header = probe(data)
        check_size(header, self.settings.max_pixels)
        return Item(photo, data, header, self._reduction(header))

    def _reduction(self, header: Header) -> int:
        every = self.settings.faces == "all"
        return reduction_for(header, self.settings.min_face, every=every) if self.reducing else 1


def split(read: Sequence[Item | Failure], most: int = 0) -> Iterator[list[Item | Failure]]:
    """Cut what was read where its decoded pixels would exceed `BATCH_BYTES`, or fewer bytes."""
    most = min(most or BATCH_BYTES, BATCH_BYTES)
    part: list[Item | Failure] = []
    size = 0
    for entry in read:
        more = entry.decoded_bytes if isinstance(entry, Item) else 0
        if part and size + more > most:
            yield part
            part, size = [], 0
        part.append(entry)
        size += more
    yield part


def decode_all(read: Iterable[Item | Failure]) -> tuple[list[Photo], list[Item], list[Failure]]:
    """Photos decoded, what each of them was decoded from, and the failures."""
    photos: list[Photo] = []
    items: list[Item] = []
    failures: list[Failure] = []
    for entry in read:
        if isinstance(entry, Failure):
            failures.append(entry)
            continue
        try:
            photos.append(_decoded(entry))
            items.append(entry)
        except PhotoError as error:
            failures.append(Failure(entry.photo, error.stage, error.reason))
    return photos, items, failures


def _decoded(item: Item) -> Photo:
    if item.pixels is not None:
        return Photo(item.pixels, item.header.width, item.header.height)
    return decode(item.data, reduction=item.reduction, max_pixels=item.header.pixels, header=item.header)
