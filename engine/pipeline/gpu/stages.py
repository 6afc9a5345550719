"""The stages of the GPU path: decode, detect, align, encode, and the copy back. Each takes a `Batch` and adds to it.

A file that the device cannot decode costs that file only: OpenCV tries it, and has the last word. Files of a kind that the device's
decoder does not read go to OpenCV at once. How many were decoded where is counted.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from faceembed.engine.detect.align import similarity_matrices
from faceembed.engine.detect.detections import Detections
from faceembed.engine.photos.decode import Photo
from faceembed.engine.photos.decode import decode as decode_on_host
from faceembed.engine.photos.failures import Failure
from faceembed.engine.photos.photo_file import PhotoFile
from faceembed.engine.pipeline.batch import Faces, Item, Read, faces_of
from faceembed.engine.pipeline.chips import Cutter
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.gpu.budget import Budget, needed
from faceembed.engine.pipeline.gpu.decoder import readable
from faceembed.engine.pipeline.gpu.interface import Array, Backend, DevicePhoto
from faceembed.engine.pipeline.sound import taken, without_embedding
from faceembed.engine.runtimes.unit import is_sound, to_unit
from faceembed.errors import PhotoError


@dataclasses.dataclass(eq=False)
class Batch:
    """Some neighbouring photos on their way."""

    tag: int
    """The run of photos that they belong to."""
    read: Read
    keep: bool = False
    """Whether chips are wanted on the host too, and the photos' sizes."""
    budget: Budget | None = None
    """What is to be told when the device's memory is free again."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    items: list[Item] = dataclasses.field(default_factory=list)
    """Those that were decoded."""
    places: list[int] = dataclasses.field(default_factory=list)
    """Where they are among those read."""
    photos: list[DevicePhoto] = dataclasses.field(default_factory=list)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    found: Detections = dataclasses.field(default_factory=Detections.none)
    chips: Array = None
    raw: Array = None
    pictures: NDArray[np.uint8] | None = None
    """The chips on the host; None without a face."""
    sizes: NDArray[np.int32] | None = None
    """(P, 2) upright width and height of all photos of the batch; 0 where it could not be decoded."""
    faces: Faces | None = None
    embeddings: NDArray[np.float32] | None = None
    norms: NDArray[np.float32] | None = None
    mark: Any = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.needed = sum(map(needed, self.read))
        """Bytes on the device, estimated."""

    @property
    def files(self) -> list[PhotoFile]:
        """All photos of the batch."""
        return [entry.photo for entry in self.read]

    def drop(self) -> None:
        """Let go of what lies on the device, and say so. Harmless when repeated."""
        self.photos, self.chips, self.raw, self.mark = [], None, None, None
        if self.budget is not None:
            budget, self.budget = self.budget, None
            budget.free(self.needed)


class Stages:
    """The work itself.

    Args:
        backend: the device.
        cutter: finds faces (its detector works on the same backend) and knows the settings.
        encoder: with its session.
    """

    def __init__(self, backend: Backend, cutter: Cutter, encoder: Encoder) -> None:
        self.backend = backend
        self.cutter = cutter
        self.encoder = encoder
        self.decoded_by: collections.Counter[str] = collections.Counter()
        """Photos decoded by ``device`` and ``host``, the latter with the reason: ``host: format`` or ``host: refused``; and those ``given`` decoded."""

    def all(self) -> dict[str, Callable[[Batch], None]]:
        """By name, in their order."""
        stages = {"decode": self.decode, "detect": self.detect, "align": self.align, "encode": self.encode}
        return {name: self._timed(name, stage) for name, stage in stages.items()} | {
            "copy": self._timed("copy", self.copy)
        }

    def _timed(self, name: str, stage: Callable[[Batch], None]) -> Callable[[Batch], None]:
        def run(batch: Batch) -> None:
            started = time.perf_counter()
            if batch.mark is not None:
                self.backend.follow(batch.mark)
            try:
                stage(batch)
            except BaseException:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self.backend.wait()  # before the batch lets go of memory that the device may still read
                raise
            if name != "copy":
                batch.mark = self.backend.finish()
            batch.seconds[name] = time.perf_counter() - started

        return run

    def decode(self, batch: Batch) -> None:
        """Files to photos on the device."""
        batch.failures += [entry for entry in batch.read if isinstance(entry, Failure)]
        wanted = {place: entry for place, entry in enumerate(batch.read) if isinstance(entry, Item)}
        given = {place: item.pixels for place, item in wanted.items() if item.pixels is not None}
        direct = [
            place
            for place, item in wanted.items()
            if place not in given and (item.ordinary or readable(item.data, item.header))
        ]
        pixels: dict[int, Array] = dict(
            zip(direct, self.backend.decode([wanted[place].data for place in direct]), strict=True)
        )
        refused = {place for place, array in pixels.items() if array is None}
        self.decoded_by["device"] += len(pixels) - len(refused)
        pixels |= {place: self.backend.upload(np.ascontiguousarray(array)) for place, array in given.items()}
        if given:
            self.decoded_by["given"] += len(given)
        for place, item in wanted.items():
            if place in pixels and place not in refused:
                continue
            try:
                photo = decode_on_host(item.data, max_pixels=self.cutter.settings.max_pixels)
                self.cutter.note_damage([item], [photo])
                pixels[place] = self.backend.upload(photo.pixels)
                self.decoded_by["host: refused" if place in refused else "host: format"] += 1
            except PhotoError as error:
                pixels.pop(place, None)
                batch.failures.append(Failure(item.photo, error.stage, error.reason))
        batch.places = [place for place in wanted if place in pixels]
        batch.items = [wanted[place] for place in batch.places]
        batch.photos = [DevicePhoto.of(pixels[place]) for place in batch.places]

    def detect(self, batch: Batch) -> None:
        """Photos to faces; their few numbers come to the host."""
        batch.found, without = self.cutter.finder.find(cast("list[Photo]", batch.photos))
        batch.failures += [Failure(batch.items[index].photo, "detect", reason) for index, reason in without.items()]

    def align(self, batch: Batch) -> None:
        """Faces to chips on the device."""
        faces, spec = batch.found, self.encoder.model.spec
        matrices = similarity_matrices(faces.landmarks, spec)
        sound = np.isfinite(matrices).all(axis=(1, 2))
        for index in sorted(set(faces.photo[~sound].tolist()) - set(faces.photo[sound].tolist())):
            reason = "the five landmarks do not span a face"
            batch.failures.append(Failure(batch.items[index].photo, "align", reason))
        batch.found = faces.take(np.asarray(sound, np.bool_))
        if len(batch.found):
            pixels = [photo.pixels for photo in batch.photos]
            owner = np.ascontiguousarray(batch.found.photo)
            matrices = np.ascontiguousarray(matrices[sound])
            batch.chips = self.backend.warp(pixels, owner, matrices, self.encoder.session, spec, spec.input_size)
            if batch.keep:
                batch.pictures = self.backend.pictures(pixels, owner, matrices, spec, spec.input_size)

    def encode(self, batch: Batch) -> None:
        """Chips to raw embeddings on the device."""
        if batch.chips is not None:
            (batch.raw,) = self.backend.run(self.encoder.session, batch.chips)[:1]

    def copy(self, batch: Batch) -> None:
        """Raw embeddings to the host, where they get unit length; the device's memory is free after this."""
        dimension = self.encoder.model.spec.dimension
        raw = np.zeros((0, dimension), np.float32) if batch.raw is None else self.backend.host(batch.raw)
        raw = raw.reshape(-1, dimension)
        embeddings, norms = to_unit(raw)
        sound = is_sound(embeddings)
        batch.embeddings, batch.norms = embeddings[sound], norms[sound]
        faces = faces_of(cast("list[Photo]", batch.photos), batch.found, np.array(batch.places, np.int32))
        batch.failures += without_embedding(batch.files, faces, sound)
        batch.faces = taken(faces, sound)
        if batch.keep:
            batch.sizes = np.zeros((len(batch.read), 2), np.int32)
            for place, photo in zip(batch.places, batch.photos, strict=True):
                batch.sizes[place] = photo.width, photo.height
            height, width = self.encoder.model.spec.input_size
            none = np.zeros((0, height, width, 3), np.uint8)
            batch.pictures = none if batch.pictures is None else batch.pictures[sound]
        batch.failures.sort(key=lambda failure: failure.photo.path)
        batch.drop()
